/**
 * A client of ZooKeeper: one session over one connection at a time, on any of several servers.
 *
 * Holds the few operations that the registry needs. Invariants: after the first connection the client
 * connects again by itself until it is closed; a session that ended is followed by a new one, and
 * `onConnected` says so; a server that is behind what this client has seen refuses the session, which goes
 * on at another one; where none takes it up, as after a loss of the data, a server that refused it gets a
 * new session. A call that finds no connection waits for the attempt that runs and fails with
 * it. Cost: one socket.
 */
import { type ErrorCode, RivuletError } from '../../errors.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import type { JuteReader, JuteWriter } from './jute.ts';
import {
  type ConnectionOptions,
  ZookeeperConnection,
  type ZookeeperEvent,
  type ZookeeperReply,
  type ZookeeperSession,
} from './zookeeper-connection.ts';

const OP = {
  create: 1,
  delete: 2,
  exists: 3,
  getData: 4,
  setData: 5,
  getChildren: 8,
  addWatch: 106,
};
const NO_NODE = -101;
const NODE_EXISTS = -110;
const UNIMPLEMENTED = -6;
const EPHEMERAL = 1;
const ANY_VERSION = -1;
const PERSISTENT_RECURSIVE = 1;
const ALL_RIGHTS = 31;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2000;

const CODES: ReadonlyMap<number, readonly [ErrorCode, string]> = new Map([
  [-102, ['PERMISSION_DENIED', 'this client may not do that']],
  [-115, ['AUTHENTICATION_FAILED', 'the credentials are refused']],
  [-112, ['REGISTRY_UNAVAILABLE', 'the session has ended']],
]);

export interface ZookeeperClientOptions {
  /** host:port of each server. */
  readonly servers: readonly string[];
  readonly scheduler: Scheduler;
  /** How long one request, or one attempt to connect, may take, in milliseconds. */
  readonly timeoutMs: number;
  /** How long the server keeps a session, and its nodes, without a request from this client. */
  readonly sessionTimeoutMs: number;
  readonly auth?: { readonly scheme: string; readonly text: string };
  readonly tls?: NonNullable<ConnectionOptions['tls']>;
  readonly onEvent: (event: ZookeeperEvent) => void;
  /** A connection was made; `isNew`: the session too, so the nodes of the one before are gone. */
  readonly onConnected: (isNew: boolean) => void;
}

export interface NodeStat {
  /** The session whose node this is; 0 = none, it stays. */
  readonly owner: bigint;
}

export class ZookeeperClient {
  readonly #options: ZookeeperClientOptions;
  readonly #closing = new AbortController();
  #connection: ZookeeperConnection | null = null;
  #connecting: Promise<ZookeeperConnection> | null = null;
  #session: ZookeeperSession | null = null;
  #lastZxid = 0n;
  #server = 0;
  #wasConnected = false;
  #isWaiting = false;

  constructor(options: ZookeeperClientOptions) {
    this.#options = options;
  }

  /** The session's number; 0 before the first one. */
  get session(): bigint {
    return this.#session?.id ?? 0n;
  }

  /** False where the node is there already; NOT_FOUND where its parent is not. */
  async create(path: string, data: Uint8Array, isEphemeral: boolean): Promise<boolean> {
    const { code } = await this.#request(OP.create, (body) => {
      body.text(path).buffer(data);
      body.int(1).int(ALL_RIGHTS).text('world').text('anyone');
      body.int(isEphemeral ? EPHEMERAL : 0);
    });
    if (code === NODE_EXISTS) return false;
    if (code === NO_NODE) throw new RivuletError('NOT_FOUND', `${path} has no parent`);
    this.#check(code, `creates ${path}`);
    return true;
  }

  /** A node that is not there is no error. */
  async delete(path: string): Promise<void> {
    const { code } = await this.#request(OP.delete, (body) => body.text(path).int(ANY_VERSION));
    if (code !== NO_NODE) this.#check(code, `deletes ${path}`);
  }

  /** Null where there is no such node. */
  async stat(path: string): Promise<NodeStat | null> {
    const { code, body } = await this.#request(OP.exists, (out) => out.text(path).bool(false));
    if (code === NO_NODE) return null;
    this.#check(code, `looks at ${path}`);
    return readStat(body);
  }

  async data(path: string): Promise<Buffer | null> {
    const { code, body } = await this.#request(OP.getData, (out) => out.text(path).bool(false));
    if (code === NO_NODE) return null;
    this.#check(code, `reads ${path}`);
    return body.buffer();
  }

  /** False where there is no such node. */
  async setData(path: string, data: Uint8Array): Promise<boolean> {
    const { code } = await this.#request(OP.setData, (body) =>
      body.text(path).buffer(data).int(ANY_VERSION),
    );
    if (code === NO_NODE) return false;
    this.#check(code, `writes ${path}`);
    return true;
  }

  /** Empty where there is no such node. */
  async children(path: string): Promise<string[]> {
    const { code, body } = await this.#request(OP.getChildren, (out) => out.text(path).bool(false));
    if (code === NO_NODE) return [];
    this.#check(code, `lists ${path}`);
    return body.texts();
  }

  /** Events of the path and everything below it. False where the server is older than 3.6. */
  async watchBelow(path: string): Promise<boolean> {
    const { code } = await this.#request(OP.addWatch, (body) =>
      body.text(path).int(PERSISTENT_RECURSIVE),
    );
    if (code === UNIMPLEMENTED) return false;
    this.#check(code, `watches ${path}`);
    return true;
  }

  /** The session ends by its time, and its nodes with it. */
  close(): void {
    this.#closing.abort();
    this.#connection?.end('the registry is closed');
  }

  async #request(op: number, write: (body: JuteWriter) => void): Promise<ZookeeperReply> {
    return (await this.#connected()).request(op, write);
  }

  #check(code: number, what: string): void {
    if (code === 0) return;
    const [name, text] = CODES.get(code) ?? ['REGISTRY_UNAVAILABLE', `code ${code}`];
    throw new RivuletError(name, `ZooKeeper refuses what ${what}: ${text}`);
  }

  #connected(): Promise<ZookeeperConnection> {
    if (this.#closing.signal.aborted) {
      return Promise.reject(closed());
    }
    if (this.#connection !== null) return Promise.resolve(this.#connection);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  /** Each server once with the session; each that would not take it up once more, for a new session. */
  async #connect(): Promise<ZookeeperConnection> {
    const { servers, timeoutMs } = this.#options;
    const { signal } = this.#closing;
    const share = Math.max(1, Math.ceil(timeoutMs / servers.length));
    const refusing: number[] = [];
    let last: unknown = null;
    for (let tries = 0; tries < servers.length && !signal.aborted; tries++) {
      const at = this.#server;
      try {
        return await this.#open(servers[at] as string, share);
      } catch (error) {
        last = unavailable(error);
        if (this.#session !== null && isEnded(error)) {
          // Every server knows that: it is of no use to ask another one.
          refusing.unshift(at);
          break;
        }
        // It may be behind what this client has seen: the session goes on at another server.
        if (this.#session !== null && isRefused(error)) refusing.push(at);
        this.#server = (at + 1) % servers.length;
      }
    }
    for (const at of refusing) {
      if (signal.aborted) break;
      const [session, lastZxid] = [this.#session, this.#lastZxid];
      this.#session = null;
      this.#lastZxid = 0n;
      this.#server = at;
      try {
        return await this.#open(servers[at] as string, share);
      } catch (error) {
        // A server that takes no new session either, as one without a quorum, says nothing of this one.
        this.#session = session;
        this.#lastZxid = lastZxid;
        last = unavailable(error);
        this.#server = (at + 1) % servers.length;
      }
    }
    if (signal.aborted) throw closed();
    if (this.#wasConnected) this.#reconnectLater();
    throw last;
  }

  async #open(server: string, timeoutMs: number): Promise<ZookeeperConnection> {
    const { scheduler, sessionTimeoutMs, auth, tls, onEvent, onConnected } = this.#options;
    const before = this.#session;
    const connection = await ZookeeperConnection.open({
      server,
      scheduler,
      timeoutMs,
      sessionTimeoutMs,
      session: before,
      lastZxid: this.#lastZxid,
      ...(auth === undefined ? {} : { auth }),
      ...(tls === undefined ? {} : { tls }),
      onEvent,
      onEnd: (ended) => this.#ended(ended),
      signal: this.#closing.signal,
    });
    if (this.#closing.signal.aborted || connection.isOver) {
      connection.end('the registry is closed');
      throw new RivuletError('REGISTRY_UNAVAILABLE', `ZooKeeper at ${server} cannot be reached`);
    }
    this.#connection = connection;
    this.#session = connection.session;
    this.#wasConnected = true;
    onConnected(before?.id !== connection.session.id);
    return connection;
  }

  #ended(connection: ZookeeperConnection): void {
    if (this.#connection !== connection) return;
    this.#connection = null;
    if (connection.lastZxid > this.#lastZxid) this.#lastZxid = connection.lastZxid;
    this.#reconnectLater();
  }

  #reconnectLater(): void {
    if (this.#isWaiting || this.#closing.signal.aborted) return;
    this.#isWaiting = true;
    void this.#reconnect().finally(() => {
      this.#isWaiting = false;
    });
  }

  async #reconnect(): Promise<void> {
    const { scheduler } = this.#options;
    for (let failures = 0; this.#connection === null; failures++) {
      const most = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** failures);
      const wait = most * (0.5 + scheduler.fraction() / 2);
      await pause(scheduler, wait, this.#closing.signal).catch(() => {});
      if (this.#closing.signal.aborted) return;
      await this.#connected().catch(() => {});
    }
  }
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the registry is closed; open another one');
}

function isEnded(error: unknown): boolean {
  return error instanceof RivuletError && error.code === 'NOT_FOUND';
}

function isRefused(error: unknown): boolean {
  return error instanceof RivuletError && error.code === 'CONNECTION_FAILED';
}

function unavailable(error: unknown): unknown {
  if (!isEnded(error) && !isRefused(error)) return error;
  const { message } = error as RivuletError;
  return new RivuletError('REGISTRY_UNAVAILABLE', message, { cause: error });
}

function readStat(body: JuteReader): NodeStat {
  for (let i = 0; i < 4; i++) body.long();
  for (let i = 0; i < 3; i++) body.int();
  return { owner: body.long() };
}
