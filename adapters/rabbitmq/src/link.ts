/**
 * The connection: made, watched, and made again on the next address when it is lost.
 *
 * Invariants: at most one connection is open; while there is none, whoever asks for a channel hears
 * NOT_CONNECTED at once, so that waiting and its bounds are the caller's. A silent connection is cut
 * by heartbeats within three times `HEARTBEAT_S`. Every channel has an error listener: what went
 * wrong on it is in its `failure`.
 */
import type { Socket } from 'node:net';
import amqp, { type Channel, type ChannelModel, type ConfirmChannel } from 'amqplib';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Events,
  pause,
  RivuletError,
  withoutPassword,
} from 'rivulet';
import { toRivulet } from './failures.ts';

const HEARTBEAT_S = 3;
const CLOSE_MS = 2000;
/** As much goes to the socket before its writer waits. */
const SOCKET: object = { writableHighWaterMark: 64 * 1024 };

type Open = () => Promise<ChannelModel>;

/** Streams came with 3.9, message TTL on quorum queues with 3.10. */
const OLDEST: readonly [number, number] = [3, 10];

export class Link {
  readonly #options: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  readonly #stop = new AbortController();
  readonly #onReady = new Set<() => void>();
  readonly #onLost = new Set<(error: RivuletError) => void>();
  #model: ChannelModel | null = null;
  #address = 0;
  #waiting: (() => void)[] = [];
  #reconnecting: Promise<void> | null = null;
  #blocked: string | null = null;
  version: readonly [number, number] = OLDEST;

  constructor(options: BrokerOptions, events: Events<BrokerEvents>) {
    this.#options = options;
    this.#events = events;
  }

  get connected(): boolean {
    return this.#model !== null;
  }

  /** Why the broker takes no publishes now: an alarm of memory or disk. */
  get blocked(): string | null {
    return this.#blocked;
  }

  /** Called at each connection after the first, before anybody else goes on. */
  onReady(listener: () => void): void {
    this.#onReady.add(listener);
  }

  onLost(listener: (error: RivuletError) => void): void {
    this.#onLost.add(listener);
  }

  /** The first connection: every address in turn until the signal aborts. */
  async open(signal: AbortSignal): Promise<void> {
    let last: RivuletError | undefined;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        this.#adopt(await this.#connect());
        return;
      } catch (error) {
        last = toRivulet(error);
        if (last.code !== 'NOT_CONNECTED') throw last;
      }
      await pause(this.#options.scheduler, Math.min(50 * attempt, 500), signal).catch(() => {});
    }
    const text = `no connection within ${this.#options.connectTimeoutMs} ms`;
    throw new RivuletError('CONNECTION_FAILED', text, { cause: last });
  }

  /** Resolves once there is a connection. Rejects when the link closes. */
  async ready(): Promise<void> {
    while (this.#model === null) {
      if (this.#stop.signal.aborted) throw closed();
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async channel(): Promise<LinkChannel<Channel>> {
    return this.#watch(await this.#try(() => this.#must().createChannel()));
  }

  async confirmChannel(): Promise<LinkChannel<ConfirmChannel>> {
    return this.#watch(await this.#try(() => this.#must().createConfirmChannel()));
  }

  /** A channel for one piece of work, which may break it. */
  async using<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
    const open = await this.channel();
    try {
      return await this.#try(() => work(open.channel));
    } finally {
      await open.close();
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#reconnecting;
    const model = this.#model;
    this.#model = null;
    if (model === null) return;
    if (this.#given() !== model) await this.#end(model);
  }

  /** Closing asks the server, which may not answer any more. */
  async #end(model: ChannelModel): Promise<void> {
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#options.scheduler.after(CLOSE_MS, resolve);
    });
    await Promise.race([model.close().catch(() => {}), late]);
    cancel();
    streamOf(model)?.destroy();
  }

  #must(): ChannelModel {
    if (this.#stop.signal.aborted) throw closed();
    if (this.#model === null) {
      throw new RivuletError('NOT_CONNECTED', 'there is no connection to RabbitMQ');
    }
    return this.#model;
  }

  async #try<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw toRivulet(error);
    }
  }

  #watch<C extends Channel>(channel: C): LinkChannel<C> {
    return new LinkChannel(channel);
  }

  #given(): ChannelModel | Open | undefined {
    return this.#options.client?.connection as ChannelModel | Open | undefined;
  }

  async #connect(): Promise<ChannelModel> {
    const given = this.#given();
    if (typeof given === 'function') return given();
    if (given !== undefined) return given;
    const { addresses, connectTimeoutMs, clientName, client } = this.#options;
    const address = addresses[this.#address % Math.max(1, addresses.length)];
    this.#address++;
    const url = new URL(address ?? 'amqp://127.0.0.1:5672');
    if (!url.searchParams.has('heartbeat')) {
      url.searchParams.set('heartbeat', String(HEARTBEAT_S));
    }
    try {
      const model = await amqp.connect(url.href, {
        noDelay: true,
        ...SOCKET,
        timeout: Math.min(connectTimeoutMs, 5000),
        clientProperties: { connection_name: clientName },
        ...client,
      });
      const socket = streamOf(model);
      if (socket !== undefined) gatherWrites(socket);
      return model;
    } catch (error) {
      const known = toRivulet(error);
      const text = `${withoutPassword(url.href.replace(/\?.*/, ''))}: ${known.message}`;
      // amqplib says what it expected, not what the server told it: only a virtual host that is
      // missing or forbidden closes the connection at this point.
      const code = /Expected ConnectionOpenOk/.test(known.message)
        ? 'PERMISSION_DENIED'
        : known.code;
      throw new RivuletError(code, text, { cause: error });
    }
  }

  #adopt(model: ChannelModel): void {
    this.#checkVersion(model);
    this.#model = model;
    this.#blocked = null;
    let cause: Error | undefined;
    model.on('error', (error) => {
      cause = error;
    });
    model.on('blocked', (reason) => {
      this.#blocked = reason;
      this.#events.emit('warning', {
        error: new RivuletError('WRITES_REFUSED', `RabbitMQ takes no publishes: ${reason}`),
      });
    });
    model.on('unblocked', () => {
      this.#blocked = null;
    });
    model.on('close', (error) => this.#lost(model, cause ?? error));
    this.#wake();
  }

  #checkVersion(model: ChannelModel): void {
    const { version } = model.connection.serverProperties;
    const [major = 0, minor = 0] = String(version).split('.').map(Number);
    this.version = [major, minor];
    if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
    void model.close().catch(() => {});
    throw new RivuletError(
      'SERVER_TOO_OLD',
      `RabbitMQ ${version} is too old: topics are streams and delays are message TTLs of quorum queues, which need ${OLDEST.join('.')}`,
    );
  }

  #lost(model: ChannelModel, cause: Error | undefined): void {
    if (this.#model !== model) return;
    streamOf(model)?.destroy();
    this.#model = null;
    if (this.#stop.signal.aborted) return;
    const error = new RivuletError('NOT_CONNECTED', 'the connection to RabbitMQ was lost', {
      cause,
    });
    this.#events.emit('disconnected', { cause: error });
    for (const listener of this.#onLost) listener(error);
    if (this.#given() !== model) this.#reconnecting = this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { reconnect, scheduler } = this.#options;
    for (let attempt = 1; !this.#stop.signal.aborted; attempt++) {
      const wait = backoffMs(reconnect, attempt, scheduler.fraction());
      await pause(scheduler, wait, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      try {
        const model = await this.#connect();
        if (this.#stop.signal.aborted) {
          await this.#end(model);
          return;
        }
        for (const listener of this.#onReady) listener();
        this.#adopt(model);
        this.#events.emit('connected', { attempt });
        return;
      } catch (error) {
        // Also wrong credentials: a node that just started may not know its users yet.
        this.#events.emit('warning', { error: toRivulet(error) });
      }
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** A channel and how it ended. */
export class LinkChannel<C extends Channel = Channel> {
  readonly channel: C;
  /** What the server closed it for. */
  failure: Error | null = null;
  open = true;
  /** Resolves when it is closed, by whomever. */
  readonly ended: Promise<void>;

  constructor(channel: C) {
    this.channel = channel;
    channel.on('error', (error) => {
      this.failure = error;
    });
    this.ended = new Promise((resolve) => {
      channel.on('close', () => {
        this.open = false;
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    // A connection that is lost meanwhile leaves amqplib's own promise unsettled for ever.
    if (this.open) await Promise.race([this.channel.close().catch(() => {}), this.ended]);
  }
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the rabbitmq broker is disconnected');
}

/** The socket: amqplib ends it politely, which a dead peer never answers. */
function streamOf(model: ChannelModel): Socket | undefined {
  return (model.connection as unknown as { stream?: Socket }).stream;
}

/**
 * What is written in one turn leaves in one system call: amqplib makes one of each frame, which is
 * most of what a frame costs.
 */
function gatherWrites(socket: Socket): void {
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  let gathering = false;
  const leave = () => {
    gathering = false;
    socket.uncork();
  };
  socket.write = (...args: unknown[]) => {
    if (!gathering) {
      gathering = true;
      socket.cork();
      process.nextTick(leave);
    }
    return write(...args);
  };
}
