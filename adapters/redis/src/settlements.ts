/**
 * Settling deliveries of one group on Redis.
 *
 * Acknowledgements gather while one XACK is under way, so that many cost one exchange. Everything
 * else first looks whether the message is still this consumer's.
 */
import {
  type RawDelivery,
  type ResolvedSubscribeOptions,
  RivuletError,
  type Settler,
} from 'rivulet';
import type { Connection } from './connection.ts';
import type { Dialect, Hold } from './dialect.ts';
import { GroupTopic } from './group-topic.ts';
import type { Keys } from './keys.ts';

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
  readonly commands: Connection;
  readonly dialect: Dialect;
  /** A message of this topic comes again at this time of the server's clock. */
  readonly onDue: (topic: string, delayMs: number) => void;
}

export class Settlements implements Settler {
  readonly #setup: SettlementSetup;
  readonly #acks = new Map<string, AckQueue>();
  readonly #places = new Map<string, GroupTopic>();

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

  async nack(raw: RawDelivery, delayMs: number, reason: string): Promise<void> {
    const { dialect, onDue } = this.#setup;
    await this.#settle(raw, dialect.nack(this.#hold(raw), delayMs, reason));
    if (dialect.looks) onDue(raw.topic, delayMs);
  }

  release(raw: RawDelivery): Promise<void> {
    return this.#settle(raw, this.#setup.dialect.release(this.#hold(raw)));
  }

  extend(raw: RawDelivery, ms: number): Promise<void> {
    const { dialect, options } = this.#setup;
    return this.#settle(raw, dialect.extend(this.#hold(raw), ms, options.ackWaitMs));
  }

  recount(raw: RawDelivery): Promise<void> {
    return this.#settle(raw, this.#setup.dialect.recount(this.#hold(raw)));
  }

  deadLetter(raw: RawDelivery, topic: string, reason: string): Promise<void> {
    const { dialect, options } = this.#setup;
    return this.#settle(raw, dialect.bury(this.#hold(raw), raw, options, topic, reason));
  }

  #hold(raw: RawDelivery): Hold {
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
