/**
 * Settling deliveries of one group on Redis.
 *
 * Acknowledgements gather while one XACK is under way, so that many cost one exchange. Everything
 * else is a script that first looks whether the message is still this consumer's. A message given
 * back stays pending, in the name of nobody, with its time in the sorted set of deadlines: it
 * survives the death of whoever gave it back.
 */
import {
  deadLetterMessage,
  type RawDelivery,
  type ResolvedSubscribeOptions,
  RivuletError,
  type Settler,
} from 'rivulet';
import type { Connection } from './connection.ts';
import type { EntryForm } from './entry.ts';
import type { Keys } from './keys.ts';
import { PARKED, scripts } from './scripts.ts';

/** At most this many ids in one XACK. */
const MOST_ACKS = 1000;

interface Ack {
  readonly id: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface AckQueue {
  readonly waiting: Ack[];
  flushing: boolean;
}

export interface SettlementSetup {
  readonly group: string;
  readonly consumer: string;
  readonly options: ResolvedSubscribeOptions;
  readonly keys: Keys;
  readonly form: EntryForm;
  readonly commands: Connection;
  readonly now: () => number;
  /** A message of this topic comes again at this time of the server's clock. */
  readonly onDue: (topic: string, delayMs: number) => void;
}

export class Settlements implements Settler {
  readonly #setup: SettlementSetup;
  readonly #acks = new Map<string, AckQueue>();

  constructor(setup: SettlementSetup) {
    this.#setup = setup;
  }

  ack(raw: RawDelivery): Promise<void> {
    const key = this.#setup.keys.stream(raw.topic);
    let queue = this.#acks.get(key);
    if (queue === undefined) {
      queue = { waiting: [], flushing: false };
      this.#acks.set(key, queue);
    }
    return new Promise((resolve, reject) => {
      queue.waiting.push({ id: raw.id, resolve, reject });
      if (!queue.flushing) void this.#flush(key, queue);
    });
  }

  async nack(raw: RawDelivery, delayMs: number): Promise<void> {
    await this.#hold(raw, PARKED, '', Math.round(delayMs));
    this.#setup.onDue(raw.topic, delayMs);
  }

  async release(raw: RawDelivery): Promise<void> {
    await this.#hold(raw, PARKED, Math.max(0, raw.attempt - 1), 0);
  }

  async extend(raw: RawDelivery, ms: number): Promise<void> {
    const { ackWaitMs } = this.#setup.options;
    // The idle time says it where it can: then there is nothing to remember.
    if (ms <= ackWaitMs) await this.#hold(raw, this.#setup.consumer, '', '', ackWaitMs - ms);
    else await this.#hold(raw, this.#setup.consumer, '', ms);
  }

  async recount(raw: RawDelivery): Promise<void> {
    await this.#hold(raw, this.#setup.consumer, raw.attempt, '');
  }

  async deadLetter(raw: RawDelivery, topic: string, reason: string): Promise<void> {
    const { group, consumer, keys, form, commands, now, options } = this.#setup;
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, now());
    const mine = await commands.run(
      scripts.bury,
      keys.stream(raw.topic),
      keys.stream(topic),
      group,
      consumer,
      raw.id,
      ...form.write(topic, dead),
    );
    if (mine === 0) throw lost(raw.topic, raw.id);
  }

  async #hold(
    raw: RawDelivery,
    consumer: string,
    deliveryCount: number | '',
    ownDeadlineMs: number | '',
    idleMs = 0,
  ): Promise<void> {
    const { keys, group, commands } = this.#setup;
    const mine = await commands.run(
      scripts.hold,
      keys.stream(raw.topic),
      keys.deadlines(raw.topic, group),
      group,
      this.#setup.consumer,
      raw.id,
      consumer,
      Math.round(idleMs),
      deliveryCount,
      ownDeadlineMs,
    );
    if (mine === 0) throw lost(raw.topic, raw.id);
  }

  async #flush(key: string, queue: AckQueue): Promise<void> {
    queue.flushing = true;
    // What is settled in this turn of the loop goes together.
    await null;
    while (queue.waiting.length > 0) {
      const acks = queue.waiting.splice(0, MOST_ACKS);
      try {
        const { commands, group } = this.#setup;
        const done = await commands.call('XACK', key, group, ...acks.map(({ id }) => id));
        // Only a single one can be told from the count; of many, those gone are gone either way.
        if (done === 0) for (const ack of acks) ack.reject(lost(key, ack.id));
        else for (const ack of acks) ack.resolve();
      } catch (error) {
        for (const ack of acks) ack.reject(error);
      }
    }
    queue.flushing = false;
  }
}

function lost(topic: string, id: string): RivuletError {
  const text = `message ${id} of ${topic} is no longer this consumer's: it was redelivered, or its group was moved`;
  return new RivuletError('DELIVERY_LOST', text);
}
