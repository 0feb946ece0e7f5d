/**
 * The server while its data is loaded: how far that is, and the ports, which are open already and answer
 * LOADING, as Redis does. INFO is answered, with the progress; where a password is set, NOAUTH.
 *
 * `takeOver` gives the listening sockets and the connections to the listeners without a gap: no client is
 * refused in between, and one that waits goes on with its connection. TLS ports and unix sockets open when
 * the data is loaded.
 * Bounds: at most `maxclients` connections; one that has 64 KiB of an unfinished command is ended, and one
 * whose replies are not read is not read from.
 */
import { createServer, isIP, type Server, type Socket } from 'node:net';
import type { Config } from './config.ts';
import { hostOf, reason } from './listener.ts';
import { isLocal, PROTECTED } from './protected-mode.ts';
import { BROKEN, COMPLETE, RespParser } from './resp-parser.ts';
import { REDIS_VERSION, RIVULET_VERSION } from './version.ts';

const LOADING = '-LOADING Redis is loading the dataset in memory\r\n';
const NOAUTH = '-NOAUTH Authentication required.\r\n';
const UNFINISHED_MAX = 64 * 1024;

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
  readonly parser: RespParser;
  /** The bytes of an unfinished command. */
  unfinished: Buffer;
}

export class LoadingPorts {
  readonly progress: LoadingProgress;
  readonly #config: Config;
  /** By `host port` of the configuration. */
  readonly #servers = new Map<string, Server>();
  readonly #clients = new Set<Client>();

  constructor(config: Config, progress: LoadingProgress) {
    this.#config = config;
    this.progress = progress;
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

  /** The connections that wait, each with what it has sent of an unfinished command. */
  takeClients(): Socket[] {
    const sockets: Socket[] = [];
    for (const { socket, unfinished } of this.#clients) {
      socket.removeAllListeners();
      socket.pause();
      if (unfinished.length > 0) socket.unshift(unfinished);
      sockets.push(socket);
    }
    this.#clients.clear();
    return sockets;
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
    const open = !this.#guarded;
    const refused =
      this.#clients.size >= config.number('maxclients')
        ? 'ERR max number of clients reached'
        : config.yes('protected-mode') && open && !isLocal(socket.remoteAddress)
          ? PROTECTED
          : null;
    if (refused !== null) {
      socket.end(`-${refused}\r\n`);
      socket.destroySoon();
      return;
    }
    const parser = new RespParser({ bulkMax: UNFINISHED_MAX });
    const client: Client = { socket, parser, unfinished: Buffer.alloc(0) };
    this.#clients.add(client);
    socket.on('data', (chunk: Buffer) => this.#receive(client, chunk));
    socket.on('drain', () => socket.resume());
    socket.on('end', () => this.#end(client, ''));
    socket.on('close', () => this.#clients.delete(client));
  }

  /** Whether a password, users or a file of users are configured: the users are loaded later. */
  get #guarded(): boolean {
    const { users } = this.#config;
    return (
      this.#config.get('requirepass') !== '' ||
      this.#config.get('aclfile') !== '' ||
      users.some(([name]) => name === 'default')
    );
  }

  #receive(client: Client, chunk: Buffer): void {
    const { parser, socket } = client;
    parser.feed(chunk, 0, chunk.length);
    let replies = '';
    for (;;) {
      const status = parser.next();
      if (status === BROKEN) {
        this.#end(client, `${replies}-ERR Protocol error: ${parser.error}\r\n`);
        return;
      }
      if (status !== COMPLETE) break;
      const { args } = parser;
      if (args.count === 0) continue;
      if (args.is(0, 'POST') || args.is(0, 'HOST:')) {
        socket.destroy();
        return;
      }
      if (args.is(0, 'QUIT')) {
        this.#end(client, `${replies}+OK\r\n`);
        return;
      }
      replies += this.#guarded ? NOAUTH : args.is(0, 'INFO') ? this.#info() : LOADING;
    }
    parser.keep();
    const all = Buffer.concat([client.unfinished, chunk]);
    client.unfinished = all.subarray(all.length - parser.waiting);
    if (client.unfinished.length > UNFINISHED_MAX) socket.destroy();
    else if (replies !== '' && !socket.write(replies)) socket.pause();
  }

  #end(client: Client, lastWords: string): void {
    client.socket.end(lastWords);
    client.socket.destroySoon();
    this.#clients.delete(client);
  }

  #info(): string {
    const text = [
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
    return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
  }
}
