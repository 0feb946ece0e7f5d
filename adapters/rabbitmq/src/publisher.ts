/**
 * Publishing with confirms: a publish resolves once every queue that it was routed to has stored it.
 *
 * Invariants: messages leave on one channel in the order of the calls, those that wait for a channel or
 * for room included. A message that was routed to no
 * queue resolves to false: it is published as `mandatory`, and its return arrives before its confirm.
 * When the channel closes, every unconfirmed publish fails with a retryable error. A channel on which
 * RabbitMQ refuses messages is replaced: RabbitMQ 3.10 keeps refusing the messages of a stream on a
 * channel that was opened while the stream had no leader.
 * Cost: one callback per message in flight.
 */
import type { ConfirmChannel, Options } from 'amqplib';
import { RivuletError, type Scheduler } from 'rivulet/adapter';
import { replyCode, toRivulet } from './errors.ts';
import type { Link, LinkChannel } from './link.ts';

/** A channel is replaced at most this often while RabbitMQ refuses everything. */
const REPLACE_EVERY_MS = 250;

/** An open channel and its publishes. */
interface PublishChannel {
  readonly open: LinkChannel<ConfirmChannel>;
  readonly since: number;
  /** Messages that RabbitMQ returned because it could route them to no queue. */
  readonly returned: Set<string>;
  unconfirmed: number;
}

export class Publisher {
  readonly #link: Link;
  readonly #scheduler: Scheduler;
  readonly #onMissing: () => void;
  #opening: Promise<PublishChannel> | null = null;
  #current: PublishChannel | null = null;
  #drained: Promise<void> | null = null;
  /** The last call that waits for a channel or for room; null where none waits. */
  #last: Promise<void> | null = null;

  /** Calls `onMissing` when an exchange is missing, so that the cached topology is wrong. */
  constructor(link: Link, scheduler: Scheduler, onMissing: () => void) {
    this.#link = link;
    this.#scheduler = scheduler;
    this.#onMissing = onMissing;
  }

  /** Resolves to true once it is stored, to false if it was routed to no queue. */
  send(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    const target = this.#current;
    // Most publishes need not wait, and then cost one promise.
    return target?.open.open &&
      this.#drained === null &&
      this.#last === null &&
      this.#link.blocked === null
      ? this.#sendOn(target, exchange, routingKey, content, properties)
      : this.#sendLater(exchange, routingKey, content, properties);
  }

  async #sendLater(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    const before = this.#last;
    let next = () => {};
    const turn = new Promise<void>((resolve) => {
      next = resolve;
    });
    this.#last = turn;
    let confirmed: Promise<boolean>;
    try {
      if (before !== null) await before;
      const target = await this.#channelWithRoom();
      confirmed = this.#sendOn(target, exchange, routingKey, content, properties);
    } finally {
      if (this.#last === turn) this.#last = null;
      next();
    }
    return confirmed;
  }

  async #channelWithRoom(): Promise<PublishChannel> {
    for (;;) {
      if (this.#link.blocked !== null) {
        const text = `RabbitMQ accepts no publishes: ${this.#link.blocked}`;
        throw new RivuletError('NOT_CONNECTED', text);
      }
      const target = this.#current?.open.open ? this.#current : await this.#open();
      if (this.#drained === null) return target;
      await this.#drained;
    }
  }

  #sendOn(
    target: PublishChannel,
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    const { open } = target;
    return new Promise((resolve, reject) => {
      const confirmed = (error: unknown) => {
        target.unconfirmed--;
        const returned =
          target.returned.size > 0 &&
          target.returned.delete(`${properties.messageId} ${exchange} ${routingKey}`);
        if (!error) {
          resolve(!returned);
        } else {
          reject(failureOf(open, error, exchange, routingKey, content.length));
          this.#refused(target);
        }
        if (target !== this.#current && target.unconfirmed === 0) void open.close();
      };
      target.unconfirmed++;
      try {
        const bytes = asBuffer(content);
        const mandatory = properties.mandatory ? properties : { ...properties, mandatory: true };
        const hasRoom = open.channel.publish(exchange, routingKey, bytes, mandatory, confirmed);
        if (!hasRoom) this.#waitForDrain(open);
      } catch (error) {
        target.unconfirmed--;
        reject(failureOf(open, error, exchange, routingKey, content.length));
      }
    });
  }

  async close(): Promise<void> {
    const target = await this.#opening?.catch(() => null);
    await target?.open.close();
  }

  #open(): Promise<PublishChannel> {
    this.#opening ??= this.#make().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  async #make(): Promise<PublishChannel> {
    const open = await this.#link.confirmChannel();
    const since = this.#scheduler.monotonic();
    const target: PublishChannel = { open, since, returned: new Set(), unconfirmed: 0 };
    this.#current = target;
    open.channel.on('return', ({ fields, properties }) => {
      target.returned.add(`${properties.messageId} ${fields.exchange} ${fields.routingKey}`);
    });
    void open.ended.then(() => {
      if (this.#current === target) this.#opening = null;
      if (replyCode(open.failure) === 404) this.#onMissing();
    });
    return target;
  }

  /** The next publish opens another channel; this one closes after its last confirm. */
  #refused(target: PublishChannel): void {
    if (this.#current !== target || this.#scheduler.monotonic() - target.since < REPLACE_EVERY_MS)
      return;
    this.#current = null;
    this.#opening = null;
  }

  #waitForDrain(open: LinkChannel<ConfirmChannel>): void {
    if (this.#drained !== null) return;
    const drain = new Promise<void>((resolve) => open.channel.once('drain', resolve));
    this.#drained = Promise.race([drain, open.ended]).then(() => {
      this.#drained = null;
    });
  }
}

/**
 * Why a message was not confirmed. RabbitMQ closes the channel because of one message. Only a message
 * that the error fits fails with it; the others fail with NOT_CONNECTED and are retried.
 */
function failureOf(
  { failure }: LinkChannel<ConfirmChannel>,
  error: unknown,
  exchange: string,
  routingKey: string,
  bytes: number,
): RivuletError {
  const known = failure === null ? null : toRivulet(failure);
  if (known !== null && fits(known, exchange, routingKey, bytes)) return known;
  return new RivuletError('NOT_CONNECTED', 'RabbitMQ did not confirm the message', {
    cause: failure ?? error,
  });
}

/** Whether the server's error can be about this message. */
function fits(
  { code, message }: RivuletError,
  exchange: string,
  routingKey: string,
  bytes: number,
): boolean {
  if (code === 'BODY_TOO_LARGE') {
    const [, limit] = /larger than (?:configured )?max size (\d+)/.exec(message) ?? [];
    return limit === undefined || bytes > Number(limit);
  }
  if (code !== 'PERMISSION_DENIED') return false;
  const [, topic] = /access to topic '([^']*)'/.exec(message) ?? [];
  if (topic !== undefined) return topic === routingKey;
  const [, refused] = /access to exchange '([^']*)'/.exec(message) ?? [];
  return (
    refused === undefined || refused === exchange || (refused === 'amq.default' && exchange === '')
  );
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
