/**
 * One connection to one ZooKeeper server: the handshake of a session, then requests and their replies.
 *
 * Invariants: replies come in the order of the requests; a request ends within `timeoutMs`, and one
 * that does not ends the connection, because what follows it would be out of step; a server that is
 * silent for two thirds of the session's time is taken for dead; after the end every request that
 * waits is REGISTRY_UNAVAILABLE. Cost: one socket, one timer; a ping each third of the session's time
 * while nothing else is sent. The socket keeps the process from ending only while requests wait.
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { splitAddress } from '../record.ts';
import { JuteReader, JuteWriter } from './jute.ts';

const XID_EVENT = -1;
const XID_PING = -2;
const XID_AUTH = -4;
const OP_PING = 11;
const OP_AUTH = 100;
const PASSWORD_BYTES = 16;
/** A longer packet is no reply to what this registry asks. */
const MAX_PACKET_BYTES = 64 * 1024 * 1024;

/** What a server needs to know a session again. */
export interface ZookeeperSession {
  readonly id: bigint;
  readonly password: Buffer;
  readonly timeoutMs: number;
}

export interface ZookeeperEvent {
  /** 1 created, 2 deleted, 3 changed, 4 children changed. */
  readonly type: number;
  readonly path: string;
}

export interface ConnectionOptions {
  /** host:port */
  readonly server: string;
  readonly scheduler: Scheduler;
  readonly timeoutMs: number;
  /** Asked for; the server grants what its own bounds allow. */
  readonly sessionTimeoutMs: number;
  readonly session: ZookeeperSession | null;
  /** The newest transaction that this client has seen: an older server refuses it. */
  readonly lastZxid: bigint;
  readonly auth?: { readonly scheme: string; readonly text: string };
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
  readonly onEvent: (event: ZookeeperEvent) => void;
  readonly onEnd: (connection: ZookeeperConnection) => void;
  /** Ends the attempt to connect. */
  readonly signal: AbortSignal;
}

interface Waiting {
  readonly resolve: (reply: ZookeeperReply) => void;
  readonly reject: (error: RivuletError) => void;
  readonly deadline: number;
}

export interface ZookeeperReply {
  /** 0, or a code of ZooKeeper's: -101 = no such node, -110 = the node is there. */
  readonly code: number;
  readonly body: JuteReader;
}

export class ZookeeperConnection {
  readonly #options: ConnectionOptions;
  readonly #socket: Socket;
  readonly #waiting: Waiting[] = [];
  #chunks: Buffer[] = [];
  #buffered = 0;
  #session: ZookeeperSession | null = null;
  #onSession: { resolve: (session: ZookeeperSession) => void; reject: (e: Error) => void } | null =
    null;
  #xid = 0;
  #zxid = 0n;
  #heardAt: number;
  #sentAt: number;
  #cancelTick = () => {};
  #isOver = false;
  #isReached = false;

  private constructor(options: ConnectionOptions) {
    this.#options = options;
    const { scheduler, server, tls } = options;
    this.#heardAt = this.#sentAt = scheduler.monotonic();
    const address = splitAddress(server) as { host: string; port: number };
    this.#socket = tls === undefined ? connect(address) : connectTls({ ...address, ...tls });
    this.#socket.setNoDelay(true);
    // A server whose certificate is refused is not reached: the session is left as it is.
    this.#socket.on(tls === undefined ? 'connect' : 'secureConnect', () => {
      this.#isReached = true;
    });
    this.#socket.on('data', (bytes) => this.#receive(bytes));
    this.#socket.on('error', (error) => this.end(error.message));
    this.#socket.on('close', () => this.end('the server closed the connection'));
  }

  /**
   * Connects and begins the session, or takes it up again. Rejects with REGISTRY_UNAVAILABLE where the
   * server cannot be reached, or is silent; with NOT_FOUND where the session has ended; with
   * CONNECTION_FAILED where the server closes the connection: it is behind, or has lost its data.
   */
  static async open(options: ConnectionOptions): Promise<ZookeeperConnection> {
    const connection = new ZookeeperConnection(options);
    const { scheduler, timeoutMs, session, lastZxid, sessionTimeoutMs, signal } = options;
    const begun = new Promise<ZookeeperSession>((resolve, reject) => {
      connection.#onSession = { resolve, reject };
    });
    const giveUp = (reason: string) => {
      // The session may be as it was.
      connection.#isReached = false;
      connection.end(reason);
    };
    const cancel = scheduler.after(timeoutMs, () => giveUp('it does not answer'));
    const unwatch = onAbort(signal, () => giveUp('the registry is closed'));
    const request = new JuteWriter()
      .int(0)
      .long(session === null ? 0n : lastZxid)
      .int(sessionTimeoutMs)
      .long(session?.id ?? 0n)
      .buffer(session?.password ?? Buffer.alloc(PASSWORD_BYTES))
      .bool(false);
    connection.#socket.write(request.packet());
    try {
      connection.#session = await begun;
    } finally {
      cancel();
      unwatch();
    }
    connection.#begin();
    return connection;
  }

  get session(): ZookeeperSession {
    return this.#session as ZookeeperSession;
  }

  get lastZxid(): bigint {
    return this.#zxid;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  request(op: number, write: (body: JuteWriter) => void): Promise<ZookeeperReply> {
    const body = new JuteWriter().int(++this.#xid).int(op);
    write(body);
    return new Promise((resolve, reject) => {
      if (this.#isOver) {
        reject(this.#unavailable('the connection has ended'));
        return;
      }
      const now = this.#options.scheduler.monotonic();
      const deadline = now + this.#options.timeoutMs;
      if (this.#waiting.push({ resolve, reject, deadline }) === 1) this.#socket.ref();
      this.#sentAt = now;
      this.#socket.write(body.packet());
    });
  }

  /** Ends the connection, not the session. Once. */
  end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelTick();
    this.#socket.destroy();
    const error = this.#unavailable(reason);
    this.#onSession?.reject(
      this.#isReached
        ? new RivuletError('CONNECTION_FAILED', error.message, { cause: error })
        : error,
    );
    this.#onSession = null;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#options.onEnd(this);
  }

  #begin(): void {
    const { auth } = this.#options;
    if (auth !== undefined) {
      const body = new JuteWriter().int(XID_AUTH).int(OP_AUTH).int(0);
      this.#socket.write(body.text(auth.scheme).buffer(Buffer.from(auth.text)).packet());
    }
    this.#socket.unref();
    this.#tick();
  }

  /** Pings, and looks whether the server still answers. */
  #tick(): void {
    const { scheduler, timeoutMs } = this.#options;
    const every = Math.max(50, Math.min(this.session.timeoutMs / 6, timeoutMs / 2));
    const due = this.#waiting[0]?.deadline ?? Number.POSITIVE_INFINITY;
    this.#cancelTick = scheduler.after(
      Math.max(1, Math.min(every, due - scheduler.monotonic())),
      () => {
        const now = scheduler.monotonic();
        const oldest = this.#waiting[0];
        if (oldest !== undefined && now >= oldest.deadline) {
          this.end('it has not answered a request in time');
          return;
        }
        if (now - this.#heardAt > (this.session.timeoutMs * 2) / 3) {
          this.end('it has been silent for two thirds of the session');
          return;
        }
        if (now - this.#sentAt >= this.session.timeoutMs / 3 - 1) {
          this.#sentAt = now;
          this.#socket.write(new JuteWriter().int(XID_PING).int(OP_PING).packet());
        }
        this.#tick();
      },
      false,
    );
  }

  #receive(bytes: Buffer): void {
    this.#heardAt = this.#options.scheduler.monotonic();
    this.#chunks.push(bytes);
    this.#buffered += bytes.length;
    try {
      for (let packet = this.#nextPacket(); packet !== null; packet = this.#nextPacket()) {
        if (this.#isOver) return;
        this.#take(packet);
      }
    } catch (error) {
      this.end((error as Error).message);
    }
  }

  #nextPacket(): Buffer | null {
    if (this.#buffered < 4) return null;
    if ((this.#chunks[0] as Buffer).length < 4) this.#chunks = [Buffer.concat(this.#chunks)];
    const length = (this.#chunks[0] as Buffer).readInt32BE();
    if (length < 0 || length > MAX_PACKET_BYTES) {
      throw new RivuletError('PROTOCOL', `it sent a packet of ${length} bytes`);
    }
    if (this.#buffered < 4 + length) return null;
    const all =
      this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    const rest = all.subarray(4 + length);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#buffered = rest.length;
    return all.subarray(4, 4 + length);
  }

  #take(packet: Buffer): void {
    const reader = new JuteReader(packet);
    if (this.#onSession !== null) {
      this.#takeSession(reader);
      return;
    }
    const xid = reader.int();
    const zxid = reader.long();
    const code = reader.int();
    if (zxid > this.#zxid) this.#zxid = zxid;
    if (xid === XID_PING) return;
    if (xid === XID_EVENT) {
      const type = reader.int();
      reader.int();
      this.#options.onEvent({ type, path: reader.text() });
      return;
    }
    if (xid === XID_AUTH) {
      if (code !== 0) this.end('it refuses the credentials');
      return;
    }
    const waiting = this.#waiting.shift();
    if (waiting === undefined) {
      throw new RivuletError('PROTOCOL', 'it answered what was not asked');
    }
    if (this.#waiting.length === 0) this.#socket.unref();
    waiting.resolve({ code, body: reader });
  }

  #takeSession(reader: JuteReader): void {
    reader.int();
    const timeoutMs = reader.int();
    const id = reader.long();
    const password = Buffer.from(reader.buffer());
    const begun = this.#onSession;
    this.#onSession = null;
    if (timeoutMs > 0) {
      begun?.resolve({ id, password, timeoutMs });
      return;
    }
    begun?.reject(new RivuletError('NOT_FOUND', 'the session has ended'));
    this.end('the session has ended');
  }

  #unavailable(reason: string): RivuletError {
    const text = `ZooKeeper at ${this.#options.server} cannot be reached: ${reason}`;
    return new RivuletError('REGISTRY_UNAVAILABLE', text);
  }
}
