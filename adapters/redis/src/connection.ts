/**
 * Connections to one server or one cluster, and commands on them.
 *
 * A connection is made from addresses, or as a duplicate of a given client. It wraps ioredis: replies are
 * Buffers, errors have Rivulet's codes. Invariants: without a connection a command fails at once and is
 * not queued; callers decide how long they wait. `socketTimeout` ends a connection that stops replying.
 * Cost: one promise and one timeout entry per command.
 */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import {
  type BrokerOptions,
  backoffMs,
  RivuletError,
  type Scheduler,
  Timeouts,
} from 'rivulet/adapter';
import { type Address, readAddress } from './address.ts';
import { ClusterRoutes } from './cluster-routes.ts';
import { type Script, scripts } from './dialect/lua-scripts.ts';
import { toRivulet } from './errors.ts';

export type Client = Redis | Cluster;
export type Argument = string | number | Uint8Array;
export type CommandLine = readonly [string, ...Argument[]];

/** A socket is closed when a command on it gets no reply for this long. */
const SILENCE_MS = 4000;
/** A cluster's client may wait without end for a node that died while it was connecting. */
const CONNECT_MS = 5000;
/** A cluster's client asks this often which node has which slot. */
const SLOTS_EVERY_MS = 5000;
/** This many commands are sent without waiting for the end of the turn. */
const ENOUGH_FOR_A_WRITE = 32;

export class Connector {
  readonly #options: BrokerOptions;
  readonly #given: Client | null;
  readonly #addresses: readonly string[];
  readonly #extra: RedisOptions;
  readonly #timeouts: Timeouts;
  #address = 0;
  /** Set once a server has reported that it is part of a cluster. */
  cluster = false;

  constructor(options: BrokerOptions) {
    const { redis, ...rest } = (options.client ?? {}) as { redis?: Client };
    this.#options = options;
    this.#given = redis ?? null;
    this.#addresses = options.addresses;
    this.#timeouts = new Timeouts(options.scheduler);
    this.#extra = rest;
    this.cluster = redis instanceof Cluster || (redis?.isCluster ?? false);
    if (redis !== undefined && (redis.options as { keyPrefix?: string }).keyPrefix) {
      throw new RivuletError('INVALID_ARGUMENT', 'a client with a keyPrefix cannot be used');
    }
  }

  /** Not connected yet. `blockMs`: the longest that a command of it blocks. */
  make(name: string, blockMs = 0): Connection {
    const { clientName, reconnect, scheduler } = this.#options;
    const retry = (times: number) => backoffMs(reconnect, times, scheduler.fraction());
    const shared: ConnectionOptions = {
      ...this.#extra,
      lazyConnect: true,
      enableOfflineQueue: false,
      // The listener subscribes again, so that it knows when that is done.
      autoResubscribe: this.cluster,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: Math.min(this.#options.connectTimeoutMs, 5000),
      socketTimeout: SILENCE_MS + blockMs,
      connectionName: `${clientName}:${name}`.replace(/[^\x21-\x7e]/g, '_'),
      protocol: 2,
      replyMapping: 'legacy',
      retryStrategy: retry,
      // The server has become a replica: reconnecting finds the master.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    };
    const client = this.cluster ? this.#makeCluster(name, shared, retry) : this.#makeOne(shared);
    return new Connection(client, scheduler, this.#timeouts, blockMs + 2 * SILENCE_MS);
  }

  #makeOne(shared: ConnectionOptions): Client {
    if (this.#given !== null) return (this.#given as Redis).duplicate(shared);
    const { host, port, username, password, database, tls } = this.current;
    return new Redis({
      host,
      port,
      db: database,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(tls ? { tls: {} } : {}),
      ...shared,
    });
  }

  /** The address of the next attempt. */
  get current(): Address {
    return readAddress(this.#addresses[this.#address] ?? 'redis://127.0.0.1');
  }

  /** Moves on to the next of several single servers. */
  nextAddress(): void {
    this.#address = (this.#address + 1) % Math.max(1, this.#addresses.length);
  }

  #makeCluster(name: string, shared: ConnectionOptions, retry: (times: number) => number): Client {
    const { connectTimeoutMs } = this.#options;
    const { retryStrategy: _, enableOfflineQueue: __, lazyConnect: ___, ...redisOptions } = shared;
    const options: Omit<ClusterOptions, 'redisOptions'> = {
      lazyConnect: true,
      enableOfflineQueue: false,
      clusterRetryStrategy: retry,
      retryDelayOnFailover: 50,
      retryDelayOnClusterDown: 50,
      maxRedirections: 4,
      slotsRefreshTimeout: Math.min(connectTimeoutMs, 2000),
      slotsRefreshInterval: 0,
      shardedSubscribers: name === 'requests',
    };
    if (this.#given instanceof Cluster) {
      return this.#given.duplicate([], {
        ...options,
        redisOptions: { ...this.#given.options.redisOptions, ...redisOptions },
      } as ClusterConstructorOptions);
    }
    const nodes = this.#addresses.map(readAddress);
    const { username, password, tls } = this.current;
    return new Cluster(
      nodes.map(({ host, port }) => ({ host, port })),
      {
        ...options,
        redisOptions: {
          ...(username === undefined ? {} : { username }),
          ...(password === undefined ? {} : { password }),
          ...(tls ? { tls: {} } : {}),
          ...redisOptions,
        },
      } as ClusterConstructorOptions,
    );
  }
}

/** The part of a socket that is used. */
interface Corkable {
  cork(): void;
  uncork(): void;
}

/** The constructor's type, which has no explicit undefined. */
type ClusterConstructorOptions = ConstructorParameters<typeof Cluster>[1];
/** Replies in the shapes of RESP2, whatever the server speaks. */
type ConnectionOptions = RedisOptions & { readonly replyMapping: 'legacy' };
type Scripted = Record<string, (...args: Argument[]) => Promise<unknown>>;

export class Connection {
  readonly client: Client;
  /** null unless it is a cluster. */
  readonly #routes: ClusterRoutes | null;
  readonly #timeouts: Timeouts;
  /** The longest that a command may take, its blocking and a cluster's redirections included. */
  readonly #limitMs: number;
  /** The server's error about these credentials. */
  #refusal: RivuletError | null = null;
  /** Commands of this turn of the loop. */
  #gathered = 0;
  #closed = false;
  #cancelSlots = () => {};
  /** The last error while connecting. */
  lastError: Error | null = null;

  constructor(client: Client, scheduler: Scheduler, timeouts: Timeouts, limitMs: number) {
    this.client = client;
    this.#routes = client instanceof Cluster ? new ClusterRoutes(client) : null;
    if (client instanceof Cluster) client.on('ready', () => this.#askForSlots(client, scheduler));
    this.#timeouts = timeouts;
    this.#limitMs = limitMs;
    for (const { name, keys, lua } of Object.values(scripts) as Script[]) {
      // With 'all', the number of keys is the first argument.
      client.defineCommand(name, keys === 'all' ? { lua } : { numberOfKeys: keys, lua });
    }
    // Commands in flight fail with their own error; errors while connecting are emitted here alone.
    client.on('error', (error) => this.#noteRefusal(error));
    for (const status of ['connecting', 'connect', 'ready', 'reconnecting']) {
      client.on(status, () => this.#endIfClosed());
    }
    client.on('node error', (error: Error) => this.#noteRefusal(error));
  }

  get ready(): boolean {
    return this.client.status === 'ready';
  }

  async connect(): Promise<void> {
    try {
      await this.#bounded(this.client.connect(), Math.min(this.#limitMs, CONNECT_MS));
    } catch (error) {
      throw this.#refusal ?? error;
    }
  }

  /**
   * Sends the commands of one turn of the event loop in one write: the system call is most of the cost of
   * a command. A cluster's client has one socket per node and is not changed.
   */
  #gather(): void {
    const { stream } = this.client as { stream?: Corkable };
    if (stream === undefined) return;
    if (this.#gathered === 0) {
      stream.cork();
      setImmediate(() => {
        this.#gathered = 0;
        stream.uncork();
      });
    } else if (this.#gathered % ENOUGH_FOR_A_WRITE === 0) {
      // The server begins while the rest of the turn's commands are written.
      stream.uncork();
      stream.cork();
    }
    this.#gathered++;
  }

  /** Writes the commands of this turn now, for a caller that may end the process. */
  flush(): void {
    const { stream } = this.client as { stream?: Corkable };
    if (stream === undefined || this.#gathered === 0) return;
    stream.uncork();
    stream.cork();
  }

  /** A client that is disconnected while it connects may connect nevertheless, and stay connected. */
  #endIfClosed(): void {
    if (this.#closed) this.client.disconnect();
  }

  /** In place of ioredis's own timer, which goes on for ever if the client ends while it asks. */
  #askForSlots(client: Cluster, scheduler: Scheduler): void {
    this.#cancelSlots();
    if (this.#closed) return;
    this.#cancelSlots = scheduler.after(SLOTS_EVERY_MS, () => {
      if (client.status === 'ready') client.refreshSlotsCache();
      this.#askForSlots(client, scheduler);
    });
  }

  #noteRefusal(error: Error): void {
    this.lastError = error;
    const { code } = toRivulet(error);
    if (code === 'AUTHENTICATION_FAILED' || code === 'PERMISSION_DENIED') {
      this.#refusal = toRivulet(error);
    }
  }

  call(command: string, ...args: Argument[]): Promise<unknown> {
    return this.callWith(command, args);
  }

  /** As `call`, for many arguments. */
  callWith(command: string, args: readonly Argument[]): Promise<unknown> {
    this.#gather();
    return this.#bounded((this.client as Redis).callBuffer(command, args as (string | Buffer)[]));
  }

  run(script: Script, ...args: Argument[]): Promise<unknown> {
    const client = this.client as unknown as Scripted;
    return this.#bounded(client[`${script.name}Buffer`](...args));
  }

  /**
   * Runs a script that publishes to the topic of its first key, and sends its text each time. With EVALSHA, a
   * restarted server would require a second command, and a later publish would precede this one.
   */
  evaluate({ lua, keys }: Script, ...args: Argument[]): Promise<unknown> {
    return this.#publishOne(String(args[0]), ['EVAL', lua, keys, ...args]);
  }

  /** Runs commands that publish to the topic of `key`, all of them or none, in the order of the calls. */
  async publish(key: string, commands: readonly CommandLine[]): Promise<unknown[]> {
    const [first] = commands as [CommandLine];
    if (commands.length === 1) return [await this.#publishOne(key, first)];
    const routes = this.#routes;
    if (routes === null) return this.transact(commands);
    return allOrError(await this.#bounded(routes.send(key, (node) => transactOn(node, commands))));
  }

  #publishOne(key: string, line: CommandLine): Promise<unknown> {
    if (this.#routes === null) return this.call(...line);
    const [command, ...args] = line;
    return this.#bounded(
      this.#routes.send(key, (node) => node.callBuffer(command, args as (string | Buffer)[])),
    );
  }

  /**
   * MULTI ... EXEC: all of them or none. Their keys share one slot. An empty list where a watched key
   * has changed.
   */
  async transact(commands: readonly CommandLine[]): Promise<unknown[]> {
    return allOrError(await this.transactAll(commands));
  }

  /** As `transact`, for commands that may fail one by one: their errors are among the replies. */
  transactAll(commands: readonly CommandLine[]): Promise<unknown[]> {
    return this.#bounded(transactOn(this.client, commands));
  }

  /**
   * Resolves to the reply. Rejects with NOT_CONNECTED after `limitMs`, and opens the connection again: one
   * that has lost a command may lose more.
   */
  #bounded<T>(reply: Promise<T>, limitMs = this.#limitMs): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = this.#timeouts.add(limitMs, () => {
        if (!this.#closed) this.client.disconnect(true);
        reject(new RivuletError('NOT_CONNECTED', `no answer within ${limitMs} ms`));
      });
      reply.then(
        (value) => {
          stop();
          resolve(value);
        },
        (error) => {
          stop();
          reject(toRivulet(error));
        },
      );
    });
  }

  /** The masters of a cluster, or the one server. */
  masters(): Redis[] {
    return this.client instanceof Cluster ? this.client.nodes('master') : [this.client];
  }

  /** Closes at once; commands in flight fail. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelSlots();
    this.client.disconnect();
  }
}

/** The replies; a command's error is one of them. */
async function transactOn(client: Client, commands: readonly CommandLine[]): Promise<unknown[]> {
  const multi = client.multi();
  for (const [command, ...args] of commands) {
    multi.callBuffer(command, ...(args as (string | Buffer)[]));
  }
  const replies = (await multi.exec()) ?? [];
  return replies.map(([error, reply]) => (error ? toRivulet(error) : reply));
}

function allOrError(replies: unknown[]): unknown[] {
  const failed = replies.find((reply) => reply instanceof Error);
  if (failed !== undefined) throw failed;
  return replies;
}

export function isGroupLost(error: unknown): boolean {
  return error instanceof RivuletError && error.code === 'GROUP_LOST';
}
