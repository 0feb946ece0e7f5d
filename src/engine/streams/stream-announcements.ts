/**
 * New streams, published on the shard channel `__streams@<database>__`: the message is
 * the key.
 *
 * Subscriptions with wildcards need to know, and without this they would walk all keys again and again.
 * It is a shard channel, which no pattern matches: clients that do not subscribe to it see what they see
 * in Redis. Streams that SWAPDB brings are not published. Messages are gathered while a command or EXEC
 * runs and published after it, so that a push never interrupts a reply.
 * Cost: one compare for each new stream while no shard channel has a listener.
 */
import type { Channels } from '../keyspace/channels.ts';

interface Announcement {
  readonly channel: Buffer;
  readonly key: Buffer;
}

export class StreamAnnouncements {
  readonly #channels: Channels;
  #gathered: Announcement[] = [];

  constructor(shardChannels: Channels) {
    this.#channels = shardChannels;
  }

  /** `key` is copied. */
  add(database: number, key: Uint8Array): void {
    if (this.#channels.channelCount === 0) return;
    const channel = Buffer.from(`__streams@${database}__`, 'latin1');
    if (this.#channels.subscribers(channel) === 0) return;
    this.#gathered.push({ channel, key: Buffer.from(key) });
  }

  get waiting(): boolean {
    return this.#gathered.length > 0;
  }

  publish(): void {
    const gathered = this.#gathered;
    this.#gathered = [];
    for (const { channel, key } of gathered) this.#channels.publish(channel, key);
  }
}
