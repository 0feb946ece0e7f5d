/**
 * Sends what is published to the nodes of a cluster, in the order of the calls.
 *
 * ioredis redirects and repeats single commands, and queues them for a node that it connects to: of two
 * publishes to one topic the second could arrive first. So a publish goes to the node that has its
 * slot, and everything that hinders it is an outage: then the publishes of its topic wait, and are
 * tried again in order (outage-retry.ts).
 * Invariants: publishes to one slot reach its node in the order of the calls. While some are unanswered
 * at one node, none is sent to another.
 * Cost: one map entry for each slot with unanswered publishes; a publish looks through the masters.
 */
import { type Cluster, Command, type Redis } from 'ioredis';
import { isOutage, RivuletError } from 'rivulet/adapter';
import { toRivulet } from './errors.ts';

/** Keys of which is known that their slot is moving. */
const MAX_MOVING = 10_000;

/** The node that has unanswered publishes to a slot. */
interface Route {
  readonly node: Redis;
  unanswered: number;
}

export class ClusterRoutes {
  readonly #cluster: Cluster;
  readonly #routes = new Map<number, Route>();
  /** Keys that have left their node while their slot is moved to another: the address of that one. */
  readonly #moving = new Map<string, string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    // What has moved has its new node among the slots now.
    cluster.on('refresh', () => this.#moving.clear());
  }

  /** Calls `send` at once with the key's node. Rejects with NOT_CONNECTED if it cannot be reached. */
  async send<T>(key: string, send: (node: Redis) => Promise<T>): Promise<T> {
    const slot = new Command('EXISTS', [key]).getSlot();
    const movingTo = this.#moving.get(key);
    const node = this.#nodeAt(movingTo ?? this.#cluster.slots[slot]?.[0]);
    let route = this.#routes.get(slot);
    if (route === undefined) {
      route = { node, unanswered: 0 };
      this.#routes.set(slot, route);
    } else if (route.node !== node) {
      throw outage(`earlier publishes to ${key} are unanswered at another node`);
    }
    route.unanswered++;
    try {
      // The node executes what follows this, in spite of the slot's owner.
      if (movingTo !== undefined) node.asking().catch(() => {});
      return await send(node);
    } catch (error) {
      this.#learn(key, error as Error);
      throw error;
    } finally {
      route.unanswered--;
      if (route.unanswered === 0) this.#routes.delete(slot);
    }
  }

  #nodeAt(address: string | undefined): Redis {
    for (const node of this.#cluster.nodes('master')) {
      if (`${node.options.host}:${node.options.port}` === address) return node;
    }
    this.#refresh();
    throw outage(`there is no connection to the node ${address ?? 'of the slot'}`);
  }

  /** The node has said who has the slot, or it is gone. */
  #learn(key: string, error: Error): void {
    if (!isOutage(toRivulet(error))) return;
    const [word, , address] = error.message.split(' ');
    if (word !== 'ASK' || address === undefined) {
      this.#moving.delete(key);
      this.#refresh();
      return;
    }
    if (this.#moving.size >= MAX_MOVING) this.#moving.clear();
    this.#moving.set(key, address);
    // ioredis connects to that node when it is sent there itself.
    this.#cluster.exists(key).catch(() => {});
  }

  #refresh(): void {
    if (this.#cluster.status === 'ready') this.#cluster.refreshSlotsCache();
  }
}

function outage(text: string): RivuletError {
  return new RivuletError('NOT_CONNECTED', text);
}
