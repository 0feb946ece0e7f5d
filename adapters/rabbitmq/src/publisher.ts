/**
 * Publishing with confirms: resolved means stored by every queue that it was routed to.
 *
 * Invariants: messages of one call order leave in that order on one channel; a message that no queue
 * took resolves to false (`mandatory`; its return comes before its confirm). When the channel goes,
 * everything unconfirmed fails with a retryable error. A channel on which the broker refuses what it
 * is sent is replaced: one that was opened while a log had no leader may never hear of the next one
 * and then refuses that log's messages for ever (RabbitMQ 3.10). Cost: one callback per message in
 * flight.
 */
import type { ConfirmChannel, Options } from 'amqplib';
import { RivuletError, type Scheduler } from 'rivulet';
import { replyCode, toRivulet } from './failures.ts';
import type { Link, LinkChannel } from './link.ts';

/** A refusal replaces a channel of this age: while nobody can store, they do not come and go. */
const RENEW_MS = 250;

/** A channel and what is on it. */
interface Lane {
  readonly open: LinkChannel<ConfirmChannel>;
  readonly since: number;
  /** What came back before its confirm, because no queue takes it. */
  readonly returned: Set<string>;
  unconfirmed: number;
}

export class Publisher {
  readonly #link: Link;
  readonly #scheduler: Scheduler;
  readonly #onBroken: () => void;
  #opening: Promise<Lane> | null = null;
  #current: Lane | null = null;
  #drained: Promise<void> | null = null;

  /** `onBroken`: an exchange that was there is gone, so what is known of the topology is wrong. */
  constructor(link: Link, scheduler: Scheduler, onBroken: () => void) {
    this.#link = link;
    this.#scheduler = scheduler;
    this.#onBroken = onBroken;
  }

  /** True once it is stored; false when no queue takes it. */
  send(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    const lane = this.#current;
    // At once where nothing is in the way: most publishes, which then cost one promise.
    return lane?.open.open && this.#drained === null && this.#link.blocked === null
      ? this.#sendOn(lane, exchange, routingKey, content, properties)
      : this.#sendLater(exchange, routingKey, content, properties);
  }

  async #sendLater(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    if (this.#link.blocked !== null) {
      const text = `RabbitMQ takes no publishes: ${this.#link.blocked}`;
      throw new RivuletError('NOT_CONNECTED', text);
    }
    const lane = this.#current?.open.open ? this.#current : await this.#open();
    while (this.#drained !== null) await this.#drained;
    return this.#sendOn(lane, exchange, routingKey, content, properties);
  }

  #sendOn(
    lane: Lane,
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    const { open } = lane;
    return new Promise((resolve, reject) => {
      const confirmed = (error: unknown) => {
        lane.unconfirmed--;
        const returned =
          lane.returned.size > 0 &&
          lane.returned.delete(`${properties.messageId} ${exchange} ${routingKey}`);
        if (!error) {
          resolve(!returned);
        } else {
          reject(this.#failureOf(open, error));
          this.#refused(lane);
        }
        if (lane !== this.#current && lane.unconfirmed === 0) void open.close();
      };
      lane.unconfirmed++;
      try {
        const bytes = asBuffer(content);
        const told = properties.mandatory ? properties : { ...properties, mandatory: true };
        const room = open.channel.publish(exchange, routingKey, bytes, told, confirmed);
        if (!room) this.#waitForRoom(open);
      } catch (error) {
        lane.unconfirmed--;
        reject(this.#failureOf(open, error));
      }
    });
  }

  async close(): Promise<void> {
    const lane = await this.#opening?.catch(() => null);
    await lane?.open.close();
  }

  #open(): Promise<Lane> {
    this.#opening ??= this.#make().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  async #make(): Promise<Lane> {
    const open = await this.#link.confirmChannel();
    const since = this.#scheduler.monotonic();
    const lane: Lane = { open, since, returned: new Set(), unconfirmed: 0 };
    this.#current = lane;
    open.channel.on('return', ({ fields, properties }) => {
      lane.returned.add(`${properties.messageId} ${fields.exchange} ${fields.routingKey}`);
    });
    void open.ended.then(() => {
      if (this.#current === lane) this.#opening = null;
      if (replyCode(open.failure) === 404) this.#onBroken();
    });
    return lane;
  }

  /** What follows takes another channel; this one is closed with the last confirm on it. */
  #refused(lane: Lane): void {
    if (this.#current !== lane || this.#scheduler.monotonic() - lane.since < RENEW_MS) return;
    this.#current = null;
    this.#opening = null;
  }

  #waitForRoom(open: LinkChannel<ConfirmChannel>): void {
    if (this.#drained !== null) return;
    const drain = new Promise<void>((resolve) => open.channel.once('drain', resolve));
    this.#drained = Promise.race([drain, open.ended]).then(() => {
      this.#drained = null;
    });
  }

  #failureOf(open: LinkChannel<ConfirmChannel>, error: unknown): RivuletError {
    const failure = open.failure === null ? null : toRivulet(open.failure);
    // One message that is too large takes the channel, and with it the others, which are not.
    if (failure?.code === 'BODY_TOO_LARGE' || failure?.code === 'PERMISSION_DENIED') return failure;
    return new RivuletError('NOT_CONNECTED', 'RabbitMQ did not confirm the message', {
      cause: open.failure ?? error,
    });
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
