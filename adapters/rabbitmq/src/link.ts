/**
 * The connection to RabbitMQ: it is opened, watched, and opened again on the next address after a loss.
 *
 * Invariants: at most one connection is open. Without one, a request for a channel fails with
 * NOT_CONNECTED at once; callers decide how long they wait. Heartbeats end a silent connection within
 * three times `HEARTBEAT_S`. Every channel has an error listener, which sets its `failure`.
 */
import type { Socket } from 'node:net';
import amqp, { type Channel, type ChannelModel, type ConfirmChannel } from 'amqplib';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Events,
  parseAddress,
  pause,
  RivuletError,
  withoutPassword,
} from 'rivulet/adapter';
import { toRivulet } from './errors.ts';

const HEARTBEAT_S = 3;
const CLOSE_MS = 2000;
/** Bytes that the socket buffers before writers wait for it. */
const SOCKET: object = { writableHighWaterMark: 64 * 1024 };

interface Writer {
  write(frames: Buffer): boolean;
}

type Open = () => Promise<ChannelModel>;

/** RabbitMQ has streams from 3.9 on, and message TTL on quorum queues from 3.10 on. */
const OLDEST: readonly [number, number] = [3, 10];

export class Link {
  readonly #options: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  readonly #stop = new AbortController();
  readonly #onReady = new Set<() => void>();
  readonly #onLost = new Set<(error: RivuletError) => void>();
  #model: ChannelModel | null = null;
  #address = 0;
  readonly #waiting = new Set<() => void>();
  #blocked: string | null = null;
  version: readonly [number, number] = OLDEST;

  constructor(options: BrokerOptions, events: Events<BrokerEvents>) {
    this.#options = options;
    this.#events = events;
  }

  get connected(): boolean {
    return this.#model !== null;
  }

  /** Why RabbitMQ accepts no publishes now (a memory or disk alarm); null when it does. */
  get blocked(): string | null {
    return this.#blocked;
  }

  /** Calls the listener at each reconnect, before any channel is opened on the new connection. */
  onReady(listener: () => void): void {
    this.#onReady.add(listener);
  }

  onLost(listener: (error: RivuletError) => void): void {
    this.#onLost.add(listener);
  }

  /** Opens the first connection: tries each address in turn until the signal aborts. */
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

  /** Resolves once there is a connection. Rejects when the signal aborts or the link closes. */
  async ready(signal: AbortSignal): Promise<void> {
    while (this.#model === null) {
      if (this.#stop.signal.aborted || signal.aborted) throw closed();
      await new Promise<void>((resolve) => {
        const done = () => {
          this.#waiting.delete(done);
          signal.removeEventListener('abort', done);
          resolve();
        };
        this.#waiting.add(done);
        signal.addEventListener('abort', done);
      });
    }
  }

  async channel(): Promise<LinkChannel<Channel>> {
    return this.#watch(await this.try(() => this.#must().createChannel()));
  }

  async confirmChannel(): Promise<LinkChannel<ConfirmChannel>> {
    return this.#watch(await this.try(() => this.#must().createConfirmChannel()));
  }

  /**
   * Makes each send on this channel one system call, so that it reaches the server even if the
   * process ends in the next instruction. Stops once `until` returns true. Does nothing if amqplib has
   * no such inner buffer.
   */
  writeAtOnce(channel: Channel, until: () => boolean = () => false): void {
    const model = this.#model;
    const socket = model === null ? undefined : streamOf(model);
    const inside = model?.connection as unknown as { channels?: { buffer?: Writer }[] } | undefined;
    const buffer = inside?.channels?.[(channel as unknown as { ch: number }).ch]?.buffer;
    if (socket === undefined || buffer === undefined) return;
    // Each write holds whole frames, so it may go between those of other channels.
    const later = buffer.write.bind(buffer);
    buffer.write = (frames) => {
      if (until()) {
        buffer.write = later;
        return later(frames);
      }
      const room = socket.write(frames);
      socket.uncork();
      return room;
    };
  }

  /** Runs `work` on a new channel and closes the channel. */
  async using<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
    const open = await this.channel();
    try {
      return await this.try(() => work(open.channel));
    } finally {
      await open.close();
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake();
    const model = this.#model;
    this.#model = null;
    if (model === null) return;
    if (this.#given() !== model) await this.#end(model);
  }

  /** Closes the connection, and destroys the socket if the server does not confirm within CLOSE_MS. */
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

  /** Runs `work` and translates the errors of amqplib. */
  async try<T>(work: () => Promise<T>): Promise<T> {
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
    const address = addresses[this.#address % Math.max(1, addresses.length)] ?? 'amqp://127.0.0.1';
    this.#address++;
    const { url, credentials } = connectionOf(address);
    // Closing ends an attempt to connect at once.
    const dialing = new AbortController();
    const stop = () => dialing.abort();
    this.#stop.signal.addEventListener('abort', stop);
    try {
      const model = await amqp.connect(url, {
        noDelay: true,
        ...SOCKET,
        ...({ signal: dialing.signal } as object),
        timeout: Math.min(connectTimeoutMs, 5000),
        clientProperties: { connection_name: clientName },
        credentials,
        ...client,
      });
      const socket = streamOf(model);
      if (socket !== undefined) gatherWrites(socket);
      return model;
    } catch (error) {
      const known = toRivulet(error);
      const text = `${withoutPassword(address.replace(/\?[^@]*$/, ''))}: ${known.message}`;
      // amqplib reports what it expected, not the server's reply. At this point the server closes a
      // connection only because its virtual host is missing or forbidden.
      const code = /Expected ConnectionOpenOk/.test(known.message)
        ? 'PERMISSION_DENIED'
        : known.code;
      throw new RivuletError(code, text, { cause: error });
    } finally {
      this.#stop.signal.removeEventListener('abort', stop);
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
        error: new RivuletError('WRITES_REFUSED', `RabbitMQ accepts no publishes: ${reason}`),
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
    if (this.#given() !== model) void this.#reconnect();
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
        if (this.#stop.signal.aborted) return;
        // Wrong credentials are retried too: a node that just started may not know its users yet.
        this.#events.emit('warning', { error: toRivulet(error) });
      }
    }
  }

  #wake(): void {
    for (const resolve of [...this.#waiting]) resolve();
  }
}

/** A channel, and how it ended. */
export class LinkChannel<C extends Channel = Channel> {
  readonly channel: C;
  /** The error for which the server closed it. */
  failure: Error | null = null;
  /** False once either side closes it: amqplib throws on what is sent from then on. */
  open = true;
  /** Resolves when it is closed. */
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
    if (!this.open) return;
    this.open = false;
    // amqplib's promise never settles if the connection is lost meanwhile.
    await Promise.race([this.channel.close().catch(() => {}), this.ended]);
  }
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the rabbitmq broker is disconnected');
}

/**
 * Splits an address into a URL and credentials: amqplib decodes those inside a URL as Latin-1. Throws
 * INVALID_ARGUMENT, whose text shows no part of a password.
 */
export function connectionOf(address: string): {
  url: string;
  credentials: ReturnType<typeof amqp.credentials.plain>;
} {
  const [, place = '', query = ''] = /^(.*?)(\?[^@]*)?$/s.exec(address) ?? [];
  const { scheme, host, port, username, password, path } = parseAddress(place);
  if (scheme !== 'amqp' && scheme !== 'amqps') {
    const text = `${withoutPassword(place)} is no address of RabbitMQ: write amqp://host:5672/vhost or amqps://host:5671/vhost`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  const name = host === '' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  const vhost = encodeURIComponent(path.replace(/^\//, ''));
  const parameters = new URLSearchParams(query);
  if (!parameters.has('heartbeat')) parameters.set('heartbeat', String(HEARTBEAT_S));
  const isGuest = username === null && password === null;
  return {
    url: `${scheme}://${name}${port === null ? '' : `:${port}`}/${vhost}?${parameters}`,
    credentials: amqp.credentials.plain(
      isGuest ? 'guest' : (username ?? ''),
      isGuest ? 'guest' : (password ?? ''),
    ),
  };
}

/** The connection's socket. amqplib only ends it, and a dead peer never confirms that. */
function streamOf(model: ChannelModel): Socket | undefined {
  return (model.connection as unknown as { stream?: Socket }).stream;
}

/**
 * Sends the writes of one turn of the event loop in one system call. amqplib makes a system call for
 * each frame, which is most of the cost of a frame.
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
