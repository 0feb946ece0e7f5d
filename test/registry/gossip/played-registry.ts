/** One registry on a network on which the test plays the other members, on a virtual clock. */
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import type { GossipRegistryOptions } from '../../../src/registry/gossip/options.ts';
import type { Endpoint } from '../../../src/registry/gossip/wire/endpoint.ts';
import {
  ALIVE,
  type Alive,
  encodeMessage,
  type GossipMessage,
  OWN_VERSIONS,
  USER,
} from '../../../src/registry/gossip/wire/messages.ts';
import { openPacket } from '../../../src/registry/gossip/wire/packet.ts';
import { encodeState, type MemberFact } from '../../../src/registry/gossip/wire/push-pull.ts';
import { encodeUpdate } from '../../../src/registry/gossip/wire/update.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import type { ServiceRecord } from '../../../src/registry/registry.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { streamOf } from './memory-stream.ts';
import { PlayedNetwork } from './played-network.ts';

/** Where the member is that the test plays. */
export const GO: Endpoint = { host: '127.0.0.1', port: 9000 };

export class PlayedRegistry {
  readonly scheduler = new VirtualScheduler(5);
  readonly network = new PlayedNetwork();
  readonly warnings: string[] = [];
  readonly registry: GossipRegistry;

  private constructor(options: GossipRegistryOptions) {
    const onWarning = (error: Error) => this.warnings.push(error.message);
    const own = { scheduler: this.scheduler, name: 'own', onWarning };
    this.registry = new GossipRegistry({ ...own, ...options }, this.network);
  }

  static async open(options: GossipRegistryOptions = {}): Promise<PlayedRegistry> {
    const played = new PlayedRegistry(options);
    await played.registry.address();
    return played;
  }

  /** It probes no member within the hour. */
  static quiet(options: GossipRegistryOptions = {}): Promise<PlayedRegistry> {
    return PlayedRegistry.open({ probeIntervalMs: 3600_000, ...options });
  }

  packet(bytes: Uint8Array, from = GO): void {
    this.network.handlers?.onPacket(bytes, from);
  }

  send(message: GossipMessage, from = GO): void {
    this.packet(encodeMessage(message), from);
  }

  update(action: 'create' | 'delete', record: ServiceRecord, member: string | null = null): void {
    const json = Buffer.from(encodeRecord(record));
    const update = { action, version: 5n, ttlMs: 3600_000, member, record: json };
    this.send({ type: USER, bytes: encodeUpdate(update) });
  }

  /** As go-micro announces it: with the time at which the record ends by its clock. */
  announce(id: string, expiresMs: number, from = GO): void {
    const record = Buffer.from(encodeRecord(recordOf(id)));
    const version = BigInt(Math.round(expiresMs)) * 1_000_000n;
    const update = { action: 'create', version, ttlMs: null, member: null, record } as const;
    this.send({ type: USER, bytes: encodeUpdate(update) }, from);
  }

  /** Exchanges everything as a member that has just come. Returns what the registry answered. */
  async state(user: Uint8Array, members: readonly MemberFact[] = []): Promise<Uint8Array> {
    const bytes = encodeState({ isJoin: true, members, user });
    let answer: Uint8Array = new Uint8Array(0);
    const write = async (written: Uint8Array) => {
      answer = Uint8Array.from(written);
    };
    await this.network.handlers?.onStream({ ...streamOf(bytes), write }, GO);
    return answer;
  }

  async join(state: Record<string, unknown[]>): Promise<void> {
    await this.state(Buffer.from(JSON.stringify(state)));
  }

  /** What was sent since the last call. */
  sent(): GossipMessage[] {
    return this.network.sent.splice(0).flatMap(({ bytes }) => openPacket(bytes, null).messages);
  }

  async nodes(): Promise<string[]> {
    const found = await this.registry.getService('orders');
    return found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();
  }
}

export function nodeOf(id: string, text = '') {
  return { id, address: '127.0.0.1:40001', metadata: text === '' ? {} : { text } };
}

export function recordOf(id: string): ServiceRecord {
  return { name: 'orders', version: 'latest', metadata: {}, endpoints: [], nodes: [nodeOf(id)] };
}

export function aliveOf(node: string): Alive {
  const meta = new Uint8Array(0);
  return { type: ALIVE, node, endpoint: GO, meta, versions: OWN_VERSIONS, incarnation: 1 };
}
