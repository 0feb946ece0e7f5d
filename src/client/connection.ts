/**
 * One connection to a server: handshake, commands out, replies in, in order.
 *
 * Holds: the socket, the commands written in this turn of the loop and not yet handed to it, and the calls
 * that wait for a reply, in the order of sending.
 * Invariant: every command handed to `send` is settled exactly once: by its reply, or, when the
 * connection ends, by an error that says so. A connection never reconnects: client.ts makes another.
 * Cost: one write for all commands of one turn.
 */
import { connect as connectTcp, type NetConnectOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { RivuletError } from '../errors.ts';
import { type CommandArgument, CommandEncoder } from './command-encoder.ts';
import { Fifo } from './fifo.ts';
import type { ResolvedOptions } from './options.ts';
import { pairsOf, type Reply, ReplyError } from './reply.ts';
import { ReplyParser } from './reply-parser.ts';

/** A call that waits for its reply. A ReplyError is passed to `reply` too. */
export interface Pending {
  reply(reply: Reply): void;
  fail(error: RivuletError): void;
}

export interface ConnectionListener {
  push(items: Reply[]): void;
  /** There is room for more commands: a reply came, or the socket has drained. */
  room(): void;
  /** Called once; everything in flight has been failed. */
  closed(error: RivuletError, connection: Connection): void;
}

interface InFlight {
  readonly pending: Pending;
  /** The tick of #clock from which on the reply is late. */
  readonly lateAt: number;
  /** Subscriptions are answered by pushes in place of a reply; 0 for all others. */
  confirmations: Confirmations;
}

/** A command that is to be sent together with others. */
export interface Outgoing {
  readonly args: readonly CommandArgument[];
  readonly pending: Pending;
  readonly extraMs?: number;
  readonly confirmations?: Confirmations;
}

/** This many pushes, or all pushes up to the one at which the function returns true. */
export type Confirmations = number | (() => boolean);

/**
 * Bytes that are written before the turn ends, so that the server starts while this side goes on. Each
 * write of a turn may be twice as large as the one before it: 100 requests leave in two or three writes
 * (60 % faster than in one), and a megabyte leaves in few system calls.
 */
const FIRST_FLUSH_BYTES = 8_192;
const MOST_FLUSH_BYTES = 131_072;
const TICKS_PER_TIMEOUT = 8;
const CONFIRMATIONS = new Set(
  ['', 'p', 's'].flatMap((kind) => [`${kind}subscribe`, `${kind}unsubscribe`]),
);

export class Connection {
  /** The server's id of this connection; 0 when the server does not reply it. */
  id = 0;
  readonly #options: ResolvedOptions;
  readonly #listener: ConnectionListener;
  readonly #socket: Socket;
  readonly #parser: ReplyParser;
  readonly #encoder = new CommandEncoder();
  readonly #inFlight = new Fifo<InFlight>();
  #timer: NodeJS.Timeout | undefined;
  #clock = 0;
  #isFlushDue = false;
  #flushAt = FIRST_FLUSH_BYTES;
  #isFull = false;
  #isClosed = false;
  #cause: Error | undefined;

  /** Resolves when connected, authenticated and on the right database. */
  static async open(options: ResolvedOptions, listener: ConnectionListener): Promise<Connection> {
    const connection = new Connection(options, listener);
    const { connectTimeoutMs } = options;
    const giveUp = () => {
      const error = `no connection to ${addressOf(options)} within ${connectTimeoutMs} ms`;
      connection.destroy(new RivuletError('TIMEOUT', error));
    };
    const late = connectTimeoutMs === 0 ? undefined : setTimeout(giveUp, connectTimeoutMs);
    try {
      await connection.#handshake();
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  private constructor(options: ResolvedOptions, listener: ConnectionListener) {
    this.#options = options;
    this.#listener = listener;
    this.#parser = new ReplyParser({
      reply: (reply) => this.#onReply(reply),
      push: (items) => this.#onPush(items),
    });
    this.#socket = openSocket(options);
    this.#socket.on('data', (chunk) => this.#onData(chunk as Buffer));
    this.#socket.on('drain', () => this.#onDrain());
    this.#socket.on('error', (error) => (this.#cause ??= error));
    this.#socket.on('close', () => this.#onClose());
    if (options.timeoutMs > 0) {
      this.#timer = setInterval(
        () => this.#checkLate(),
        Math.ceil(options.timeoutMs / TICKS_PER_TIMEOUT),
      );
      this.#timer.unref();
    }
  }

  get inFlight(): number {
    return this.#inFlight.length;
  }

  /** Whether another command may be sent now. */
  get hasRoom(): boolean {
    return !this.#isClosed && !this.#isFull && this.#inFlight.length < this.#options.maxInFlight;
  }

  /**
   * Sends one command. `extraMs` is how much longer than the timeout its reply may take (Infinity:
   * for ever), `confirmations` how many pushes answer it. Throws TypeError, having sent nothing, when
   * an argument is none.
   */
  send(
    args: readonly CommandArgument[],
    pending: Pending,
    extraMs = 0,
    confirmations: Confirmations = 0,
  ): void {
    if (this.#isClosed) {
      pending.fail(this.#closedError());
      return;
    }
    const before = this.#encoder.length;
    try {
      this.#encoder.write(args);
    } catch (error) {
      this.#encoder.truncate(before);
      throw error;
    }
    this.#expect(pending, extraMs, confirmations);
    this.#sendSoon();
  }

  /** Several commands, one right after the other: all of them, or none where an argument is none. */
  sendAll(commands: readonly Outgoing[]): void {
    if (this.#isClosed) {
      for (const { pending } of commands) pending.fail(this.#closedError());
      return;
    }
    const before = this.#encoder.length;
    try {
      for (const { args } of commands) this.#encoder.write(args);
    } catch (error) {
      this.#encoder.truncate(before);
      throw error;
    }
    for (const { pending, extraMs = 0, confirmations = 0 } of commands) {
      this.#expect(pending, extraMs, confirmations);
    }
    this.#sendSoon();
  }

  #expect(pending: Pending, extraMs: number, confirmations: Confirmations): void {
    const extraTicks = extraMs === 0 ? 0 : (extraMs / this.#options.timeoutMs) * TICKS_PER_TIMEOUT;
    const lateAt = this.#clock + TICKS_PER_TIMEOUT + 1 + extraTicks;
    this.#inFlight.push({ pending, lateAt, confirmations });
  }

  #sendSoon(): void {
    if (this.#encoder.length >= this.#flushAt) {
      this.#flushAt = Math.min(2 * this.#flushAt, MOST_FLUSH_BYTES);
      this.#flush();
    }
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    setImmediate(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#isFlushDue = false;
    this.#flushAt = FIRST_FLUSH_BYTES;
    this.#flush();
  }

  /** As `send`, as a promise. An error reply rejects it. */
  call(...args: CommandArgument[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const reply = (value: Reply) =>
        value instanceof ReplyError ? reject(value) : resolve(value);
      if (this.#isClosed) reject(this.#closedError());
      else this.send(args, { reply, fail: reject });
    });
  }

  /** Ends the connection at once; calls in flight fail. */
  destroy(error?: RivuletError): void {
    this.#cause ??= error;
    this.#socket.destroy();
  }

  /** Keeps the process alive, or not, while this connection is open. */
  setReferenced(isReferenced: boolean): void {
    if (isReferenced) this.#socket.ref();
    else this.#socket.unref();
  }

  async #handshake(): Promise<void> {
    const { username, password, name, db, protocol } = this.#options;
    const auth = password === undefined ? [] : ['AUTH', username ?? 'default', password];
    const steps: Promise<unknown>[] = [];
    if (protocol === 3) {
      const naming = name === undefined ? [] : ['SETNAME', name];
      const hello = this.call('HELLO', 3, ...auth, ...naming);
      steps.push(hello.then((reply) => this.#readId(reply)));
    } else {
      if (password !== undefined) {
        const [command, ...credentials] = username === undefined ? ['AUTH', password] : auth;
        steps.push(this.call(command, ...credentials));
      }
      if (name !== undefined) steps.push(this.call('CLIENT', 'SETNAME', name));
      // Needed only to unblock; a user without the right to ask goes without it.
      const id = this.call('CLIENT', 'ID').then((reply) => (this.id = Number(reply)));
      steps.push(id.catch((error) => (error instanceof ReplyError ? 0 : Promise.reject(error))));
    }
    if (db !== 0) steps.push(this.call('SELECT', db));
    const outcomes = await Promise.allSettled(steps);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  #readId(hello: Reply): void {
    const id = pairsOf(hello).find(([key]) => String(key) === 'id');
    if (id !== undefined) this.id = Number(id[1]);
  }

  /** Hands the commands written so far to the socket at once. */
  flush(): void {
    this.#flush();
  }

  #flush(): void {
    if (this.#isClosed || this.#encoder.length === 0) return;
    // While the socket is still connecting this only queues, within Node's own limits.
    if (!this.#socket.write(this.#encoder.take())) this.#isFull = true;
  }

  #onDrain(): void {
    this.#isFull = false;
    this.#listener.room();
  }

  #onData(chunk: Buffer): void {
    try {
      this.#parser.feed(chunk);
    } catch (error) {
      // An exception of the listener is not a fault of the server.
      if (!(error instanceof RivuletError)) throw error;
      this.destroy(error);
      return;
    }
    this.#listener.room();
  }

  #onReply(reply: Reply): void {
    const head = this.#inFlight.shift();
    if (head !== undefined) head.pending.reply(reply);
    else this.destroy(new RivuletError('CONNECTION_FAILED', 'a reply to no command'));
  }

  #onPush(items: Reply[]): void {
    // The listener knows what is subscribed; whether a command is complete may depend on it.
    this.#listener.push(items);
    const head = this.#inFlight.peek();
    if (head === undefined || head.confirmations === 0) return;
    if (!CONFIRMATIONS.has(String(items[0]))) return;
    const { confirmations } = head;
    if (typeof confirmations === 'number') {
      head.confirmations = confirmations - 1;
      if (confirmations > 1) return;
    } else if (!confirmations()) return;
    this.#inFlight.shift();
    head.pending.reply(items);
  }

  #checkLate(): void {
    this.#clock++;
    const head = this.#inFlight.peek();
    if (head === undefined || head.lateAt > this.#clock) return;
    const text = `no reply from ${addressOf(this.#options)} within ${this.#options.timeoutMs} ms`;
    this.destroy(new RivuletError('TIMEOUT', text));
  }

  #onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#encoder.clear();
    const error = this.#closedError();
    for (const { pending } of this.#inFlight.drain()) pending.fail(error);
    this.#listener.closed(error, this);
  }

  #closedError(): RivuletError {
    if (this.#cause instanceof RivuletError) return this.#cause;
    const reason = this.#cause?.message ?? 'closed by the other side';
    const text = `connection to ${addressOf(this.#options)} lost: ${reason}; commands in flight may or may not have been executed`;
    return new RivuletError('CONNECTION_FAILED', text, { cause: this.#cause });
  }
}

function openSocket(options: ResolvedOptions): Socket {
  const { host, port, path, tls } = options;
  const target: NetConnectOpts = path === undefined ? { host, port } : { path };
  const socket = tls === undefined ? connectTcp(target) : connectTls({ ...target, ...tls });
  if (path === undefined) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
  }
  return socket;
}

function addressOf({ host, port, path }: ResolvedOptions): string {
  return path ?? `${host}:${port}`;
}
