/**
 * The server while its data is loaded: its progress, and its endpoints, which are open already and reply
 * LOADING, as Redis does. AUTH and HELLO are run, and INFO replies with the progress. A client that has to log
 * in first receives NOAUTH.
 *
 * `take` and `takeClients` give the listening sockets and the connections to the listeners without a gap: no
 * connection is refused in between, and a client goes on with its connection, user, protocol and name. A TLS
 * handshake that ends later is given to `onLate`.
 * Bounds: at most `maxclients` connections, handshakes included, and no more than the limit of open files leaves
 * room for (a descriptor that loading needs must not be a client's). The rest of a command longer than 64 KiB is
 * read when the data is loaded. Nothing is read from a client that does not read its replies.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { Arguments } from '../util/arguments.ts';
import type { Acl } from './acl/acl.ts';
import type { User } from './acl/acl-user.ts';
import { isLocal, PROTECTED } from './acl/protected-mode.ts';
import type { Config } from './config/config.ts';
import { type Endpoint, endpointsOf, listen } from './connection/endpoints.ts';
import type { Greeting } from './connection/greeting.ts';
import { HELLO_NOAUTH, NO_PASSWORD, readHello, WRONGPASS, writeHello } from './connection/hello.ts';
import { BROKEN, COMPLETE, RespParser } from './connection/resp-parser.ts';
import { beneath, showsUnknownCertificate, tlsOptionsOf } from './connection/tls.ts';
import { BufferPool } from './output/buffer-pool.ts';
import { ReplyWriter } from './output/reply-writer.ts';
import { REDIS_VERSION, RIVULET_VERSION } from './version.ts';

const LOADING = 'LOADING Redis is loading the dataset in memory';
const NOAUTH = 'NOAUTH Authentication required.';
const UNFINISHED_MAX = 64 * 1024;
const REPLY_BUFFER = 16 * 1024;
const REPLY_BUFFERS_KEPT = 64;

/** How much of the log has been read. Times are monotonic ms. */
export class LoadingProgress {
  readonly #now: () => number;
  readonly #startedAt: number;
  readonly #wallStart: number;
  read = 0;
  total = 0;

  /** `wall` in Unix ms. */
  constructor(now: () => number, wall: number) {
    this.#now = now;
    this.#startedAt = now();
    this.#wallStart = wall;
  }

  /** From 0 to 100; nothing to read is all of it. */
  get percent(): number {
    return this.total === 0 ? 0 : Math.min(100, (100 * this.read) / this.total);
  }

  /** `45% of 1200 MB of log`: for people. */
  get text(): string {
    if (this.total === 0) return 'reading the checkpoint';
    return `${Math.floor(this.percent)}% of ${Math.ceil(this.total / 1e6)} MB of log read`;
  }

  /** Redis's fields of INFO persistence. */
  get fields(): [name: string, value: string | number][] {
    const elapsed = (this.#now() - this.#startedAt) / 1000;
    const left = this.read === 0 ? 1 : (elapsed * (this.total - this.read)) / this.read;
    return [
      ['loading', 1],
      ['async_loading', 0],
      ['loading_start_time', Math.floor(this.#wallStart / 1000)],
      ['loading_total_bytes', this.total],
      ['loading_rdb_used_mem', 0],
      ['loading_loaded_bytes', this.read],
      ['loading_loaded_perc', this.percent.toFixed(2)],
      ['loading_eta_seconds', Math.max(1, Math.ceil(left))],
    ];
  }
}

interface Client {
  readonly socket: Socket;
  readonly id: number;
  readonly parser: RespParser;
  readonly reply: ReplyWriter;
  /** Null: it has not logged in. */
  user: User | null;
  name: string;
  /** The bytes of an unfinished command. */
  unfinished: Buffer;
  /** Stops listening to the socket's events. */
  detach(): void;
}

export class LoadingPorts {
  readonly progress: LoadingProgress;
  readonly #config: Config;
  /** By `kind host port` of the configuration. */
  readonly #servers = new Map<string, Server>();
  readonly #clients = new Set<Client>();
  /** Connections in a TLS handshake. */
  readonly #handshaking = new Set<Socket>();
  #isOver = false;
  /** Receives a TLS connection whose handshake ended after `takeClients`. */
  onLate: (socket: Socket) => void = (socket) => socket.destroy();
  readonly #acl: Acl;
  readonly #room: number;
  readonly #pool = new BufferPool(REPLY_BUFFER, REPLY_BUFFERS_KEPT);
  /** The number of the client that came last; 0 = none came. */
  lastId = 0;

  /** `room`: how many clients the limit of open files leaves room for. */
  constructor(config: Config, progress: LoadingProgress, acl: Acl, room: number) {
    this.#config = config;
    this.progress = progress;
    this.#acl = acl;
    this.#room = room;
  }

  /** How many are connected, handshakes included. */
  get clients(): number {
    return this.#clients.size + this.#handshaking.size;
  }

  /** Opens every endpoint that the configuration names. Rejects with a sentence. */
  async open(): Promise<void> {
    const config = this.#config;
    let chosenPort = 0;
    for (const endpoint of endpointsOf(config)) {
      const { kind } = endpoint;
      const server = kind === 'tls' ? this.#tlsServer() : this.#plainServer();
      const port = await listen(server, endpoint, endpoint.port || chosenPort, config);
      if (port === null) continue;
      // A connection that could not be accepted is lost; the others, and loading, go on.
      server.on('error', () => {});
      this.#servers.set(keyOf(endpoint), server);
      if (kind === 'tcp') chosenPort = port;
    }
  }

  #plainServer(): Server {
    return createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  #tlsServer(): Server {
    const server = createTlsServer(tlsOptionsOf(this.#config), (socket) => {
      if (showsUnknownCertificate(socket)) socket.destroy();
      else if (this.#isOver) this.onLate(socket);
      else this.#accept(socket);
    });
    server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
    server.prependListener('connection', (raw: Socket) => {
      raw.on('error', () => {});
      if (this.clients >= this.#most) {
        raw.destroy();
        return;
      }
      this.#handshaking.add(raw);
      raw.once('close', () => this.#handshaking.delete(raw));
    });
    server.prependListener('secureConnection', (socket: Socket) => {
      this.#handshaking.delete(beneath(socket) as Socket);
    });
    return server;
  }

  get #most(): number {
    return Math.min(this.#config.number('maxclients'), this.#room);
  }

  /** The listening socket of this endpoint, which then belongs to the caller; null = there is none. */
  take(endpoint: Endpoint): Server | null {
    const key = keyOf(endpoint);
    const server = this.#servers.get(key) ?? null;
    this.#servers.delete(key);
    return server;
  }

  /** The connections, each with what its client has done; unfinished commands are read again. */
  takeClients(): { socket: Socket; greeting: Greeting }[] {
    const clients: { socket: Socket; greeting: Greeting }[] = [];
    this.#isOver = true;
    for (const { socket, unfinished, id, user, name, reply, detach } of this.#clients) {
      detach();
      socket.pause();
      if (unfinished.length > 0) socket.unshift(unfinished);
      clients.push({ socket, greeting: { id, user, name, protocol: reply.protocol } });
    }
    this.#clients.clear();
    return clients;
  }

  /** Closes what was not taken: the start has failed, or is over. */
  close(): void {
    for (const server of this.#servers.values()) server.close();
    for (const { socket } of this.#clients) socket.destroy();
    if (!this.#isOver) for (const socket of this.#handshaking) socket.destroy();
    this.#servers.clear();
    this.#clients.clear();
  }

  #accept(socket: Socket): void {
    const config = this.#config;
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    const { open } = this.#acl;
    const refused =
      this.clients >= this.#most
        ? 'ERR max number of clients reached'
        : config.yes('protected-mode') && open && !isLocal(socket.remoteAddress)
          ? PROTECTED
          : null;
    if (refused !== null) {
      socket.end(`-${refused}\r\n`);
      socket.destroySoon();
      return;
    }
    const parser = new RespParser({ bulkMax: config.number('proto-max-bulk-len') });
    parser.unauthenticated = !open;
    const client: Client = {
      socket,
      id: ++this.lastId,
      parser,
      reply: new ReplyWriter(this.#pool),
      user: null,
      name: '',
      unfinished: Buffer.alloc(0),
      detach() {
        socket.off('error', onError).off('data', onData).off('drain', onDrain);
        socket.off('end', onEnd).off('close', onClose);
      },
    };
    const onData = (chunk: Buffer): void => this.#receive(client, chunk);
    const onDrain = (): void => {
      if (client.unfinished.length <= UNFINISHED_MAX) socket.resume();
    };
    const onEnd = (): void => this.#end(client);
    const onClose = (): void => void this.#clients.delete(client);
    this.#clients.add(client);
    socket.on('data', onData).on('drain', onDrain).on('end', onEnd).on('close', onClose);
  }

  #receive(client: Client, chunk: Buffer): void {
    const { parser, socket, reply } = client;
    parser.feed(chunk, 0, chunk.length);
    for (;;) {
      const status = parser.next();
      if (status === BROKEN) {
        reply.error(`ERR Protocol error: ${parser.error}`);
        this.#end(client);
        return;
      }
      if (status !== COMPLETE) break;
      if (parser.args.count > 0 && !this.#answer(client, parser.args)) return;
    }
    parser.keep();
    const all = Buffer.concat([client.unfinished, chunk]);
    client.unfinished = all.subarray(all.length - parser.waiting);
    const isLong = client.unfinished.length > UNFINISHED_MAX;
    if ((reply.length > 0 && !socket.write(reply.take())) || isLong) socket.pause();
  }

  /** One command. False: the connection has ended with it. */
  #answer(client: Client, args: Arguments): boolean {
    const { reply, user, socket } = client;
    if (args.is(0, 'POST') || args.is(0, 'HOST:')) {
      socket.destroy();
      return false;
    }
    // By the name that the configuration gives it (rename-command).
    const entry = this.#acl.table.find(args);
    if (entry?.name === 'quit') {
      reply.ok();
      this.#end(client);
      return false;
    }
    if (entry?.name === 'auth') this.#auth(client, args);
    else if (entry?.name === 'hello') this.#hello(client, args);
    else if (user === null && !this.#acl.open) reply.error(NOAUTH);
    else if (entry?.name === 'info' && (user ?? this.#acl.default).refusal(entry, args) === null) {
      reply.verbatim(this.#info());
    } else reply.error(LOADING);
    return true;
  }

  #auth(client: Client, args: Arguments): void {
    const { reply } = client;
    if (args.count !== 2 && args.count !== 3) reply.error(LOADING);
    else if (args.count === 2 && this.#acl.default.nopass) reply.error(NO_PASSWORD);
    else if (this.#logIn(client, args.count === 3 ? args.latin1(1) : 'default', args)) reply.ok();
    else reply.error(WRONGPASS);
  }

  #hello(client: Client, args: Arguments): void {
    const { reply } = client;
    const asked = readHello(args, reply.protocol);
    if (typeof asked === 'string') {
      reply.error(asked);
      return;
    }
    const { userAt, nameAt, protocol } = asked;
    if (userAt > 0 && !this.#logIn(client, args.latin1(userAt), args, userAt + 1)) {
      reply.error(WRONGPASS);
    } else if (client.user === null && !this.#acl.open) {
      reply.error(HELLO_NOAUTH);
    } else {
      if (nameAt > 0) client.name = args.text(nameAt);
      reply.protocol = protocol;
      writeHello(reply, client.id);
    }
  }

  #logIn(client: Client, name: string, args: Arguments, passwordAt = args.count - 1): boolean {
    const user = this.#acl.authenticate(name, args.view(passwordAt));
    if (user === null) return false;
    client.user = user;
    client.parser.unauthenticated = false;
    return true;
  }

  /** Sends the last replies, and closes. */
  #end(client: Client): void {
    client.socket.end(client.reply.take());
    client.socket.destroySoon();
    this.#clients.delete(client);
  }

  #info(): string {
    return [
      '# Server',
      `redis_version:${REDIS_VERSION}`,
      `rivulet_version:${RIVULET_VERSION}`,
      'redis_mode:standalone',
      `process_id:${process.pid}`,
      '',
      '# Persistence',
      ...this.progress.fields.map(([name, value]) => `${name}:${value}`),
      '',
    ].join('\r\n');
  }
}

function keyOf({ kind, host, port }: Endpoint): string {
  return `${kind} ${host} ${port}`;
}
