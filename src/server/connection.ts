/**
 * One client: bytes in, commands run, replies out.
 *
 *   receive ─> parser ─> command-dispatcher ─> reply-path ─> outlet ─> socket
 *                              │
 *                        blocking, suspension: what the client waits for
 *
 * Holds: the session's state and the parts above.
 * Invariants: commands of one connection run one after another, in order; while suspended none runs;
 * a reply leaves only when the log is durable up to the gate of the moment it was made; when the
 * client has closed its side, a command that would have to wait is forgotten.
 * Cost: per command one look-up, one clock reading and a few compares; no allocation.
 */
import type { Socket } from 'node:net';
import type { Database } from '../engine/database.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arguments } from '../util/arguments.ts';
import type { User } from './acl-user.ts';
import { Blocking, type Waiter, type WaitOptions } from './blocking.ts';
import { clientBytes, clientLine, shownAddress } from './client-info.ts';
import { heldBytes, outputBytes, unrunBytes } from './client-memory.ts';
import { CommandDispatcher, codeOf } from './command-dispatcher.ts';
import type { CommandEntry } from './command-table.ts';
import type { Greeting } from './greeting.ts';
import { OUTPUT_CHUNK, Outlet } from './outlet.ts';
import type { OutputQueue } from './output-queue.ts';
import type { Reply } from './reply.ts';
import { ReplyPath } from './reply-path.ts';
import { ReplyWriter } from './reply-writer.ts';
import { BROKEN, COMPLETE, RespParser } from './resp-parser.ts';
import type { ServerState } from './server-state.ts';
import type {
  BlockingWait,
  ExchangeState,
  SubscriptionState,
  TransactionState,
} from './session.ts';
import {
  BACKLOG,
  BLOCKED,
  CLOSING,
  HELD,
  OUTPUT,
  PAUSED,
  Suspension,
  YIELDED,
} from './suspension.ts';

/** A connection runs no longer than this while others wait for their turn. */
const TURN_MS = 4;
/** Output a client has not read beyond which no further command of it is run. */
const OUTPUT_PAUSE = 32 * 1024 * 1024;
/** Output beyond which a responder is given no further requests; they wait on their topic. */
const REQUEST_ROOM = 8 * 1024 * 1024;
/** How long a closing connection's last replies may take to leave. */
const LAST_WORDS_MS = 10_000;
/** The clock of commands is refreshed after so many commands, or after one that took long. */
const CLOCK_EVERY = 16;

const MINUS = 45;

export class Connection implements Waiter {
  readonly id: number;
  readonly server: ServerState;
  readonly engine: Engine;
  readonly socket: Socket;
  readonly reply: ReplyWriter;
  readonly replies: ReplyPath;
  readonly suspension: Suspension;
  database: Database;
  args: Arguments;
  denyBlocking = false;
  transaction: TransactionState | null = null;
  subscriptions: SubscriptionState | null = null;
  exchange: ExchangeState | null = null;

  /** Its user; permissions are looked up here for every command. */
  user: User;
  authenticated: boolean;
  name = '';
  libName = '';
  libVersion = '';
  noEvict = false;
  noTouch = false;
  lastCommand: CommandEntry | null = null;
  commands = 0;
  inputBytes = 0;
  /** Monotonic ms. */
  readonly createdAt: number;
  /** Monotonic ms of the last received byte. */
  activeAt: number;
  /** Monotonic ms when bytes were last sent. */
  sentAt: number;
  /** `127.0.0.1:5000`. */
  readonly address: string;
  /** Over a unix socket. */
  readonly isLocalSocket: boolean;

  readonly #outlet: Outlet;
  readonly #blocking: Blocking;
  readonly #dispatcher: CommandDispatcher;
  readonly #parser: RespParser;
  #localAddress: string | null = null;
  #unsent = 0;
  #touched = false;
  #closed = false;
  #inputEnded = false;
  /** Its output broke a limit: it is ended after this turn, and nothing more is kept for it. */
  #cutOff = false;

  constructor(server: ServerState, socket: Socket, greeting: Greeting | null = null) {
    this.id = greeting === null ? server.nextId() : greeting.id;
    this.server = server;
    this.engine = server.engine;
    this.socket = socket;
    this.reply = new ReplyWriter(server.pool);
    this.replies = new ReplyPath(this.reply, server.pool);
    this.suspension = new Suspension(socket);
    this.database = server.engine.databases[0]!;
    this.#parser = new RespParser(server.parserLimits);
    this.args = this.#parser.args;
    this.user = server.acl.default;
    this.authenticated = server.acl.open;
    this.#parser.unauthenticated = !this.authenticated;
    this.#outlet = new Outlet(this);
    this.#blocking = new Blocking(this);
    this.#dispatcher = new CommandDispatcher(this);
    if (greeting !== null) this.#continue(greeting);
    this.createdAt = this.activeAt = this.sentAt = server.monotonic();
    const { remoteAddress, remotePort } = socket;
    this.isLocalSocket = remoteAddress === undefined;
    this.address = shownAddress(remoteAddress, remotePort, server.config.get('unixsocket'));
  }

  /** It was greeted while the data was loaded. */
  #continue({ user, protocol, name }: Greeting): void {
    if (user !== null) this.become(user);
    this.reply.protocol = protocol;
    this.name = name;
  }

  // ---- Input

  /** Bytes from the socket; `chunk` may be reused once this returns. */
  receive(chunk: Buffer, length: number): void {
    if (this.suspension.has(CLOSING)) return;
    const { server } = this;
    server.statistics.reads++;
    server.statistics.inputBytes += length;
    this.inputBytes += length;
    server.mark = server.monotonic();
    this.activeAt = server.mark;
    this.engine.turn();
    if (!this.authenticated) this.#parser.unauthenticated = this.mustLogIn;
    try {
      this.#parser.feed(chunk, 0, length);
      this.#process();
    } catch (error) {
      // Outside a command: what this connection's state is now is unknown; the others go on.
      server.failures.note('reading a client', error);
      this.destroy();
    }
    server.settled();
  }

  /** The client has sent its last byte. */
  ended(): void {
    this.#inputEnded = true;
    this.#endWhenDone();
  }

  /** After the client's last byte: commands that can run do, one that has to wait is forgotten. */
  #endWhenDone(): void {
    const { suspension } = this;
    if (!this.#inputEnded || suspension.has(CLOSING)) return;
    if (suspension.waits) {
      this.#blocking.forget();
      suspension.forgetWaits();
    } else if (suspension.reasons !== 0) return;
    // A client that has sent a pipeline and closed its side still gets its replies.
    if (outputBytes(this) > 0) this.closeAfterReply();
    else this.destroy();
  }

  #process(): void {
    const parser = this.#parser;
    const { server, suspension } = this;
    const until = server.mark + TURN_MS;
    let count = 0;
    while (suspension.reasons === 0) {
      const status = parser.next();
      if (status !== COMPLETE) {
        if (status === BROKEN) this.#protocolError(parser.error);
        break;
      }
      if (this.args !== parser.args) this.args = parser.args;
      if (this.args.count === 0) continue;
      this.#dispatcher.dispatch();
      if (this.reply.length > OUTPUT_CHUNK) this.#outlet.handOver();
      if ((++count & (CLOCK_EVERY - 1)) === 0) {
        this.engine.turn();
        if (suspension.reasons !== 0) break;
        if (server.mark > until && parser.waiting > 0) this.#yield();
        if (server.backlogged) this.#stall();
      }
    }
    parser.keep();
    this.#boundInput();
    this.flush();
    // Few commands may be many bytes.
    if (suspension.reasons === 0 && server.backlogged) this.#stall();
    this.#endWhenDone();
  }

  /** Lets the other connections have their turn; goes on in the next round of the event loop. */
  #yield(): void {
    this.suspension.add(YIELDED);
    this.suspension.pauseReading();
    setImmediate(() => this.#resume(YIELDED));
  }

  #stall(): void {
    this.suspension.add(BACKLOG);
    this.suspension.pauseReading();
    this.server.stall(this);
  }

  /** The log's backlog has gone. */
  resumeLater(): void {
    setImmediate(() => this.#resume(BACKLOG));
  }

  #resume(reason: number): void {
    const { server, suspension } = this;
    if (!suspension.remove(reason)) {
      if (!suspension.has(CLOSING)) suspension.boundInput(this.#parser.waiting);
      this.#endWhenDone();
      return;
    }
    server.mark = server.monotonic();
    this.engine.turn();
    try {
      const kept = suspension.takeKept();
      if (kept !== null) {
        this.args = kept;
        this.#dispatcher.dispatch();
      }
      this.#process();
    } catch (error) {
      server.failures.note('resuming a client', error);
      this.destroy();
    }
    if (!suspension.has(CLOSING)) suspension.boundInput(this.#parser.waiting);
    server.settled();
  }

  #boundInput(): void {
    const { waiting } = this.#parser;
    if (waiting === 0 && this.transaction === null) return;
    const limit = this.mustLogIn ? 1024 * 1024 : this.server.queryBufferLimit;
    if (unrunBytes(this) > limit) {
      this.server.statistics.queryLimitDisconnections++;
      this.server.log.write('warning', 'Closing client that reached max query buffer length', {
        client: clientLine(this),
      });
      this.destroy();
    } else if (this.suspension.reasons !== 0) {
      this.suspension.boundInput(waiting);
    }
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

  execute(entry: CommandEntry, args: Arguments): void {
    this.#dispatcher.execute(entry, args);
  }

  /** The command has written its reply, from `start` on, or waits. */
  replied(start: number, entry: CommandEntry | null, waits: boolean): void {
    const { replies } = this;
    if (replies.end(start, entry, waits)) this.#outlet.reconsider();
    if (replies.apartBytes > 0) this.#outlet.free(replies.appendPushes());
    if (this.#cutOff || this.#closed) this.#dropOutput();
  }

  // ---- What may hold a command back

  /** Memory is short no longer, or will not be soon: the command is looked at again. */
  roomAgain(): void {
    setImmediate(() => this.#resume(HELD));
  }

  unpaused(): void {
    if (this.suspension.has(PAUSED)) setImmediate(() => this.#resume(PAUSED));
  }

  block(wait: BlockingWait): void {
    this.#blocking.block(wait);
  }

  /**
   * Suspends the connection until `done` settles or the deadline passes; then `answer` writes the
   * reply, with the error that `done` was rejected with.
   */
  waitFor(
    done: Promise<void>,
    answer: (error: Error | null) => void,
    options: WaitOptions = {},
  ): void {
    this.#blocking.waitFor(done, answer, options);
  }

  get blocked(): boolean {
    return this.#blocking.active;
  }

  /** CLIENT UNBLOCK. False when it is not blocked. */
  unblock(withError: boolean): boolean {
    return this.#blocking.unblock(withError);
  }

  suspendForWait(): void {
    this.suspension.add(BLOCKED);
  }

  beginAnswer(): number {
    return this.replies.begin();
  }

  retryFailed(error: Error, start: number): void {
    this.#dispatcher.failed(this.lastCommand, error, start);
  }

  stillWaits(start: number): void {
    this.replied(start, null, true);
  }

  answered(start: number): void {
    const { reply } = this;
    if (reply.length > start && reply.buffer[start] === MINUS) {
      // Redis counts it where it would have been counted had it come at once.
      if (this.lastCommand !== null) this.lastCommand.statistics.failed++;
      this.server.statistics.countError(codeOf(reply.buffer, start + 1));
    }
    this.replied(start, null, false);
    this.#touch();
  }

  // ---- Output

  /** Bytes on their way. */
  get output(): OutputQueue {
    return this.#outlet.queue;
  }

  get outputBytes(): number {
    return this.#outlet.bytes;
  }

  get pushes(): Reply {
    return this.replies.pushes;
  }

  get pushBytes(): number {
    return this.replies.apartBytes;
  }

  get hasRoom(): boolean {
    const { hard } = this.server.pubsubOutput;
    const room = hard === 0 ? REQUEST_ROOM : Math.min(REQUEST_ROOM, hard / 4);
    return !this.#cutOff && outputBytes(this) < room;
  }

  written(start = -1): void {
    const { replies, reply } = this;
    if (this.#cutOff || this.#closed) {
      if (!replies.running) reply.release();
      replies.drop();
      return;
    }
    if (replies.running) {
      replies.pushed(start >= 0);
      if (replies.apartBytes > OUTPUT_CHUNK) this.boundOutput();
    } else {
      this.#outlet.free(start);
      // Bounded now: one command of another client may publish any number of messages.
      if (reply.length > OUTPUT_CHUNK) this.#outlet.handOver();
    }
    this.#touch();
  }

  #touch(): void {
    if (this.#touched) return;
    this.#touched = true;
    this.server.touch(this);
  }

  unhurried(start: number): void {
    this.#outlet.unhurried(start);
  }

  hurry(): void {
    if (!this.replies.running) this.#outlet.hurry();
  }

  /** Part of the end of a turn: goes on if it was unblocked, and sends what was written. */
  settle(): void {
    this.#touched = false;
    if (this.suspension.has(BLOCKED) && !this.#blocking.active) this.#resume(BLOCKED);
    else this.flush();
  }

  flush(): void {
    if (!this.replies.running) this.#outlet.flush();
  }

  /** The log is durable further than before: true while output still waits. */
  release(): boolean {
    if (this.#closed) return false;
    const waits = this.#outlet.release();
    if (!waits && this.suspension.has(CLOSING)) this.#finish();
    return waits;
  }

  /** The socket has taken everything handed to it. */
  drained(): void {
    this.exchange?.roomAgain();
    if (this.suspension.has(OUTPUT) && this.output.pending < OUTPUT_PAUSE / 2) {
      this.#resume(OUTPUT);
    }
  }

  /** Nothing more is kept for it. */
  get drops(): boolean {
    return this.#cutOff || this.#closed;
  }

  /** Between two commands of EXEC: its reply is output too. */
  boundReply(): void {
    if (this.reply.length > this.server.outputNotice) this.boundOutput();
    if (this.#cutOff) this.reply.truncate(0);
  }

  /** The limits of the client's class, and our own bound: a client that does not read is not served. */
  boundOutput(): void {
    const { server, output } = this;
    if (this.drops) return;
    const limit = this.receivesPushes ? server.pubsubOutput : server.normalOutput;
    if (output.exceeds(limit, outputBytes(this), server.monotonic())) {
      server.statistics.outputLimitDisconnections++;
      server.log.write('warning', 'Closing client for overcoming of output buffer limits', {
        client: clientLine(this),
      });
      // Not at once: this may be in the middle of a command, of its own or of another client.
      this.#cutOff = true;
      this.suspension.add(CLOSING);
      this.#dropOutput();
      setImmediate(() => this.destroy());
    } else if (output.pending > OUTPUT_PAUSE) {
      this.suspension.add(OUTPUT);
    }
  }

  #dropOutput(): void {
    this.output.clear();
    this.replies.drop();
    if (!this.replies.running) this.reply.release();
  }

  // What CLIENT LIST and the once-a-second check want to know.

  /** Waits for its client to read. */
  get outputSuspended(): boolean {
    return this.suspension.has(OUTPUT);
  }

  checkOutput(): void {
    if (outputBytes(this) > 0) this.boundOutput();
  }

  /** Once a second: whether bytes have left since the last time. */
  noteSending(monotonic: number): void {
    const { pending } = this.output;
    if (pending === this.#unsent) return;
    this.#unsent = pending;
    this.sentAt = monotonic;
  }

  /** Monotonic ms when bytes last came or went. */
  get lastActiveAt(): number {
    return Math.max(this.activeAt, this.sentAt);
  }

  /** Whether it waits: for data, for CLIENT PAUSE to end, for messages, requests or answers. */
  get waits(): boolean {
    return this.blocked || this.suspension.reasons !== 0 || this.receivesPushes;
  }

  get inputWaiting(): number {
    return this.#parser.waiting;
  }

  get inputHeld(): number {
    return this.#parser.held;
  }

  /** Bytes of the commands that wait. */
  get waitingBytes(): number {
    return this.suspension.keptBytes + this.#blocking.bytes;
  }

  /** All bytes that are held for this client. */
  get heldBytes(): number {
    return heldBytes(this);
  }

  /** Subscribed to a channel, a pattern or a shard channel. */
  get listening(): boolean {
    return this.subscriptions !== null && this.subscriptions.total > 0;
  }

  /** What it is sent depends on others: its output has the limits of Redis's class `pubsub`. */
  get receivesPushes(): boolean {
    return this.listening || this.exchange?.active === true || this.server.monitors.has(this);
  }

  /** As CLIENT LIST shows it. */
  get line(): string {
    return clientBytes(this);
  }

  get localAddress(): string {
    if (this.#localAddress === null) {
      const { localAddress, localPort } = this.socket;
      const unixSocket = this.server.config.get('unixsocket');
      this.#localAddress = shownAddress(localAddress, localPort, unixSocket);
    }
    return this.#localAddress;
  }

  // ---- Identity and end

  /** A password is asked for, and it has not logged in. */
  get mustLogIn(): boolean {
    return !this.authenticated && !this.server.acl.open;
  }

  /** Logged in as this user; null = as at the start (RESET). */
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
    this.replies.reset();
    this.noEvict = this.noTouch = false;
    this.become(null);
  }

  /** Ends the connection once every reply has left; what still comes in is dropped. */
  closeAfterReply(): void {
    if (this.suspension.has(CLOSING)) return;
    this.suspension.add(CLOSING);
    // Read on, and drop it: a socket that is closed with input unread loses its last replies.
    this.suspension.resumeReading();
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
    this.suspension.add(CLOSING);
    this.socket.destroy();
    this.closed();
  }

  /** The socket is gone, for whatever reason. */
  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.suspension.add(CLOSING);
    this.server.connections.delete(this.id);
    this.#blocking.forget();
    this.suspension.forgetWaits();
    this.transaction?.discard();
    this.subscriptions?.clear();
    this.exchange?.clear();
    this.server.monitors.delete(this);
    this.#dropOutput();
  }

  get isClosed(): boolean {
    return this.#closed;
  }
}
