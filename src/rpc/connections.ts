/**
 * The channels of a client: one per node and transport, kept while it is good.
 *
 * Holds: open channels and dials under way. Invariants: one dial per node at a time; a channel whose
 * peer is gone is used for no new call; with `auto` the node is reached by the first transport that
 * can, and one that failed is left alone for `AVOID_MS` while another can. Bound: `maxChannels`, the
 * one used longest ago is closed first. Cost: one map look-up per call.
 */
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Channel, Transport } from '../transport/transport.ts';
import type { Scheduler } from '../util/scheduler.ts';

const AVOID_MS = 30_000;
const DRAIN_MS = 5000;

export interface ConnectionsOptions {
  /** In order of preference. */
  readonly transports: readonly Transport[];
  readonly scheduler: Scheduler;
  /** Default 5 000, go-micro's. */
  readonly dialTimeoutMs: number;
  /** Default 100, go-micro's pool size. */
  readonly maxChannels: number;
}

export interface Connected {
  readonly channel: Channel;
  readonly transport: Transport;
}

interface Entry extends Connected {
  readonly nodeId: string;
  isGone: boolean;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #open = new Map<string, Entry>();
  readonly #dialing = new Map<string, Promise<Entry>>();
  /** Node and transport, and until when it is left alone (monotonic milliseconds). */
  readonly #avoided = new Map<string, number>();
  #isClosed = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** The channel to the node; a promise only when it must be dialled. */
  to(node: ServiceNode): Connected | Promise<Connected> {
    const key = keyOf(node);
    const entry = this.#open.get(key);
    if (entry !== undefined && !entry.isGone) return entry;
    let dialing = this.#dialing.get(key);
    if (dialing === undefined) {
      dialing = this.#dial(node, key).finally(() => this.#dialing.delete(key));
      this.#dialing.set(key, dialing);
    }
    return dialing;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#dialing.values());
    const open = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(open.map(({ channel }) => channel.close()));
  }

  async #dial(node: ServiceNode, key: string): Promise<Entry> {
    const able = this.#options.transports.filter((transport) => transport.canDial(node));
    if (able.length === 0) {
      const names = this.#options.transports.map(({ name }) => name).join(', ');
      const text = `node ${node.id} at ${node.address} can be reached by none of ${names}; its protocol is ${node.metadata.protocol ?? 'unknown'}`;
      throw new RivuletError('CONNECTION_FAILED', text);
    }
    const now = this.#options.scheduler.monotonic();
    const sound = able.filter(({ name }) => !((this.#avoided.get(`${key} ${name}`) ?? 0) > now));
    let failure: unknown;
    for (const transport of sound.length > 0 ? sound : able) {
      if (this.#isClosed) break;
      try {
        return await this.#dialBy(transport, node, key);
      } catch (error) {
        failure = error;
        if (this.#avoided.size > 10_000) this.#avoided.clear();
        this.#avoided.set(
          `${key} ${transport.name}`,
          this.#options.scheduler.monotonic() + AVOID_MS,
        );
      }
    }
    if (this.#isClosed) throw new RivuletError('CLOSED', 'the client is closed', { sent: 'no' });
    throw failure;
  }

  async #dialBy(transport: Transport, node: ServiceNode, key: string): Promise<Entry> {
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
    const { dialTimeoutMs } = this.#options;
    const channel = await transport.dial(node, { timeoutMs: dialTimeoutMs, onGone });
    entry = { channel, transport, nodeId: node.id, isGone };
    if (this.#isClosed) {
      await channel.close();
      throw new RivuletError('CLOSED', 'the client is closed', { sent: 'no' });
    }
    this.#open.set(key, entry);
    this.#shrink(key);
    return entry;
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
    void entry?.channel.close(DRAIN_MS);
  }
}

/** A node that returns under another address, or another process under this one, is dialled again. */
function keyOf(node: ServiceNode): string {
  const { metadata } = node;
  return `${node.id} ${metadata['rivulet.tcp'] ?? node.address} ${metadata['rivulet.token'] ?? ''}`;
}
