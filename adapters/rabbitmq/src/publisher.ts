/**
 * Publishing with confirms: resolved means stored by every queue that it was routed to.
 *
 * Invariants: messages of one call order leave in that order on one channel; a message that no queue
 * took resolves to false (`mandatory`; its return comes before its confirm). When the channel goes,
 * everything unconfirmed fails with a retryable error. Cost: one map entry per message in flight.
 */
import type { ConfirmChannel, Options } from 'amqplib';
import { RivuletError } from 'rivulet';
import { replyCode, toRivulet } from './failures.ts';
import type { Link, LinkChannel } from './link.ts';

export class Publisher {
  readonly #link: Link;
  readonly #onBroken: () => void;
  readonly #returned = new Set<string>();
  #opening: Promise<LinkChannel<ConfirmChannel>> | null = null;
  #current: LinkChannel<ConfirmChannel> | null = null;
  #drained: Promise<void> | null = null;

  /** `onBroken`: an exchange that was there is gone, so what is known of the topology is wrong. */
  constructor(link: Link, onBroken: () => void) {
    this.#link = link;
    this.#onBroken = onBroken;
  }

  /** True once it is stored; false when no queue takes it. */
  async send(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    if (this.#link.blocked !== null) {
      const text = `RabbitMQ takes no publishes: ${this.#link.blocked}`;
      throw new RivuletError('NOT_CONNECTED', text);
    }
    const open = this.#current?.open ? this.#current : await this.#open();
    while (this.#drained !== null) await this.#drained;
    const name = `${properties.messageId} ${exchange} ${routingKey}`;
    return new Promise<boolean>((resolve, reject) => {
      const confirmed = (error: unknown) => {
        const returned = this.#returned.delete(name);
        if (!error) resolve(!returned);
        else reject(this.#failureOf(open, error));
      };
      try {
        const room = open.channel.publish(
          exchange,
          routingKey,
          asBuffer(content),
          { mandatory: true, ...properties },
          confirmed,
        );
        if (!room) this.#waitForRoom(open);
      } catch (error) {
        reject(this.#failureOf(open, error));
      }
    });
  }

  async close(): Promise<void> {
    const open = await this.#opening?.catch(() => null);
    await open?.close();
  }

  #open(): Promise<LinkChannel<ConfirmChannel>> {
    this.#opening ??= this.#make().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  async #make(): Promise<LinkChannel<ConfirmChannel>> {
    const made = await this.#link.confirmChannel();
    this.#current = made;
    made.channel.on('return', ({ fields, properties }) => {
      this.#returned.add(`${properties.messageId} ${fields.exchange} ${fields.routingKey}`);
    });
    void made.ended.then(() => {
      this.#opening = null;
      this.#returned.clear();
      if (replyCode(made.failure) === 404) this.#onBroken();
    });
    return made;
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
