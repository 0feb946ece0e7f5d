/**
 * One client: bytes in, commands run, replies out.
 *
 *   receive ─> parser ─> look-up ─> arity, authentication, ACL, state ─> MULTI queue or run
 *                                                        settle ─> replies, held to their gate
 *
 * What it waits for is in blocking.ts, the way out of its replies in outlet.ts.
 *
 * Holds: the session's state and, while the client is suspended (blocked on keys, paused, waiting for
 * its own output or for the disk), the input it has sent meanwhile, bounded.
 * Invariants: commands of one connection run one after another, in order; while suspended none runs;
 * a reply leaves only when the log is durable up to the gate of the moment it was made.
 * Cost: per command one look-up, one clock reading and a few compares; no allocation.
 */
import type { Socket } from 'node:net';
import type { Database } from '../engine/database.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arguments } from '../util/arguments.ts';
import type { User } from './acl-user.ts';
import { Blocking, type Waiter } from './blocking.ts';
import { clientLine, shownAddress } from './client-info.ts';
import { type CommandEntry, FLAG } from './command-table.ts';
import {
  deniedSinceQueued,
  noteDenied,
  noteRun,
  notWhileListening,
  unknownCommand,
  unknownSubcommand,
} from './dispatch-texts.ts';
import { OUTPUT_CHUNK, Outlet } from './outlet.ts';
import type { OutputQueue } from './output-queue.ts';
import { ReplyWriter } from './reply-writer.ts';
import { BROKEN, COMPLETE, RespParser } from './resp-parser.ts';
import type { ServerState } from './server-state.ts';
import type {
  BlockingWait,
  ExchangeState,
  SubscriptionState,
  TransactionState,
} from './session.ts';
import { QUEUE_FULL } from './transaction.ts';

/** A connection runs no longer than this while others wait for their turn. */
const TURN_MS = 4;
/** Output a client has not read beyond which no further command of it is run. */
const OUTPUT_PAUSE = 32 * 1024 * 1024;
/** A suspended client's input beyond which nothing more is read from its socket. */
const INPUT_PAUSE = 1024 * 1024;
/** How long a closing connection's last replies may take to leave. */
const LAST_WORDS_MS = 10_000;
/** The clock of commands is refreshed after so many commands, or after one that took long. */
const CLOCK_EVERY = 16;
/** Larger commands are asked about by size: whether the log has room for so much. */
const LARGE_COMMAND = 64 * 1024;

/** Why no command of a connection may run now; bits, because several may hold at once. */
const BLOCKED = 1;
const PAUSED = 2;
const OUTPUT = 4;
const BACKLOG = 8;
const YIELDED = 16;
const CLOSING = 32;
const HELD = 64;

export type ReplyMode = 'on' | 'off' | 'skip-next' | 'skip';

export class Connection implements Waiter {
  readonly id: number;
  readonly server: ServerState;
  readonly engine: Engine;
  readonly socket: Socket;
  readonly reply: ReplyWriter;
  database: Database;
  args: Arguments;
  denyBlocking = false;
  transaction: TransactionState | null = null;
  subscriptions: SubscriptionState | null = null;
  exchange: ExchangeState | null = null;

  /** Who it is; permissions are looked up here for every command. */
  user: User;
  authenticated: boolean;
  name = '';
  libName = '';
  libVersion = '';
  replyMode: ReplyMode = 'on';
  noEvict = false;
  noTouch = false;
  lastCommand: CommandEntry | null = null;
  commands = 0;
  inputBytes = 0;
  /** Monotonic ms. */
  readonly createdAt: number;
  /** Monotonic ms of the last received byte. */
  activeAt: number;

  readonly #outlet: Outlet;
  readonly #blocking: Blocking;
  readonly #parser: RespParser;
  #suspended = 0;
  #touched = false;
  #readPaused = false;
  #closed = false;
  #inputEnded = false;
  /** A command that came while CLIENT PAUSE held, or while memory was short. */
  #postponed: Arguments | null = null;

  constructor(server: ServerState, socket: Socket) {
    this.id = server.nextId();
    this.server = server;
    this.engine = server.engine;
    this.socket = socket;
    this.reply = new ReplyWriter(server.pool);
    this.database = server.engine.databases[0]!;
    this.#parser = new RespParser(server.parserLimits);
    this.args = this.#parser.args;
    this.user = server.acl.default;
    this.authenticated = server.acl.open;
    this.#parser.unauthenticated = !this.authenticated;
    this.#outlet = new Outlet(this);
    this.#blocking = new Blocking(this);
    this.createdAt = server.monotonic();
    this.activeAt = server.monotonic();
  }

  // ---- Input

  /** Bytes from the socket; `chunk` may be reused once this returns. */
  receive(chunk: Buffer, length: number): void {
    if ((this.#suspended & CLOSING) !== 0) return;
    const { server } = this;
    server.statistics.reads++;
    server.statistics.inputBytes += length;
    this.inputBytes += length;
    server.mark = server.monotonic();
    this.activeAt = server.mark;
    this.engine.turn();
    this.#parser.feed(chunk, 0, length);
    this.#process();
    server.settled();
  }

  /** The client has sent its last byte. */
  ended(): void {
    this.#inputEnded = true;
    // Who waits for keys is gone; whoever has sent a pipeline and then nothing more gets its replies.
    if ((this.#suspended & BLOCKED) !== 0) this.destroy();
    else if (this.#suspended === 0) this.#close();
  }

  #process(): void {
    const parser = this.#parser;
    const { server } = this;
    const until = server.mark + TURN_MS;
    let count = 0;
    while (this.#suspended === 0) {
      const status = parser.next();
      if (status !== COMPLETE) {
        if (status === BROKEN) this.#protocolError(parser.error);
        break;
      }
      if (this.args !== parser.args) this.args = parser.args;
      if (this.args.count === 0) continue;
      this.#dispatch();
      if (this.reply.length > OUTPUT_CHUNK) this.#outlet.handOver();
      if ((++count & (CLOCK_EVERY - 1)) === 0) {
        this.engine.turn();
        if (server.mark > until && parser.waiting > 0) this.#yield();
        if (server.backlogged) this.#stall();
      }
    }
    parser.keep();
    if (parser.waiting > 0) this.#boundInput();
    this.flush();
    // Few commands may be many bytes.
    if (this.#suspended === 0 && server.backlogged) this.#stall();
    if (this.#inputEnded && this.#suspended === 0) this.#close();
  }

  /** Lets the other connections have their turn; goes on in the next round of the event loop. */
  #yield(): void {
    this.#suspend(YIELDED);
    this.#pauseReading();
    setImmediate(() => this.#resume(YIELDED));
  }

  #stall(): void {
    this.#suspend(BACKLOG);
    this.#pauseReading();
    this.server.stall(this);
  }

  /** The log's backlog has gone. */
  resumeLater(): void {
    setImmediate(() => this.#resume(BACKLOG));
  }

  #suspend(reason: number): void {
    this.#suspended |= reason;
  }

  #resume(reason: number): void {
    this.#suspended &= ~reason;
    if (this.#suspended !== 0) return;
    const { server } = this;
    server.mark = server.monotonic();
    this.engine.turn();
    const postponed = this.#postponed;
    if (postponed !== null) {
      this.#postponed = null;
      this.args = postponed;
      this.#dispatch();
    }
    this.#process();
    if (this.#suspended === 0 || this.#parser.waiting <= INPUT_PAUSE) this.#resumeReading();
    server.settled();
  }

  #boundInput(): void {
    const limit = this.authenticated ? this.server.queryBufferLimit : 1024 * 1024;
    if (this.#parser.waiting > limit) {
      this.server.statistics.queryLimitDisconnections++;
      this.server.log.write('warning', 'Closing client that reached max query buffer length', {
        client: clientLine(this),
      });
      this.destroy();
    } else if (this.#suspended !== 0 && this.#parser.waiting > INPUT_PAUSE) {
      this.#pauseReading();
    }
  }

  #pauseReading(): void {
    if (this.#readPaused) return;
    this.#readPaused = true;
    this.socket.pause();
  }

  #resumeReading(): void {
    if (!this.#readPaused || this.#closed) return;
    this.#readPaused = false;
    this.socket.resume();
  }

  /** Nothing more will be sent to us. */
  #close(): void {
    if (this.output.pending > 0) this.closeAfterReply();
    else this.destroy();
  }

  #protocolError(why: string): void {
    this.server.statistics.countError('ERR');
    this.reply.error(`ERR Protocol error: ${why}`);
    this.server.log.write('verbose', `Protocol error (${why}) from client`, {
      client: clientLine(this),
    });
    this.closeAfterReply();
  }

  // ---- Commands

  /** One whole command in `args`: Redis's processCommand. */
  #dispatch(): void {
    const { server, args, reply, transaction } = this;
    const start = reply.length;
    const entry = this.#find();
    if (entry === null) {
      this.#afterReply(start, null);
      return;
    }
    if (this.lastCommand !== entry) this.lastCommand = entry;
    const flags = entry.flags;
    if (entry.arity >= 0 ? args.count !== entry.arity : args.count < -entry.arity) {
      this.#reject(entry, `ERR wrong number of arguments for '${entry.name}' command`);
    } else if (!this.authenticated && (flags & FLAG.no_auth) === 0) {
      this.#reject(entry, 'NOAUTH Authentication required.');
    } else if (transaction?.active && (flags & FLAG.no_multi) !== 0) {
      this.#reject(entry, 'ERR Command not allowed inside a transaction');
    } else if (!this.user.unrestricted && !this.#permitted(entry)) {
      // The refusal was written.
    } else {
      const effects =
        transaction !== null && entry.name === 'exec' ? flags | transaction.queuedFlags : flags;
      if (server.memory.short && (effects & FLAG.denyoom) !== 0) {
        if (server.memory.holding) {
          this.#hold();
          return;
        }
        this.#reject(entry, "OOM command not allowed when used memory > 'maxmemory'.");
      } else if ((effects & FLAG.write) !== 0 && this.#unrecordable() !== null) {
        this.#reject(entry, `MISCONF Errors writing to the AOF file: ${this.#unrecordable()}`);
      } else if (reply.protocol === 2 && this.listening && !LISTENER_MAY.has(entry.name)) {
        this.#reject(entry, notWhileListening(args));
      } else if (server.pause !== null && this.#postpone(effects)) {
        return;
      } else if (transaction?.active && !entry.immediateInMulti) {
        if (transaction.enqueue(entry, args)) reply.simple('QUEUED');
        else reply.error(QUEUE_FULL);
      } else {
        this.#call(entry);
        this.engine.settle();
      }
    }
    this.#afterReply(start, entry);
  }

  /** The entry that argument 0 (and 1) names, or null after an error was written. */
  #find(): CommandEntry | null {
    const { args } = this;
    const entry = this.server.table.find(args);
    if (entry === null) {
      if (args.is(0, 'POST') || args.is(0, 'HOST:')) this.#crossProtocol();
      else this.#refuse(unknownCommand(args));
      return null;
    }
    if (entry.subcommands === null || args.count === 1) return entry;
    const sub = entry.subcommands.find(args, 1);
    if (sub === null) this.#refuse(unknownSubcommand(args, entry));
    return sub;
  }

  /** A browser was sent here to speak HTTP; nothing of what it says may be run. */
  #crossProtocol(): void {
    this.server.log.write(
      'warning',
      'Possible SECURITY ATTACK detected: somebody is sending POST or Host: commands. Connection aborted.',
      { client: clientLine(this) },
    );
    this.destroy();
  }

  /** An error before any command was found; `text` holds bytes as latin1. */
  #refuse(text: string): void {
    this.server.statistics.countError('ERR');
    this.reply.errorBytes(text);
    this.transaction?.refuse();
  }

  /** `text` holds bytes as latin1. */
  #reject(entry: CommandEntry, text: string): void {
    entry.statistics.rejected++;
    const { transaction } = this;
    if (entry.name === 'exec') {
      transaction?.discard();
      this.server.statistics.countError('EXECABORT');
      const why = text.replace(/^ERR /, '');
      this.reply.errorBytes(`EXECABORT Transaction discarded because of: ${why}`);
      return;
    }
    transaction?.refuse();
    this.server.statistics.countError(text.slice(0, text.indexOf(' ')));
    this.reply.errorBytes(text);
  }

  /** Whether the ACL lets it run; otherwise the refusal was written. */
  #permitted(entry: CommandEntry): boolean {
    const refusal = this.user.refusal(entry, this.args);
    if (refusal === null) return true;
    this.#reject(entry, `NOPERM ${noteDenied(this, entry, refusal)}`);
    return false;
  }

  /** Why a command that writes could not be recorded now; null when it could. */
  #unrecordable(): string | null {
    const { args, transaction } = this;
    const { journal } = this.engine;
    const last = args.count - 1;
    const bytes =
      args.offsets[last]! +
      args.lengths[last]! -
      args.offsets[0]! +
      (transaction === null ? 0 : transaction.queuedBytes);
    return bytes <= LARGE_COMMAND ? journal.refusal : journal.refusalFor(bytes);
  }

  /** During CLIENT PAUSE: keeps the command for later. */
  #postpone(effects: number): boolean {
    const pause = this.server.pause!;
    if (pause.until <= this.engine.time.monotonic) return false;
    if (pause.writesOnly && (effects & FLAG.write) === 0) return false;
    this.#postponed = this.args.clone();
    this.#suspend(PAUSED);
    return true;
  }

  /** Memory is short, and will not be for long: keeps the command until then. */
  #hold(): void {
    this.#postponed = this.args.clone();
    this.#suspend(HELD);
    this.server.memory.hold(this);
  }

  roomAgain(): void {
    setImmediate(() => this.#resume(HELD));
  }

  unpaused(): void {
    if ((this.#suspended & PAUSED) !== 0) setImmediate(() => this.#resume(PAUSED));
  }

  /** Runs a command that may run, and counts it. */
  #call(entry: CommandEntry): void {
    const { server, reply, args } = this;
    const started = server.mark;
    const start = reply.length;
    try {
      entry.run(this);
    } catch (error) {
      this.#failed(entry, error as Error, start);
    }
    const ended = server.monotonic();
    server.mark = ended;
    const { statistics } = entry;
    const elapsed = ended - started;
    statistics.record(elapsed * 1000);
    server.statistics.commands++;
    this.commands++;
    if (reply.buffer[start] === MINUS && reply.length > start) {
      statistics.failed++;
      server.statistics.countError(codeOf(reply.buffer, start + 1));
    }
    if (elapsed >= server.noticeMs) {
      this.engine.turn();
      noteRun(this, entry, args, elapsed);
    }
  }

  /** A bug: the command threw. The client learns so, the operator learns where. */
  #failed(entry: CommandEntry, error: Error, start: number): void {
    this.reply.truncate(start);
    this.reply.error(`ERR internal error: ${error.message}`);
    this.server.log.write('warning', `command ${entry.name} failed: ${error.message}`, {
      stack: error.stack,
    });
  }

  execute(entry: CommandEntry, args: Arguments): void {
    const outer = this.args;
    const outerMark = this.server.mark;
    this.args = args;
    this.denyBlocking = true;
    try {
      const refusal = this.user.unrestricted ? null : this.user.refusal(entry, args);
      if (refusal === null) {
        this.server.mark = this.server.monotonic();
        this.#call(entry);
      } else {
        noteDenied(this, entry, refusal);
        this.reply.error(`NOPERM ${deniedSinceQueued(refusal)}`);
      }
    } finally {
      this.args = outer;
      this.denyBlocking = false;
      this.server.mark = Math.max(outerMark, this.server.mark);
    }
  }

  // ---- Blocking

  block(wait: BlockingWait): void {
    this.#blocking.block(wait);
  }

  /**
   * Suspends the connection until `done` settles or the deadline (monotonic ms) passes; then `answer`
   * writes the reply, with the error that `done` was rejected with.
   */
  waitFor(
    done: Promise<void>,
    answer: (error: Error | null) => void,
    deadline = Number.POSITIVE_INFINITY,
  ): void {
    this.#blocking.waitFor(done, answer, deadline);
  }

  get blocked(): boolean {
    return this.#blocking.active;
  }

  /** CLIENT UNBLOCK. False when it is not blocked. */
  unblock(withError: boolean): boolean {
    return this.#blocking.unblock(withError);
  }

  suspendForWait(): void {
    this.#suspend(BLOCKED);
  }

  retryFailed(error: Error, start: number): void {
    this.#failed(this.lastCommand!, error, start);
  }

  answered(start: number): void {
    this.#silence(start, null);
    this.written();
  }

  // ---- Output

  /** Bytes on their way. */
  get output(): OutputQueue {
    return this.#outlet.queue;
  }

  get outputBytes(): number {
    return this.#outlet.bytes;
  }

  written(start = -1): void {
    this.#outlet.free(start);
    if (this.#touched) return;
    this.#touched = true;
    this.server.touch(this);
  }

  unhurried(start: number): void {
    this.#outlet.unhurried(start);
  }

  hurry(): void {
    this.#outlet.hurry();
  }

  /** Part of the end of a turn: goes on if it was unblocked, and sends what was written. */
  settle(): void {
    this.#touched = false;
    if ((this.#suspended & BLOCKED) !== 0 && !this.#blocking.active) this.#resume(BLOCKED);
    else this.flush();
  }

  flush(): void {
    this.#outlet.flush();
  }

  /** The log is durable further than before: true while output still waits. */
  release(): boolean {
    if (this.#closed) return false;
    const waits = this.#outlet.release();
    if (!waits && (this.#suspended & CLOSING) !== 0) this.#finish();
    return waits;
  }

  /** The socket has taken everything handed to it. */
  drained(): void {
    if ((this.#suspended & OUTPUT) !== 0 && this.output.pending < OUTPUT_PAUSE / 2) {
      this.#resume(OUTPUT);
    }
  }

  /** The configured limits, and our own bound: who does not read is not served. */
  boundOutput(): void {
    const { server, output } = this;
    const isTold = this.listening || server.monitors.has(this);
    const limit = isTold ? server.pubsubOutput : server.normalOutput;
    if (output.exceeds(limit, server.monotonic())) {
      server.statistics.outputLimitDisconnections++;
      server.log.write('warning', 'Closing client for overcoming of output buffer limits', {
        client: clientLine(this),
      });
      this.destroy();
    } else if (output.pending > OUTPUT_PAUSE) {
      this.#suspend(OUTPUT);
    }
  }

  // What CLIENT LIST and the once-a-second check want to know.

  /** Waits for its client to read. */
  get outputSuspended(): boolean {
    return (this.#suspended & OUTPUT) !== 0;
  }

  checkOutput(): void {
    if (this.output.pending > 0) this.boundOutput();
  }

  get inputWaiting(): number {
    return this.#parser.waiting;
  }

  get inputHeld(): number {
    return this.#parser.held;
  }

  /** Bytes of input and output held for this client. */
  get heldBytes(): number {
    return this.inputHeld + this.output.pending;
  }

  get listening(): boolean {
    const subscriptions = this.subscriptions;
    return subscriptions !== null && subscriptions.channels + subscriptions.patterns > 0;
  }

  /** As CLIENT LIST shows it. */
  get line(): string {
    return clientLine(this);
  }

  get address(): string {
    const { remoteAddress, remotePort } = this.socket;
    return shownAddress(remoteAddress, remotePort, this.server.config.get('unixsocket'));
  }

  get localAddress(): string {
    const { localAddress, localPort } = this.socket;
    return shownAddress(localAddress, localPort, this.server.config.get('unixsocket'));
  }

  // ---- CLIENT REPLY

  #afterReply(start: number, entry: CommandEntry | null): void {
    if (this.replyMode !== 'on') this.#silence(start, entry);
  }

  /** Takes back a reply that the client does not want. */
  #silence(start: number, entry: CommandEntry | null): void {
    if (this.replyMode === 'on') return;
    if (entry?.name.endsWith('subscribe')) return;
    if (this.replyMode === 'skip-next') {
      // CLIENT REPLY SKIP itself; the next command is the one to be silent.
      this.replyMode = 'skip';
    } else if (this.replyMode === 'skip') {
      this.replyMode = 'on';
    }
    this.reply.truncate(start);
    this.#outlet.reconsider();
  }

  // ---- Identity and end

  /** Somebody logged in; null = nobody again (RESET). */
  become(user: User | null): void {
    const { acl } = this.server;
    this.user = user ?? acl.default;
    this.authenticated = user !== null || acl.open;
    this.#parser.unauthenticated = !this.authenticated;
  }

  /** RESET: as if it had just connected. */
  reset(): void {
    this.transaction?.discard();
    this.subscriptions?.clear();
    this.exchange?.clear();
    this.server.monitors.delete(this);
    this.database = this.engine.databases[0]!;
    this.reply.protocol = 2;
    this.name = '';
    this.replyMode = 'on';
    this.noEvict = this.noTouch = false;
    this.become(null);
  }

  /** Ends the connection once every reply has left; nothing more is read. */
  closeAfterReply(): void {
    if ((this.#suspended & CLOSING) !== 0) return;
    this.#suspend(CLOSING);
    this.#pauseReading();
    this.hurry();
    if (this.output.held === 0) this.#finish();
  }

  #finish(): void {
    // What the command itself is still to write goes first: QUIT's reply.
    setImmediate(() => {
      this.hurry();
      if (this.output.held > 0) return;
      this.output.depart();
      this.socket.destroySoon();
      setTimeout(() => this.destroy(), LAST_WORDS_MS).unref();
    });
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#suspend(CLOSING);
    this.socket.destroy();
    this.closed();
  }

  /** The socket is gone, for whatever reason. */
  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#suspend(CLOSING);
    this.server.connections.delete(this.id);
    this.#blocking.forget();
    this.#postponed = null;
    this.transaction?.discard();
    this.subscriptions?.clear();
    this.exchange?.clear();
    this.server.monitors.delete(this);
    this.output.clear();
    this.reply.release();
  }

  get isClosed(): boolean {
    return this.#closed;
  }
}

const MINUS = 45;

/** What a RESP2 connection may send while it listens to channels. */
const LISTENER_MAY = new Set([
  'subscribe',
  'unsubscribe',
  'psubscribe',
  'punsubscribe',
  'ssubscribe',
  'sunsubscribe',
  'ping',
  'quit',
  'reset',
]);

/** The error's code: the first word. */
function codeOf(buffer: Buffer, from: number): string {
  let end = from;
  while (end < from + 32 && buffer[end]! > 32) end++;
  return buffer.toString('latin1', from, end);
}
