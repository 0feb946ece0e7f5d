/**
 * The network and the registries of a test world: nodes that die, freeze and thaw; a registry that
 * goes away and comes back.
 *
 * Invariants: a killed node answers nothing more and renews nothing; calls of a frozen node wait until
 * it thaws, as bytes in a socket do; everything else is the local transport and the memory registry.
 */
import { RivuletError } from '../errors.ts';
import { MemoryRegistry } from '../registry/memory.ts';
import { NodeTable } from '../registry/node-table.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceNode,
  ServiceRecord,
  WatchOptions,
} from '../registry/registry.ts';
import { LocalTransport } from '../transport/local/local.ts';
import type {
  Call,
  CallHandler,
  Channel,
  DialOptions,
  Listener,
  ListenOptions,
  OutgoingCall,
  Reply,
  Transport,
} from '../transport/transport.ts';
import type { Scheduler } from '../util/time/scheduler.ts';

export class TestNetwork {
  readonly #scheduler: Scheduler;
  readonly #dead = new Set<string>();
  /** Calls that wait for the thaw of their node. */
  readonly #frozen = new Map<string, (() => void)[]>();
  /** What ends a call or a connection when its node dies. */
  readonly #ends = new Map<string, Set<() => void>>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  transport(): Transport {
    return new TestTransport(this, new LocalTransport(this.#scheduler));
  }

  kill(nodeId: string): void {
    this.#dead.add(nodeId);
    this.#frozen.delete(nodeId);
    for (const end of [...(this.#ends.get(nodeId) ?? [])]) end();
    this.#ends.delete(nodeId);
  }

  freeze(nodeId: string): void {
    if (!this.#frozen.has(nodeId)) this.#frozen.set(nodeId, []);
  }

  thaw(nodeId: string): void {
    const waiting = this.#frozen.get(nodeId) ?? [];
    this.#frozen.delete(nodeId);
    for (const run of waiting) run();
  }

  isDead(nodeId: string): boolean {
    return this.#dead.has(nodeId);
  }

  /** Runs now, at the thaw, or never. */
  reach(nodeId: string, run: () => void): void {
    if (this.isDead(nodeId)) return;
    const waiting = this.#frozen.get(nodeId);
    if (waiting === undefined) run();
    else waiting.push(run);
  }

  /** Calls back when the node dies; the returned function ends that. */
  onDeath(nodeId: string, end: () => void): () => void {
    let ends = this.#ends.get(nodeId);
    if (ends === undefined) {
      ends = new Set();
      this.#ends.set(nodeId, ends);
    }
    ends.add(end);
    return () => ends.delete(end);
  }
}

class TestTransport implements Transport {
  // Values travel as they do within one process.
  readonly name = 'local';
  readonly #network: TestNetwork;
  readonly #local: LocalTransport;

  constructor(network: TestNetwork, local: LocalTransport) {
    this.#network = network;
    this.#local = local;
  }

  canDial(node: ServiceNode): boolean {
    return this.#network.isDead(node.id) || this.#local.canDial(node);
  }

  listen(options: ListenOptions): Promise<Listener> {
    const { nodeId = '', handler } = options;
    const reached: CallHandler = (call) => this.#network.reach(nodeId, () => handler(call));
    return this.#local.listen({ ...options, handler: reached });
  }

  async dial(node: ServiceNode, options: DialOptions = {}): Promise<Channel> {
    if (this.#network.isDead(node.id)) {
      throw new RivuletError('CONNECTION_FAILED', `node ${node.id} is dead`);
    }
    const channel = await this.#local.dial(node);
    this.#network.onDeath(node.id, () => options.onGone?.());
    return new MortalChannel(this.#network, node.id, channel);
  }
}

/** A channel whose calls end with its node. */
class MortalChannel implements Channel {
  readonly #network: TestNetwork;
  readonly #nodeId: string;
  readonly #channel: Channel;

  constructor(network: TestNetwork, nodeId: string, channel: Channel) {
    this.#network = network;
    this.#nodeId = nodeId;
    this.#channel = channel;
  }

  get load(): number {
    return this.#channel.load;
  }

  async request(call: OutgoingCall): Promise<Reply> {
    const own = new AbortController();
    const signal = call.signal === null ? own.signal : AbortSignal.any([call.signal, own.signal]);
    const forget = this.#network.onDeath(this.#nodeId, () => own.abort());
    try {
      return await this.#channel.request({ ...call, signal });
    } catch (error) {
      throw own.signal.aborted ? this.#lost() : error;
    } finally {
      forget();
    }
  }

  call(call: OutgoingCall): Call {
    const opened = this.#channel.call(call);
    const forget = this.#network.onDeath(this.#nodeId, () => opened.cancel(this.#lost()));
    opened.trailers.then(forget, forget);
    return opened;
  }

  close(drainMs?: number): Promise<void> {
    return this.#channel.close(drainMs);
  }

  #lost(): RivuletError {
    return new RivuletError('RESPONDER_LOST', `node ${this.#nodeId} died`);
  }
}

/** Doors to one memory registry, which may be down. */
export class TestRegistries {
  isDown = false;
  readonly #scheduler: Scheduler;
  readonly #table: NodeTable;
  readonly #doors: Door[] = [];

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    this.#table = new NodeTable(scheduler);
  }

  door(): Door {
    const door = new Door(new MemoryRegistry(this.#scheduler, this.#table), () => this.isDown);
    this.#doors.push(door);
    return door;
  }

  async close(): Promise<void> {
    await Promise.all(this.#doors.map((door) => door.close()));
    this.#table.close();
  }
}

class Door implements Registry {
  readonly name = 'test';
  readonly #registry: MemoryRegistry;
  readonly #isDown: () => boolean;
  #isCut = false;

  constructor(registry: MemoryRegistry, isDown: () => boolean) {
    this.#registry = registry;
    this.#isDown = isDown;
  }

  /** As for a process that was killed. */
  cut(): void {
    this.#isCut = true;
  }

  async register(service: ServiceRecord, options: RegisterOptions): Promise<void> {
    this.#check();
    await this.#registry.register(service, options);
  }

  async deregister(service: ServiceRecord): Promise<void> {
    this.#check();
    await this.#registry.deregister(service);
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    this.#check();
    return this.#registry.getService(name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    this.#check();
    return this.#registry.listServices();
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    return this.#registry.watch(name, options);
  }

  close(): Promise<void> {
    return this.#registry.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(): void {
    if (!this.#isCut && !this.#isDown()) return;
    throw new RivuletError('REGISTRY_UNAVAILABLE', 'the registry of the test is down');
  }
}
