/**
 * The connection to NATS, and JetStream on it.
 *
 * nats.js reconnects and resubscribes; this module watches it. Invariants: without a connection a call
 * fails with NOT_CONNECTED at once and fills no buffer; callers decide how long they wait. Pings end a
 * silent connection within three times `PING_MS`. What must outlive the process is written to a second
 * connection (outgoing.ts).
 */
import {
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
} from '@nats-io/jetstream';
import {
  type ConnectionOptions,
  connect,
  type NatsConnection,
  PermissionViolationError,
} from '@nats-io/transport-node';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Events,
  pause,
  RivuletError,
  withoutPassword,
} from 'rivulet/adapter';
import { readAddress } from './address.ts';
import { certificateFault, toRivulet } from './errors.ts';
import { Outgoing } from './outgoing.ts';

const PING_MS = 2000;
const REQUEST_MS = 4000;
/** How long a close waits at most for the server to have read what was written. */
const CLOSE_MS = 1000;
/** The longest wait for a cluster's nodes to learn of a responder. */
const SPREAD_MS = 2000;
const OLDEST: readonly [number, number] = [2, 9];

export class Link {
  readonly #options: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  readonly #onReady = new Set<() => void>();
  readonly #onLost = new Set<(error: RivuletError) => void>();
  readonly #onRefused = new Set<(subject: string, error: RivuletError) => void>();
  #nc: NatsConnection | null = null;
  #js: JetStreamClient | null = null;
  #jsm: JetStreamManager | null = null;
  #connected = false;
  #closed = false;
  /** Attempts to connect since the connection was lost, and the wait between two to one server. */
  #attempts = 0;
  #waitMs = 0;

  /** For what consumers write. */
  readonly outgoing: Outgoing;

  constructor(options: BrokerOptions, events: Events<BrokerEvents>) {
    this.#options = options;
    this.#events = events;
    this.outgoing = new Outgoing({
      other: () => this.nc,
      connect: async () => (options.client?.connection === undefined ? this.#connect() : null),
      onError: (error) => this.#refused(error),
      waitMs: CLOSE_MS,
      scheduler: options.scheduler,
    });
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Throws NOT_CONNECTED while there is no connection. */
  get nc(): NatsConnection {
    if (this.#closed) throw new RivuletError('CLOSED', 'the nats broker is disconnected');
    if (this.#nc === null || !this.#connected) {
      throw new RivuletError('NOT_CONNECTED', 'there is no connection to NATS');
    }
    return this.#nc;
  }

  get js(): JetStreamClient {
    void this.nc;
    return this.#js as JetStreamClient;
  }

  get jsm(): JetStreamManager {
    void this.nc;
    return this.#jsm as JetStreamManager;
  }

  get maxPayload(): number {
    return this.#nc?.info?.max_payload ?? 1024 * 1024;
  }

  /** Whether streams can have replicas. */
  get clustered(): boolean {
    return this.#nc?.info?.cluster !== undefined;
  }

  onReady(listener: () => void): () => void {
    this.#onReady.add(listener);
    return () => this.#onReady.delete(listener);
  }

  onLost(listener: (error: RivuletError) => void): () => void {
    this.#onLost.add(listener);
    return () => this.#onLost.delete(listener);
  }

  /** Calls the listener when the server forbids this user to publish to a subject. */
  onRefused(listener: (subject: string, error: RivuletError) => void): () => void {
    this.#onRefused.add(listener);
    return () => this.#onRefused.delete(listener);
  }

  async open(signal: AbortSignal): Promise<void> {
    const nc = await this.#reach(signal);
    this.#nc = nc;
    this.#checkVersion(nc);
    this.#connected = true;
    void this.#watch(nc);
    this.#js = jetstream(nc, { timeout: REQUEST_MS });
    for (let attempt = 1; ; attempt++) {
      try {
        this.#jsm = await jetstreamManager(nc, { timeout: REQUEST_MS });
        return;
      } catch (error) {
        const known = toRivulet(error);
        // A cluster that has just started has not elected its leader yet.
        if (known.code !== 'NOT_CONNECTED') throw known;
        if (signal.aborted) {
          const text = `JetStream at ${withoutPassword(nc.getServer())} does not answer: is it enabled?`;
          throw new RivuletError('UNSUPPORTED', text, { cause: error });
        }
      }
      await pause(this.#options.scheduler, Math.min(50 * attempt, 500), signal).catch(() => {});
    }
  }

  /** Runs `work` and translates the errors of nats.js. */
  async try<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw toRivulet(error);
    }
  }

  /**
   * Resolves once each node of the cluster that can be reached delivers to this subject, whose subscriber
   * replies to requests; after `SPREAD_MS` at the latest. Until a node has learned of the subscription,
   * requests of its clients fail.
   */
  async knownEverywhere(subject: string): Promise<void> {
    const { nc } = this;
    if (!this.clustered || nc === this.#options.client?.connection) return;
    const own = nc.getServer();
    const nodes = new Set([...(nc.info?.connect_urls ?? []), ...this.#hosts]);
    nodes.delete(own);
    const end = this.#options.scheduler.monotonic() + SPREAD_MS;
    await Promise.all([...nodes].map((node) => this.#knownAt(node, subject, end)));
  }

  async #knownAt(node: string, subject: string, end: number): Promise<void> {
    const { scheduler } = this.#options;
    const settings = { ...this.#settings(), reconnect: false, timeout: SPREAD_MS };
    // A node that cannot be reached has no clients.
    const other = await connect({ ...settings, servers: [node] }).catch(() => null);
    if (other === null) return;
    try {
      while (scheduler.monotonic() < end) {
        try {
          await other.request(subject, '', { timeout: SPREAD_MS });
          return;
        } catch {
          await pause(scheduler, 5);
        }
      }
    } finally {
      await other.close();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const nc = this.#nc;
    await this.outgoing.close();
    if (nc === null || nc === this.#options.client?.connection) return;
    if (this.#connected) {
      // After the flush the server has received the acknowledgements that were written before.
      await Promise.race([nc.flush(), pause(this.#options.scheduler, CLOSE_MS)]).catch(() => {});
    }
    this.#connected = false;
    await nc.close();
  }

  async #reach(signal: AbortSignal): Promise<NatsConnection> {
    const given = this.#options.client?.connection as NatsConnection | undefined;
    if (given !== undefined) return given;
    let last: RivuletError | undefined;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        this.#countAttempts(0);
        return await this.#connect();
      } catch (error) {
        const fault = certificateFault(error);
        if (fault !== null) {
          const text = `the certificate of the NATS server is not trusted: ${fault}; give its authority as client: { tls: { ca } }`;
          throw new RivuletError('CONNECTION_FAILED', text, { cause: error });
        }
        last = toRivulet(error);
        if (last.code !== 'NOT_CONNECTED') throw last;
      }
      await pause(this.#options.scheduler, Math.min(50 * attempt, 500), signal).catch(() => {});
    }
    const text = `no connection within ${this.#options.connectTimeoutMs} ms`;
    throw new RivuletError('CONNECTION_FAILED', text, { cause: last });
  }

  #connect(): Promise<NatsConnection> {
    return connect({
      servers: [...this.#hosts],
      reconnect: true,
      maxReconnectAttempts: -1,
      // nats.js calls this more than once per attempt, so it must not count the calls.
      reconnectDelayHandler: () => this.#waitMs,
      ...this.#settings(),
    });
  }

  /** The options of every connection: this client's, and those to the other nodes of a cluster. */
  #settings(): ConnectionOptions {
    const { addresses, clientName, connectTimeoutMs, client } = this.#options;
    const [first] = addresses;
    return {
      name: clientName,
      ...(first === undefined ? {} : readAddress(first).credentials),
      timeout: Math.min(connectTimeoutMs, 5000),
      pingInterval: PING_MS,
      maxPingOut: 2,
      ...client,
    };
  }

  get #hosts(): readonly string[] {
    return this.#options.addresses.map((address) => readAddress(address).host);
  }

  #checkVersion(nc: NatsConnection): void {
    const [major = 0, minor = 0] = (nc.info?.version ?? '').split('.').map(Number);
    if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
    const text = `NATS ${nc.info?.version} at ${withoutPassword(nc.getServer())} is too old: JetStream is used as of ${OLDEST.join('.')}`;
    throw new RivuletError('SERVER_TOO_OLD', text);
  }

  #countAttempts(attempts: number): void {
    const { reconnect, scheduler } = this.#options;
    this.#attempts = attempts;
    this.#waitMs = backoffMs(reconnect, attempts, scheduler.fraction());
  }

  async #watch(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      if (this.#closed) return;
      if (status.type === 'disconnect' || status.type === 'staleConnection') {
        this.#lost('the connection to NATS was lost');
      } else if (status.type === 'reconnecting') {
        this.#countAttempts(this.#attempts + 1);
      } else if (status.type === 'reconnect') {
        this.#connected = true;
        for (const listener of this.#onReady) listener();
        this.#events.emit('connected', { attempt: Math.max(1, this.#attempts) });
        this.#countAttempts(0);
      } else if (status.type === 'error') {
        this.#refused(status.error);
      }
    }
    if (!this.#closed) this.#lost('the connection to NATS was closed and is not opened again');
  }

  #refused(cause: Error): void {
    const error = toRivulet(cause);
    this.#events.emit('warning', { error });
    if (!(cause instanceof PermissionViolationError) || cause.operation !== 'publish') return;
    for (const listener of this.#onRefused) listener(cause.subject, error);
  }

  #lost(text: string): void {
    if (!this.#connected) return;
    this.#connected = false;
    const error = new RivuletError('NOT_CONNECTED', text);
    this.#events.emit('disconnected', { cause: error });
    for (const listener of this.#onLost) listener(error);
  }
}
