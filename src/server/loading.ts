/**
 * The server while its data is loaded: how far that is, and the ports, which are open already and answer
 * LOADING, as Redis does. AUTH and HELLO are run, and INFO is answered with the progress; a client that
 * has to log in first is answered NOAUTH.
 *
 * `take` and `takeClients` give the listening sockets and the connections to the listeners without a gap: no
 * client is refused in between, and one that waits goes on with its connection, user, protocol and name. TLS
 * ports and unix sockets open when the data is loaded.
 * Bounds: at most `maxclients` connections, and no more than the limit of open files leaves room for (a
 * descriptor that loading needs must not be a client's). Of a command longer than 64 KiB the rest is read when
 * the data is loaded, and one whose replies are not read is not read from.
 */
import { createServer, isIP, type Server, type Socket } from 'node:net';
import type { Arguments } from '../util/arguments.ts';
import type { Acl } from './acl.ts';
import type { User } from './acl-user.ts';
import { BufferPool } from './buffer-pool.ts';
import type { Config } from './config.ts';
import type { Greeting } from './greeting.ts';
import { HELLO_NOAUTH, NO_PASSWORD, readHello, WRONGPASS, writeHello } from './hello.ts';
import { hostOf, reason } from './listener.ts';
import { isLocal, PROTECTED } from './protected-mode.ts';
import { ReplyWriter } from './reply-writer.ts';
import { BROKEN, COMPLETE, RespParser } from './resp-parser.ts';
import { REDIS_VERSION, RIVULET_VERSION } from './version.ts';

const LOADING = 'LOADING Redis is loading the dataset in memory';
const NOAUTH = 'NOAUTH Authentication required.';
const UNFINISHED_MAX = 64 * 1024;
const REPLY_BUFFER = 16 * 1024;
const REPLY_BUFFERS_KEPT = 64;

/** How much of the log is read. Times are monotonic ms. */
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
}

export class LoadingPorts {
  readonly progress: LoadingProgress;
  readonly #config: Config;
  /** By `host port` of the configuration. */
  readonly #servers = new Map<string, Server>();
  readonly #clients = new Set<Client>();
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

  /** How many are connected. */
  get clients(): number {
    return this.#clients.size;
  }

  /** Opens the plain TCP port of each address. Rejects with a sentence. */
  async open(): Promise<void> {
    const config = this.#config;
    let port = config.number('port');
    const elsewhere = config.number('tls-port') > 0 || config.get('unixsocket') !== '';
    if (port === 0 && elsewhere) return;
    for (const word of config.get('bind').split(/\s+/).filter(Boolean)) {
      const optional = word.startsWith('-');
      const host = hostOf(optional ? word.slice(1) : word);
      const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
      const error = await new Promise<Error | null>((resolve) => {
        server.once('error', resolve);
        const backlog = config.number('tcp-backlog');
        server.listen({ host, port, backlog, ipv6Only: isIP(host) === 6 }, () => resolve(null));
      });
      if (error !== null && optional) continue;
      if (error !== null) throw new Error(reason(error, `${host}:${port}`));
      // A connection that could not be accepted is lost; the others, and loading, go on.
      server.removeAllListeners('error').on('error', () => {});
      const address = server.address();
      this.#servers.set(`${host} ${port}`, server);
      if (port === 0 && typeof address === 'object') port = address?.port ?? 0;
    }
  }

  /** The listening socket of this address, which then belongs to the caller; null = there is none. */
  take(host: string | undefined, port: number | undefined): Server | null {
    const key = `${host} ${port}`;
    const server = this.#servers.get(key) ?? null;
    this.#servers.delete(key);
    return server;
  }

  /** The connections that wait, each with what it has settled; unfinished commands are read again. */
  takeClients(): { socket: Socket; greeting: Greeting }[] {
    const clients: { socket: Socket; greeting: Greeting }[] = [];
    for (const { socket, unfinished, id, user, name, reply } of this.#clients) {
      socket.removeAllListeners();
      socket.pause();
      if (unfinished.length > 0) socket.unshift(unfinished);
      clients.push({ socket, greeting: { id, user, name, protocol: reply.protocol } });
    }
    this.#clients.clear();
    return clients;
  }

  /** The start has failed, or has no use for what is left. */
  close(): void {
    for (const server of this.#servers.values()) server.close();
    for (const { socket } of this.#clients) socket.destroy();
    this.#servers.clear();
    this.#clients.clear();
  }

  #accept(socket: Socket): void {
    const config = this.#config;
    socket.on('error', () => socket.destroy());
    const { open } = this.#acl;
    const refused =
      this.#clients.size >= Math.min(config.number('maxclients'), this.#room)
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
    };
    this.#clients.add(client);
    socket.on('data', (chunk: Buffer) => this.#receive(client, chunk));
    socket.on('drain', () => {
      if (client.unfinished.length <= UNFINISHED_MAX) socket.resume();
    });
    socket.on('end', () => this.#end(client));
    socket.on('close', () => this.#clients.delete(client));
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

  /** Sends the replies that are left, and closes. */
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
