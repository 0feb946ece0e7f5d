/**
 * The channels, patterns and shard channels that one client is subscribed to, and how messages reach it.
 *
 * Invariant: this listener is subscribed with the engine's channels to exactly the names held here.
 * Cost: a message is written straight into the client's output and queued nowhere else, so the limit of
 * the output buffer bounds a client that does not read.
 */
import type { Listener } from '../../engine/keyspace/channels.ts';
import type { PushTarget } from '../output/push-target.ts';

const MESSAGE = Buffer.from('message');
const PATTERN_MESSAGE = Buffer.from('pmessage');
const SHARD_MESSAGE = Buffer.from('smessage');

export type SubscriptionKind = 'channel' | 'pattern' | 'shard';

const KINDS: readonly SubscriptionKind[] = ['channel', 'pattern', 'shard'];

/** What a subscription takes beside its name. */
const NAME_BYTES = 64;

export class Subscriptions implements Listener {
  readonly #target: PushTarget;
  readonly #names: Record<SubscriptionKind, Map<string, Buffer>> = {
    channel: new Map(),
    pattern: new Map(),
    shard: new Map(),
  };
  /** Bytes of all names. */
  bytes = 0;
  readonly #shardListener: Listener;

  constructor(target: PushTarget) {
    this.#target = target;
    this.#shardListener = {
      message: (channel, payload) => this.#send(SHARD_MESSAGE, null, channel, payload),
      patternMessage: () => {},
    };
  }

  get channels(): number {
    return this.#names.channel.size;
  }

  get patterns(): number {
    return this.#names.pattern.size;
  }

  get shardChannels(): number {
    return this.#names.shard.size;
  }

  get total(): number {
    const { channel, pattern, shard } = this.#names;
    return channel.size + pattern.size + shard.size;
  }

  every(allowed: (name: Buffer, isPattern: boolean) => boolean): boolean {
    for (const kind of KINDS) {
      for (const name of this.#names[kind].values()) {
        if (!allowed(name, kind === 'pattern')) return false;
      }
    }
    return true;
  }

  /** What a reply to (un)subscribing counts: channels and patterns together, shard channels alone. */
  count(kind: SubscriptionKind): number {
    return kind === 'shard' ? this.shardChannels : this.channels + this.patterns;
  }

  /** `name` is kept: not a view of a socket's buffer. */
  add(kind: SubscriptionKind, name: Buffer): void {
    const { engine } = this.#target;
    const names = this.#names[kind];
    const text = name.toString('latin1');
    if (names.has(text)) return;
    names.set(text, name);
    this.bytes += name.length + NAME_BYTES;
    if (kind === 'channel') engine.channels.subscribe(name, this);
    else if (kind === 'pattern') engine.channels.subscribePattern(name, this);
    else engine.shardChannels.subscribe(name, this.#shardListener);
  }

  delete(kind: SubscriptionKind, name: Buffer): void {
    const { engine } = this.#target;
    if (this.#names[kind].delete(name.toString('latin1'))) this.bytes -= name.length + NAME_BYTES;
    if (kind === 'channel') engine.channels.unsubscribe(name, this);
    else if (kind === 'pattern') engine.channels.unsubscribePattern(name, this);
    else engine.shardChannels.unsubscribe(name, this.#shardListener);
  }

  /** In the order of subscription. */
  list(kind: SubscriptionKind): Buffer[] {
    return [...this.#names[kind].values()];
  }

  clear(): void {
    for (const kind of KINDS) {
      for (const name of this.list(kind)) this.delete(kind, name);
    }
  }

  message(channel: Buffer, payload: Buffer): void {
    this.#send(MESSAGE, null, channel, payload);
  }

  patternMessage(pattern: Buffer, channel: Buffer, payload: Buffer): void {
    this.#send(PATTERN_MESSAGE, pattern, channel, payload);
  }

  #send(kind: Buffer, pattern: Buffer | null, channel: Buffer, payload: Buffer): void {
    const { pushes } = this.#target;
    pushes.push(pattern === null ? 3 : 4);
    pushes.bulk(kind);
    if (pattern !== null) pushes.bulk(pattern);
    pushes.bulk(channel);
    pushes.bulk(payload);
    this.#target.written();
  }
}
