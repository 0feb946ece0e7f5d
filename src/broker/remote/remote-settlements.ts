/**
 * Settling deliveries of one group on our own server.
 *
 * Acknowledgements of one turn of the event loop are one XACK. Every other settlement is one command
 * that the server executes only while this consumer owns the message (OWNER). A message that was
 * redelivered meanwhile is DELIVERY_LOST and unchanged.
 */
import { type Reply, ReplyError } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import type { RawDelivery, Settler } from '../dispatch/delivery.ts';
import type { ResolvedSubscribeOptions } from '../options/options.ts';
import { type Command, notConnected, type RemoteClient } from './remote-client.ts';

/** At most about this many ids in one XACK. */
const MOST_ACKS = 1000;

interface Ack {
  readonly ids: readonly string[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class RemoteSettlements implements Settler {
  readonly sendsNoBytes = true;
  readonly #client: RemoteClient;
  readonly #group: string;
  readonly #consumer: string;
  readonly #options: ResolvedSubscribeOptions;
  readonly #acks = new Map<string, Ack[]>();
  #flushDue = false;

  constructor(
    client: RemoteClient,
    group: string,
    consumer: string,
    options: ResolvedSubscribeOptions,
  ) {
    this.#client = client;
    this.#group = group;
    this.#consumer = consumer;
    this.#options = options;
  }

  ack({ topic, id }: RawDelivery): Promise<void> {
    return this.#acknowledge(topic, [id]);
  }

  ackMany(raws: readonly RawDelivery[]): Promise<void> {
    const [{ topic }] = raws as [RawDelivery];
    return this.#acknowledge(
      topic,
      raws.map(({ id }) => id),
    );
  }

  #acknowledge(topic: string, ids: readonly string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const acks = this.#acks.get(topic);
      if (acks === undefined) this.#acks.set(topic, [{ ids, resolve, reject }]);
      else acks.push({ ids, resolve, reject });
      if (this.#flushDue) return;
      this.#flushDue = true;
      queueMicrotask(() => this.#flush());
    });
  }

  nack(raw: RawDelivery, delayMs: number, reason: string): Promise<void> {
    const delay = ['DELAY', Math.ceil(delayMs), 'REASON', reason];
    return this.#giveBack(raw, 'SILENT', [...delay, 'RETRYCOUNT', raw.attempt]);
  }

  deadLetter(raw: RawDelivery, _topic: string, reason: string): Promise<void> {
    // The topic is in the group's policy.
    return this.#giveBack(raw, 'DEADLETTER', ['REASON', reason, 'RETRYCOUNT', raw.attempt]);
  }

  release(raw: RawDelivery): Promise<void> {
    return this.#giveBack(raw, 'SILENT', ['DELAY', 0, 'RETRYCOUNT', raw.attempt - 1]);
  }

  extend(raw: RawDelivery, ms: number): Promise<void> {
    // The idle time that makes it due in `ms`: negative where `ms` is above `ackWaitMs`. The policy adds
    // the grace to this deadline as to any other.
    return this.#claim(raw, ['IDLE', Math.round(this.#options.ackWaitMs - ms)]);
  }

  storeAttempt(raw: RawDelivery): Promise<void> {
    return this.#claim(raw, ['RETRYCOUNT', raw.attempt]);
  }

  storeAttemptNow(raw: RawDelivery): Promise<void> {
    const counting = this.storeAttempt(raw);
    this.#client.flush();
    return counting;
  }

  storeAttemptsNow(raws: readonly RawDelivery[]): readonly Promise<void>[] {
    const [first] = raws as [RawDelivery];
    const isAlike = raws.every((raw) => raw.topic === first.topic && raw.attempt === first.attempt);
    const counting =
      raws.length > 1 && isAlike
        ? this.#countAlike(raws, first)
        : raws.map((raw) => this.storeAttempt(raw));
    this.#client.flush();
    return counting;
  }

  /** One command for deliveries of one topic that have the same attempt. */
  #countAlike(raws: readonly RawDelivery[], { topic, attempt }: RawDelivery): Promise<void>[] {
    const claimed = this.#client.call(
      ...['XCLAIM', topic, this.#group, this.#consumer, 0, ...raws.map(({ id }) => id)],
      ...['OWNER', this.#consumer, 'JUSTID', 'RETRYCOUNT', attempt],
    );
    const owned = claimed.then((ids) => new Set((ids as readonly Buffer[]).map(String)));
    return raws.map(async ({ id }) => {
      if (!(await owned).has(id)) throw lost(topic, id);
    });
  }

  async #giveBack(raw: RawDelivery, mode: string, options: Command): Promise<void> {
    const { topic, id } = raw;
    const owner = ['OWNER', this.#consumer];
    const done = await this.#client.call(
      ...['XNACK', topic, this.#group, mode, 'IDS', 1, id],
      ...owner,
      ...options,
    );
    if (done === 0) throw lost(topic, id);
  }

  async #claim({ topic, id }: RawDelivery, options: Command): Promise<void> {
    const done = await this.#client.call(
      ...['XCLAIM', topic, this.#group, this.#consumer, 0, id],
      ...['OWNER', this.#consumer, 'JUSTID'],
      ...options,
    );
    if (Array.isArray(done) && done.length === 0) throw lost(topic, id);
  }

  #flush(): void {
    this.#flushDue = false;
    for (const [topic, acks] of this.#acks) {
      for (let from = 0; from < acks.length; ) {
        const some: Ack[] = [];
        for (let count = 0; from < acks.length && count < MOST_ACKS; from++) {
          some.push(acks[from] as Ack);
          count += (acks[from] as Ack).ids.length;
        }
        this.#send(topic, some);
      }
    }
    this.#acks.clear();
  }

  #send(topic: string, acks: readonly Ack[]): void {
    const command = ['XACK', topic, this.#group, ...acks.flatMap(({ ids }) => ids)];
    const reject = (error: unknown) => {
      for (const ack of acks) ack.reject(error);
    };
    this.#client.send(command, {
      reply(value: Reply) {
        if (value instanceof ReplyError) reject(value);
        // The count says which ones only where it is 0. Of the others, lost ones are redelivered anyway.
        else if (value === 0) for (const ack of acks) ack.reject(lost(topic, String(ack.ids)));
        else for (const ack of acks) ack.resolve();
      },
      fail: (error) => reject(notConnected(error)),
    });
  }
}

function lost(topic: string, id: string): RivuletError {
  const text = `message ${id} of ${topic} is no longer this consumer's: it was redelivered or trimmed, or its group was moved`;
  return new RivuletError('DELIVERY_LOST', text);
}
