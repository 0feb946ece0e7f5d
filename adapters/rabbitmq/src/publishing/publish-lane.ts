/**
 * One channel for publishing: a publish resolves once every queue that it was routed to has stored it.
 *
 * Invariants: messages leave in the order of the calls, those that wait for a channel or for room
 * included. A message that was routed to no queue resolves to false: it is published as `mandatory`,
 * and its return arrives before its confirm. When the channel closes, every unconfirmed publish fails
 * with a retryable error. A channel on which RabbitMQ refuses messages is replaced: RabbitMQ 3.10 keeps
 * refusing the messages of a stream on a channel that was opened while the stream had no leader. So is a
 * channel on which nothing is confirmed any more, and what was published on it fails with a retryable
 * error.
 * Cost: one callback per message in flight.
 */
import type { ConfirmChannel, Options } from 'amqplib';
import { RivuletError, type Scheduler } from 'rivulet/adapter';
import { replyCode, toRivulet } from '../errors.ts';
import type { Link, LinkChannel } from '../link.ts';
import { ConfirmWatch } from './confirm-watch.ts';

/** A channel is replaced at most this often while RabbitMQ refuses everything. */
const REPLACE_EVERY_MS = 250;

/** An open channel and its publishes. */
interface PublishChannel {
  readonly open: LinkChannel<ConfirmChannel>;
  readonly since: number;
  /** Messages that RabbitMQ returned because it could route them to no queue. */
  readonly returned: Set<string>;
  /** Unconfirmed publishes, in order. */
  readonly unconfirmed: Set<(error: unknown) => void>;
  readonly watch: ConfirmWatch;
  /** Until its buffer has room again. */
  drained: Promise<void> | null;
  hasRoom(): void;
}

export interface PublishLaneSetup {
  readonly link: Link;
  readonly scheduler: Scheduler;
  /** Every message is for one log, so a channel is replaced when one did not reach it. */
  readonly isOfLog: boolean;
  /** An exchange is missing, so the cached topology is wrong. */
  readonly onMissing: () => void;
}

export class PublishLane {
  readonly #setup: PublishLaneSetup;
  readonly #link: Link;
  readonly #scheduler: Scheduler;
  #opening: Promise<PublishChannel> | null = null;
  #current: PublishChannel | null = null;
  /** The last call that waits for a channel or for room; null where none waits. */
  #last: Promise<void> | null = null;
  /** How many channels in a row confirmed nothing any more. */
  #late = 0;

  constructor(setup: PublishLaneSetup) {
    this.#setup = setup;
    this.#link = setup.link;
    this.#scheduler = setup.scheduler;
  }

  /** Whether no publish waits, so that it can be closed. */
  get isIdle(): boolean {
    return this.#last === null && (this.#current?.unconfirmed.size ?? 0) === 0;
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
      target.drained === null &&
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
      if (target.drained === null) return target;
      await target.drained;
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
        // Given up before.
        if (!target.unconfirmed.delete(confirmed)) return;
        target.watch.answered();
        const returned =
          target.returned.size > 0 &&
          target.returned.delete(`${properties.messageId} ${exchange} ${routingKey}`);
        if (!error) {
          this.#late = 0;
          if (returned && this.#setup.isOfLog) this.#replace(target);
          resolve(!returned);
        } else {
          reject(failureOf(open, error, exchange, routingKey, content.length));
          this.#refused(target);
        }
        if (target !== this.#current && target.unconfirmed.size === 0) void open.close();
      };
      target.unconfirmed.add(confirmed);
      try {
        const bytes = asBuffer(content);
        const mandatory = properties.mandatory ? properties : { ...properties, mandatory: true };
        const hasRoom = open.channel.publish(exchange, routingKey, bytes, mandatory, confirmed);
        target.watch.sent();
        if (!hasRoom) waitForDrain(target);
      } catch (error) {
        target.unconfirmed.delete(confirmed);
        reject(failureOf(open, error, exchange, routingKey, content.length));
      }
    });
  }

  /** The next publish opens another channel. */
  leave(): void {
    if (this.#current !== null) this.#replace(this.#current);
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
    const unconfirmed: PublishChannel['unconfirmed'] = new Set();
    const watch = new ConfirmWatch(
      {
        scheduler: this.#scheduler,
        waits: () => unconfirmed.size > 0,
        isBlocked: () => this.#link.blocked !== null,
        late: () => this.#giveUp(target),
      },
      this.#late,
    );
    const since = this.#scheduler.monotonic();
    const returned: PublishChannel['returned'] = new Set();
    const hasRoom = () => {};
    const target: PublishChannel = {
      open,
      since,
      returned,
      unconfirmed,
      watch,
      drained: null,
      hasRoom,
    };
    this.#current = target;
    open.channel.on('return', ({ fields, properties }) => {
      returned.add(`${properties.messageId} ${fields.exchange} ${fields.routingKey}`);
    });
    void open.ended.then(() => {
      watch.stop();
      target.hasRoom();
      if (this.#current === target) this.#opening = null;
      if (replyCode(open.failure) === 404) this.#setup.onMissing();
    });
    return target;
  }

  /** RabbitMQ refused a message. */
  #refused(target: PublishChannel): void {
    if (this.#scheduler.monotonic() - target.since >= REPLACE_EVERY_MS) this.#replace(target);
  }

  /** RabbitMQ confirms nothing any more. It may have stored what was published. */
  #giveUp(target: PublishChannel): void {
    if (this.#current === target) this.#late++;
    this.#replace(target);
    const error = new Error('RabbitMQ confirms nothing on this channel any more');
    for (const fail of [...target.unconfirmed]) fail(error);
    void target.open.close();
  }

  /** The next publish opens another channel; this one closes after its last confirm. */
  #replace(target: PublishChannel): void {
    if (this.#current !== target) return;
    this.#current = null;
    this.#opening = null;
    target.hasRoom();
    if (target.unconfirmed.size === 0) void target.open.close();
  }
}

function waitForDrain(target: PublishChannel): void {
  if (target.drained !== null) return;
  target.drained = new Promise<void>((resolve) => {
    target.hasRoom = () => {
      target.drained = null;
      resolve();
    };
    target.open.channel.once('drain', target.hasRoom);
  });
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
