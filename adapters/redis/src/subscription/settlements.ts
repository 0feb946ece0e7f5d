/**
 * Settles the deliveries of one group.
 *
 * Acknowledgements are collected while one XACK is unanswered, so that many cost one command. Invariant:
 * every other settlement changes a message only while it belongs to this consumer.
 * Cost: one XACK for up to 1000 acknowledgements; one command for each other settlement.
 */
import {
  type RawDelivery,
  type ResolvedSubscribeOptions,
  RivuletError,
  type Settler,
} from 'rivulet/adapter';
import type { Argument, Connection } from '../connection.ts';
import type { Claim, Dialect } from '../dialect/dialect.ts';
import type { Keys } from '../keys.ts';
import { GroupTopic } from './group-topic.ts';

/** At most about this many ids in one XACK. */
const MOST_ACKS = 1000;
/** From this many ids on, an XACK is sent without waiting for the one before. */
const ENOUGH = 100;

/** A delivery as the reader makes it: the id's bytes go back to the server as they came. */
export interface Delivered extends RawDelivery {
  readonly name: Buffer;
}

interface Ack {
  readonly ids: readonly Buffer[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface AckQueue {
  waiting: Ack[];
  /** Ids in `waiting`. */
  count: number;
  /** Unanswered XACKs. */
  sent: number;
  asked: boolean;
}

export interface SettlementSetup {
  readonly group: string;
  readonly consumer: string;
  readonly options: ResolvedSubscribeOptions;
  readonly keys: Keys;
  readonly commands: Connection;
  readonly dialect: Dialect;
  /** A message of this topic falls due after this many milliseconds. */
  readonly onDue: (topic: string, delayMs: number) => void;
}

export class Settlements implements Settler<Delivered> {
  readonly #setup: SettlementSetup;
  readonly #acks = new Map<string, AckQueue>();
  readonly #places = new Map<string, GroupTopic>();

  constructor(setup: SettlementSetup) {
    this.#setup = setup;
  }

  ack(raw: Delivered): Promise<void> {
    return this.#acknowledge(raw.topic, [raw.name]);
  }

  ackMany(raws: readonly Delivered[]): Promise<void> {
    const [first] = raws as [Delivered];
    return this.#acknowledge(
      first.topic,
      raws.map(({ name }) => name),
    );
  }

  #acknowledge(topic: string, ids: readonly Buffer[]): Promise<void> {
    const key = this.#setup.keys.stream(topic);
    let queue = this.#acks.get(key);
    if (queue === undefined) {
      queue = { waiting: [], count: 0, sent: 0, asked: false };
      this.#acks.set(key, queue);
    }
    return new Promise((resolve, reject) => {
      queue.waiting.push({ ids, resolve, reject });
      queue.count += ids.length;
      this.#flushLater(key, queue);
    });
  }

  async nack(raw: RawDelivery, delayMs: number, reason: string): Promise<void> {
    const { dialect, onDue } = this.#setup;
    await this.#settle(raw, dialect.nack(this.#claimOf(raw), delayMs, reason));
    if (dialect.scansForDue) onDue(raw.topic, delayMs);
  }

  release(raw: RawDelivery): Promise<void> {
    return this.#settle(raw, this.#setup.dialect.release(this.#claimOf(raw)));
  }

  extend(raw: RawDelivery, ms: number): Promise<void> {
    const { dialect, options } = this.#setup;
    return this.#settle(raw, dialect.extend(this.#claimOf(raw), ms, options.ackWaitMs));
  }

  storeAttempt(raw: RawDelivery): Promise<void> {
    return this.#settle(raw, this.#setup.dialect.storeAttempt(this.#claimOf(raw)));
  }

  storeAttemptNow(raw: Delivered): Promise<void> {
    const { commands, dialect } = this.#setup;
    const counting = this.#settle(raw, dialect.storeAttemptNow(this.#claimOf(raw)));
    commands.flush();
    return counting;
  }

  deadLetter(raw: RawDelivery, topic: string, reason: string): Promise<void> {
    const { dialect, options } = this.#setup;
    return this.#settle(raw, dialect.deadLetter(this.#claimOf(raw), raw, options, topic, reason));
  }

  #claimOf(raw: RawDelivery): Claim {
    const { keys, group, consumer } = this.#setup;
    let at = this.#places.get(raw.topic);
    if (at === undefined) {
      at = new GroupTopic(keys, raw.topic, group);
      this.#places.set(raw.topic, at);
    }
    return { at, consumer, raw };
  }

  async #settle(raw: RawDelivery, mine: Promise<boolean>): Promise<void> {
    if (!(await mine)) throw lost(raw.topic, raw.id);
  }

  /** Flushes at the end of this turn, or after the unanswered XACK if there are fewer than ENOUGH. */
  #flushLater(key: string, queue: AckQueue): void {
    if (queue.asked || queue.count === 0 || (queue.sent > 0 && queue.count < ENOUGH)) return;
    queue.asked = true;
    queueMicrotask(() => {
      queue.asked = false;
      this.#flush(key, queue);
    });
  }

  #flush(key: string, queue: AckQueue): void {
    const { waiting } = queue;
    queue.waiting = [];
    queue.count = 0;
    for (let from = 0; from < waiting.length; ) {
      const acks: Ack[] = [];
      for (let count = 0; from < waiting.length && count < MOST_ACKS; from++) {
        acks.push(waiting[from]);
        count += waiting[from].ids.length;
      }
      queue.sent++;
      void this.#send(key, acks).finally(() => {
        queue.sent--;
        this.#flushLater(key, queue);
      });
    }
  }

  async #send(key: string, acks: readonly Ack[]): Promise<void> {
    const { commands, group } = this.#setup;
    try {
      const args: Argument[] = [key, group];
      for (const { ids } of acks) for (const id of ids) args.push(id);
      const done = await commands.callWith('XACK', args);
      // The count shows a lost message only if none was acknowledged.
      if (done === 0) for (const { ids, reject } of acks) reject(lost(key, String(ids)));
      else for (const ack of acks) ack.resolve();
    } catch (error) {
      for (const ack of acks) ack.reject(error);
    }
  }
}

function lost(topic: string, id: string): RivuletError {
  const text = `message ${id} of ${topic} is no longer delivered to this consumer: it was redelivered or trimmed, or its group was replayed`;
  return new RivuletError('DELIVERY_LOST', text);
}
