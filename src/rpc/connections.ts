/**
 * The channels of a client: one per node and transport, kept while it is good.
 *
 * Holds: open channels and dials that have not ended. Invariants: one dial per node at a time; a channel whose
 * peer is gone is used for no new call; with `auto` the node is reached by the first transport that
 * can; one that failed, or took longer than `PATIENCE_MS` while another can, is left alone for
 * `AVOID_MS` and then tried again beside the calls that go on by the other. Bound: `maxChannels` that take
 * calls, the one used longest ago is given up first; one that is given up ends with its last call, and never
 * ends a call. A close ends dials too. Cost: two map look-ups per call.
 */
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Channel, Transport } from '../transport/transport.ts';
import { runOutside, type Scheduler } from '../util/time/scheduler.ts';

const AVOID_MS = 30_000;
/** How long a dial may take before the next transport is tried. */
const PATIENCE_MS = 200;
/** Longer than any call that the channel's user knows of: the longest timer. */
const AS_LONG_AS_IT_TAKES_MS = 2 ** 31 - 1;
const IDLE_MS = 60_000;

export interface ConnectionsOptions {
  /** In order of preference; asked for when a node is dialled, so that none loads before. */
  readonly transports: readonly Transport[] | (() => Promise<readonly Transport[]>);
  readonly scheduler: Scheduler;
  /** Default 5 000, go-micro's. */
  readonly dialTimeoutMs: number;
  /** Default 100, go-micro's pool size. */
  readonly maxChannels: number;
  /** How long a channel without calls is kept. Default 60 000, go-micro's pool TTL. */
  readonly idleMs?: number;
}

export interface Connected {
  readonly channel: Channel;
  readonly transport: Transport;
}

interface Entry extends Connected {
  readonly nodeId: string;
  isGone: boolean;
  /** When a transport that comes before this one is tried again, monotonic ms; infinite: never. */
  retryAt: number;
  /** Used since the last look at idle channels. */
  isUsed: boolean;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #open = new Map<string, Entry>();
  readonly #dialing = new Map<string, Promise<Entry>>();
  /** Node and transport, and until when it is left alone (monotonic milliseconds). */
  readonly #avoided = new Map<string, number>();
  /** Channels that take no calls any more, until their last one has ended. */
  readonly #leaving = new Set<Channel>();
  /** What ends the dials, by the dial. */
  readonly #dials = new Set<AbortController>();
  /** Keys of nodes by the record that they were read from: a call joins no texts. */
  readonly #keys = new WeakMap<ServiceNode, string>();
  #stopIdle: (() => void) | null = null;
  #isClosed = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** The channel to the node; a promise only when it must be dialled. */
  to(node: ServiceNode): Connected | Promise<Connected> {
    const key = this.#keyOf(node);
    const entry = this.#open.get(key);
    if (entry !== undefined && !entry.isGone) {
      if (entry.retryAt !== Number.POSITIVE_INFINITY) this.#retryIfDue(node, key, entry);
      entry.isUsed = true;
      return entry;
    }
    let dialing = this.#dialing.get(key);
    if (dialing === undefined) {
      dialing = this.#begin(node, key);
    }
    return dialing;
  }

  /** Ends the dials too; one of a transport that does not listen is waited for `PATIENCE_MS`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopIdle?.();
    this.#stopIdle = null;
    const dialing = [...this.#dialing.values()];
    for (const dial of this.#dials) dial.abort();
    if (dialing.length > 0) await this.#briefly(Promise.allSettled(dialing));
    const open = [...this.#open.values()].map(({ channel }) => channel);
    this.#open.clear();
    await Promise.all([...open, ...this.#leaving].map((channel) => channel.close()));
  }

  /** Another channel takes the calls from now on; those that run here may take as long as they do. */
  #giveUp({ channel }: Entry): void {
    this.#leaving.add(channel);
    const left = () => void this.#leaving.delete(channel);
    channel.close(AS_LONG_AS_IT_TAKES_MS).then(left, left);
  }

  async #briefly(wait: Promise<unknown>): Promise<void> {
    let stop = () => {};
    const late = new Promise<void>((resolve) => {
      stop = this.#options.scheduler.after(PATIENCE_MS, resolve);
    });
    await Promise.race([wait, late]);
    stop();
  }

  #keyOf(node: ServiceNode): string {
    let key = this.#keys.get(node);
    if (key === undefined) {
      key = keyOf(node);
      this.#keys.set(node, key);
    }
    return key;
  }

  /** A better way to the node may be there again; calls do not wait for it. */
  #retryIfDue(node: ServiceNode, key: string, entry: Entry): void {
    const { scheduler } = this.#options;
    if (entry.retryAt > scheduler.monotonic() || this.#dialing.has(key)) return;
    entry.retryAt = Number.POSITIVE_INFINITY;
    this.#begin(node, key).then(
      (better) => {
        if (better !== entry) this.#giveUp(entry);
      },
      () => {
        entry.retryAt = scheduler.monotonic() + AVOID_MS;
      },
    );
  }

  /** The channel outlives the call that asked for it, and must not hold that call's request. */
  #begin(node: ServiceNode, key: string): Promise<Entry> {
    return runOutside(this.#options.scheduler, () => {
      const dialing = this.#dial(node, key).finally(() => this.#dialing.delete(key));
      this.#dialing.set(key, dialing);
      return dialing;
    });
  }

  async #dial(node: ServiceNode, key: string): Promise<Entry> {
    const { transports: given } = this.#options;
    const transports = typeof given === 'function' ? await given() : given;
    const able = transports.filter((transport) => transport.canDial(node));
    if (able.length === 0) {
      const names = transports.map(({ name }) => name).join(', ');
      const text = `node ${node.id} at ${node.address} can be reached by none of ${names}; its protocol is ${node.metadata.protocol ?? 'unknown'}`;
      throw new RivuletError('CONNECTION_FAILED', text);
    }
    const { scheduler, dialTimeoutMs } = this.#options;
    const now = scheduler.monotonic();
    const sound = able.filter(({ name }) => !((this.#avoided.get(`${key} ${name}`) ?? 0) > now));
    const tried = sound.length > 0 ? sound : able;
    let failure: unknown;
    for (const [at, transport] of tried.entries()) {
      if (this.#isClosed) break;
      const isLast = at === tried.length - 1;
      const timeoutMs = isLast ? dialTimeoutMs : Math.min(PATIENCE_MS, dialTimeoutMs);
      // Of the ways that come before this one, the first that may be tried again.
      const better = able.slice(0, able.indexOf(transport));
      try {
        const entry = await this.#dialBy(transport, node, key, timeoutMs);
        for (const { name } of better) {
          const until = this.#avoided.get(`${key} ${name}`) ?? Number.POSITIVE_INFINITY;
          entry.retryAt = Math.min(entry.retryAt, until);
        }
        return entry;
      } catch (error) {
        failure = error;
        if (this.#avoided.size > 10_000) this.#avoided.clear();
        this.#avoided.set(`${key} ${transport.name}`, scheduler.monotonic() + AVOID_MS);
      }
    }
    if (this.#isClosed) throw new RivuletError('CLOSED', 'the client is closed', { sent: 'no' });
    throw failure;
  }

  async #dialBy(
    transport: Transport,
    node: ServiceNode,
    key: string,
    timeoutMs: number,
  ): Promise<Entry> {
    let isGone = false;
    const onGone = () => {
      isGone = true;
      const current = this.#open.get(key);
      if (current === entry && entry !== null) {
        entry.isGone = true;
        this.#open.delete(key);
      }
    };
    let entry: Entry | null = null;
    const dial = new AbortController();
    this.#dials.add(dial);
    let channel: Channel;
    try {
      channel = await transport.dial(node, { timeoutMs, onGone, signal: dial.signal });
    } finally {
      this.#dials.delete(dial);
    }
    const retryAt = Number.POSITIVE_INFINITY;
    entry = { channel, transport, nodeId: node.id, isGone, retryAt, isUsed: true };
    if (this.#isClosed) {
      await channel.close();
      throw new RivuletError('CLOSED', 'the client is closed', { sent: 'no' });
    }
    this.#open.set(key, entry);
    this.#shrink(key);
    this.#watchIdle();
    return entry;
  }

  /** A channel that had no call between two looks is closed at the second. */
  #watchIdle(): void {
    if (this.#stopIdle !== null || this.#isClosed || this.#open.size === 0) return;
    const look = () => {
      this.#stopIdle = null;
      for (const [key, entry] of [...this.#open]) {
        if (entry.isUsed || entry.channel.load > 0) {
          entry.isUsed = false;
          continue;
        }
        this.#open.delete(key);
        void entry.channel.close();
      }
      this.#watchIdle();
    };
    this.#stopIdle = this.#options.scheduler.after(this.#options.idleMs ?? IDLE_MS, look, false);
  }

  #shrink(kept: string): void {
    if (this.#open.size <= this.#options.maxChannels) return;
    // An idle one, else the oldest: its calls may finish.
    let victim: string | null = null;
    for (const [key, { channel }] of this.#open) {
      if (key === kept) continue;
      victim ??= key;
      if (channel.load > 0) continue;
      victim = key;
      break;
    }
    if (victim === null) return;
    const entry = this.#open.get(victim);
    this.#open.delete(victim);
    if (entry !== undefined) this.#giveUp(entry);
  }
}

/** A node that returns under another address, or another process under this one, is dialled again. */
function keyOf(node: ServiceNode): string {
  const { metadata } = node;
  return `${node.id} ${metadata['rivulet.tcp'] ?? node.address} ${metadata['rivulet.token'] ?? ''}`;
}
