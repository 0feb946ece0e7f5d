/**
 * The Registry: which nodes offer which service.
 *
 * Contract only; records are go-micro's. Every implementation (memory, static, mdns, etcd, nats,
 * broker, ...) passes the registry suite of src/conformance. Invariants: a node that is not renewed
 * within its TTL disappears; an empty answer means that no node is known, and an answer that could
 * not be had is REGISTRY_UNAVAILABLE, never an empty list.
 */

/** A value in a request or response, as go-micro describes it; at most three levels deep. */
export interface ServiceValue {
  readonly name: string;
  /** `string`, `int64`, the name of a message, `[]Name` for a list. */
  readonly type: string;
  readonly values: readonly ServiceValue[];
}

export interface ServiceEndpoint {
  /** `Struct.Method`. */
  readonly name: string;
  readonly request: ServiceValue | null;
  readonly response: ServiceValue | null;
  /** `stream: 'true'` for streams; the gateway's routes are here too. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ServiceNode {
  /** `<service>-<unique>`. */
  readonly id: string;
  /** host:port */
  readonly address: string;
  /** `protocol`, `transport`, `broker`, `server`, `registry`, and `rivulet.*` of ours. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** One version of one service, with the nodes that run it. */
export interface ServiceRecord {
  readonly name: string;
  readonly version: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly endpoints: readonly ServiceEndpoint[];
  readonly nodes: readonly ServiceNode[];
}

export interface RegistryEvent {
  /** `update` is a node that registered again with other contents. */
  readonly action: 'create' | 'update' | 'delete';
  /** The version of the service that changed, with the nodes that the change is about. */
  readonly service: ServiceRecord;
}

export interface RegisterOptions {
  /** Milliseconds after which the nodes disappear unless they register again. */
  readonly ttlMs: number;
}

export interface WatchOptions {
  /** Ends the watch. */
  readonly signal?: AbortSignal;
}

export interface Registry extends AsyncDisposable {
  /** `memory`, `static`, `mdns`, `etcd`, `nats`, `broker`, ... */
  readonly name: string;
  /** Adds the nodes of the record, or renews them; also replaces what was registered of them before. */
  register(service: ServiceRecord, options: RegisterOptions): Promise<void>;
  /** Removes the nodes of the record; nodes that are not there are no error. */
  deregister(service: ServiceRecord): Promise<void>;
  /** Every version of the service that has nodes; empty when none is known. */
  getService(name: string): Promise<ServiceRecord[]>;
  /** Every service that has nodes, one record per name and version. */
  listServices(): Promise<ServiceRecord[]>;
  /**
   * Changes of one service, or of all, from now on. Ends with the signal, with `close`, or when the
   * loop over it is left. After a cut the implementation reads everything again and reports the
   * differences, so that a watcher that began with `getService` misses nothing.
   */
  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent>;
  /** Ends watches, timers and connections. What was registered stays until its TTL. Idempotent. */
  close(): Promise<void>;
}
