/**
 * The deliveries that wait for the dispatcher, and which attempt each of them is.
 *
 * Holds: deliveries in the order of arrival, until the dispatcher has room; and what this process knows
 * of messages that were lost with a channel. Invariants: deliveries are pushed in the order of arrival.
 * A message that another process returned waits until the log of hand-overs was read. A message that
 * another process neither settled nor gave back is a suspect.
 * Cost: one array entry per delivery; one reading of the log for messages that another process lost.
 */
import type { Scheduler } from 'rivulet/adapter';
import type { HandOverLog, HandOverRecord } from './hand-over-log.ts';
import type { AmqpDelivery } from './in-flight.ts';

/** Messages lost with a channel that are remembered. */
const MAX_LOST = 10_000;
/** A reading that failed is repeated after this. */
const READ_AGAIN_MS = 300;

export interface IntakeSetup<Raw> {
  readonly queue: string;
  /** null: no other process consumes from the queue, so hand-overs are not recorded. */
  readonly log: HandOverLog | null;
  readonly hasRoom: () => boolean;
  readonly push: (raw: Raw) => void;
  readonly failed: (error: unknown) => void;
  readonly scheduler: Scheduler;
}

/** A message that was lost with its channel. */
interface Lost {
  readonly attempt: number;
  readonly base: number;
  readonly returns: number;
}

interface Waiting<Raw> {
  raw: Raw;
  /** Whether its attempt is known. */
  known: boolean;
}

export class Intake<Raw extends AmqpDelivery = AmqpDelivery> {
  readonly #setup: IntakeSetup<Raw>;
  #waiting: Waiting<Raw>[] = [];
  readonly #lost = new Map<string, Lost>();
  #reading = false;
  #draining = false;
  #cancelReadAgain = () => {};

  constructor(setup: IntakeSetup<Raw>) {
    this.#setup = setup;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** Adds a delivery that has arrived. */
  add(raw: Raw): void {
    const known = this.#withAttempt(raw);
    this.#waiting.push({ raw: known ?? raw, known: known !== null });
    this.drain();
  }

  /** Adds deliveries that the dispatcher has released, before all others. */
  unshift(raws: readonly Raw[]): void {
    this.#waiting.unshift(...raws.map((raw) => ({ raw, known: true })));
    this.drain();
  }

  /** Pushes as many as there is room for. Called whenever there may be more room. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (;;) {
        while (this.#waiting[0]?.raw.inFlight.gone) this.#waiting.shift();
        const first = this.#waiting[0];
        if (first === undefined) return;
        if (!first.known) {
          if (!this.#reading) void this.#read();
          return;
        }
        if (!this.#setup.hasRoom()) return;
        this.#waiting.shift();
        this.#setup.push(first.raw);
      }
    } finally {
      this.#draining = false;
    }
  }

  /** Removes and returns everything that was not pushed. */
  clear(): Raw[] {
    this.#cancelReadAgain();
    this.#reading = false;
    return this.#waiting
      .splice(0)
      .map(({ raw }) => raw)
      .filter(({ inFlight }) => !inFlight.gone);
  }

  /** The channel of a delivery was lost: RabbitMQ delivers it again, to this or another consumer. */
  lose({ id, inFlight }: Raw): void {
    if (this.#setup.log === null || inFlight.attempt === 0) return;
    const { base, returns, counted } = inFlight;
    this.#lost.delete(id);
    this.#lost.set(id, {
      attempt: counted >= inFlight.attempt ? counted + 1 : inFlight.attempt,
      base,
      returns: returns + 1,
    });
    if (this.#lost.size <= MAX_LOST) return;
    const [oldest] = this.#lost.keys();
    this.#lost.delete(oldest as string);
  }

  /** The delivery with its attempt; null if the log has to be read for it. */
  #withAttempt(raw: Raw): Raw | null {
    const { id, inFlight } = raw;
    const { base, returns } = inFlight;
    if (this.#setup.log === null) return known(raw, base + 1, false, true);
    const lost = this.#lost.get(id);
    if (returns === 0) {
      if (lost !== undefined) this.#lost.delete(id);
      return known(raw, base + 1, false);
    }
    // No other process received it meanwhile.
    if (lost?.base === base && lost.returns === returns) {
      this.#lost.delete(id);
      return known(raw, lost.attempt, false);
    }
    return null;
  }

  async #read(): Promise<void> {
    const { log, queue, failed, scheduler } = this.#setup;
    if (log === null) return;
    this.#reading = true;
    let wait = 0;
    const asked = this.#waiting.filter((each) => !each.known);
    try {
      const records = await log.read(queue);
      for (const each of asked) {
        each.raw = this.#withRecord(records.get(each.raw.id), each.raw);
        each.known = true;
      }
    } catch (error) {
      // If the connection was lost, so were these deliveries. Otherwise the reading is repeated.
      failed(error);
      wait = READ_AGAIN_MS;
    }
    const go = () => {
      this.#reading = false;
      this.drain();
    };
    if (wait === 0) go();
    else this.#cancelReadAgain = scheduler.after(wait, go);
  }

  #withRecord(record: HandOverRecord | undefined, raw: Raw): Raw {
    const { base, returns } = raw.inFlight;
    const lost = this.#lost.get(raw.id);
    this.#lost.delete(raw.id);
    if (record === undefined) return known(raw, Math.max(base + 1, lost?.attempt ?? 0), true);
    const suspect = record.base !== base || returns > record.returns;
    return known(raw, Math.max(base, record.attempts) + 1, suspect);
  }
}

function known<Raw extends AmqpDelivery>(
  raw: Raw,
  attempt: number,
  suspect: boolean,
  counted = false,
): Raw {
  const { inFlight } = raw;
  inFlight.attempt = attempt;
  return { ...raw, attempt, suspect, counted };
}
