/**
 * One client: its identity and state, what it waits for, and its end.
 *
 *   socket ─> command-loop ─> command-dispatcher ─> reply-path ─> output-buffer ─> socket
 *                                    │
 *                        blocking, suspension: what the client waits for
 *
 * Invariants: each part above has its own; here: a closed connection holds nothing for its client, is
 * registered nowhere, and runs no command.
 * Cost: nothing per command.
 */
import type { Socket } from 'node:net';
import type { NeededBlocks } from '../../engine/checkpoint/read-ahead.ts';
import type { Engine } from '../../engine/engine.ts';
import type { Database } from '../../engine/keyspace/database.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { User } from '../acl/acl-user.ts';
import { Blocking } from '../command/blocking.ts';
import type { CommandRunners } from '../command/command.ts';
import { codeOf, type Recheck } from '../command/command-dispatcher.ts';
import type { CommandEntry } from '../command/command-table.ts';
import type { RequestSession } from '../command/request-session.ts';
import type { Subscriptions } from '../command/subscriptions.ts';
import type { Transaction } from '../command/transaction.ts';
import { clientLine, shownAddress } from '../observability/client-info.ts';
import { heldBytes, outputBytes } from '../observability/client-memory.ts';
import { OUTPUT_CHUNK, OutputBuffer, type OutputOwner } from '../output/output-buffer.ts';
import type { Reply } from '../output/reply.ts';
import { ReplyPath } from '../output/reply-path.ts';
import { ReplyWriter } from '../output/reply-writer.ts';
import type { ConnectedClient, ServerState } from '../server-state.ts';
import type { ClientSession } from './client-session.ts';
import { CommandLoop, type LoopClient } from './command-loop.ts';
import type { Greeting } from './greeting.ts';
import { ReadingFirst } from './reading-first.ts';
import type { BlockingWait, WaitOptions } from './session.ts';
import {
  BACKLOG,
  BLOCKED,
  CLOSING,
  HELD,
  OUTPUT,
  PAUSED,
  READING,
  Suspension,
} from './suspension.ts';

/** Pending output beyond which no further command of the client runs. */
const OUTPUT_PAUSE = 32 * 1024 * 1024;
/** Pending output beyond which a responder is sent no further requests; they wait on their topic. */
const REQUEST_ROOM = 8 * 1024 * 1024;
/** How long the last replies of a closing connection may take to be sent. */
const CLOSE_GRACE_MS = 10_000;

const MINUS = 45;

export class Connection implements LoopClient, OutputOwner, ConnectedClient {
  readonly id: number;
  readonly server: ServerState;
  readonly engine: Engine;
  readonly socket: Socket;
  readonly reply: ReplyWriter;
  readonly replies: ReplyPath;
  readonly output: OutputBuffer;
  readonly suspension: Suspension;
  database: Database;
  args: Arguments;
  reading: ReadingFirst | null = null;
  denyBlocking = false;
  transaction: Transaction | null = null;
  subscriptions: Subscriptions | null = null;
  requests: RequestSession | null = null;

  /** Its permissions are checked for every command. */
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
  readonly createdAt: number;
  activeAt: number;
  sentAt: number;
  readonly address: string;
  readonly isLocalSocket: boolean;

  readonly #loop: CommandLoop;
  readonly #blocking: Blocking;
  #localAddress: string | null = null;
  /** Pending output a second ago. */
  #unsent = 0;
  /** The scheduler will call `endTurn`. */
  #scheduled = false;
  #closed = false;
  /** Its output broke a limit: the connection ends after this turn, and its output is dropped. */
  #cutOff = false;

  constructor(
    server: ServerState,
    runners: CommandRunners<ClientSession>,
    socket: Socket,
    greeting: Greeting | null = null,
  ) {
    this.id = greeting === null ? server.nextId() : greeting.id;
    this.server = server;
    this.engine = server.engine;
    this.socket = socket;
    this.reply = new ReplyWriter(server.pool);
    this.replies = new ReplyPath(this.reply, server.pool);
    this.output = new OutputBuffer(this, server, server.engine.journal);
    this.suspension = new Suspension(socket);
    this.database = server.engine.databases[0]!;
    this.#loop = new CommandLoop(this, runners);
    this.args = this.#loop.args;
    this.#blocking = new Blocking(this);
    this.user = server.acl.default;
    this.authenticated = server.acl.open;
    this.#loop.unauthenticated = !this.authenticated;
    if (greeting !== null) this.#continue(greeting);
    this.createdAt = this.activeAt = this.sentAt = server.monotonic();
    const { remoteAddress, remotePort } = socket;
    this.isLocalSocket = remoteAddress === undefined;
    this.address = shownAddress(remoteAddress, remotePort, server.config.get('unixsocket'));
  }

  /** It connected while the data was loaded. */
  #continue({ user, protocol, name }: Greeting): void {
    if (user !== null) this.become(user);
    this.reply.protocol = protocol;
    this.name = name;
  }

  // ---- Input

  receive(chunk: Buffer, length: number): void {
    if (this.suspension.has(CLOSING)) return;
    const { statistics } = this.server;
    statistics.reads++;
    statistics.inputBytes += length;
    this.inputBytes += length;
    this.#loop.receive(chunk, length);
  }

  ended(): void {
    this.#loop.ended();
  }

  // ---- Commands

  execute(entry: CommandEntry, args: Arguments): void {
    this.#loop.execute(entry, args);
  }

  /** The command has written its reply, from `start` on, or waits. */
  replied(start: number, entry: CommandEntry | null, waits: boolean): void {
    const { replies } = this;
    if (replies.end(start, entry, waits)) this.output.truncated();
    if (replies.apartBytes > 0) this.output.showsNothingStored(replies.appendPushes());
    if (this.drops) this.#dropOutput();
  }

  /** Memory is available, or will not be soon: the command is checked again. */
  memoryAvailable(): void {
    setImmediate(() => this.#loop.resume(HELD));
  }

  unpaused(): void {
    if (this.suspension.has(PAUSED)) setImmediate(() => this.#loop.resume(PAUSED));
  }

  readFirst(needed: NeededBlocks): boolean {
    if (this.denyBlocking) return false;
    this.reading ??= new ReadingFirst(this);
    return this.reading.begin(needed);
  }

  blocksRead(): void {
    this.#loop.resume(READING);
  }

  backlogCleared(): void {
    setImmediate(() => this.#loop.resume(BACKLOG));
  }

  // ---- Blocking

  block(wait: BlockingWait): void {
    this.#blocking.block(wait);
  }

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

  unblock(withError: boolean): boolean {
    return this.#blocking.unblock(withError);
  }

  forgetWait(): void {
    this.#blocking.forget();
    this.suspension.forgetWaits();
  }

  suspendForWait(): void {
    this.suspension.add(BLOCKED);
  }

  beginAnswer(): number {
    return this.replies.begin();
  }

  recheckWaiting(): Recheck {
    return this.lastCommand === null ? 'run' : this.#loop.recheck(this.lastCommand);
  }

  retryFailed(error: Error, start: number): void {
    this.#loop.failed(this.lastCommand, error, start);
  }

  stillWaits(start: number): void {
    this.replied(start, null, true);
  }

  answered(start: number): void {
    const { reply } = this;
    if (reply.length > start && reply.buffer[start] === MINUS) {
      // Redis counts it as it counts an error that a command replies at once.
      if (this.lastCommand !== null) this.lastCommand.statistics.failed++;
      this.server.statistics.countError(codeOf(reply.buffer, start + 1));
    }
    this.replied(start, null, false);
    this.#schedule();
  }

  // ---- Output

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
    if (this.drops) {
      if (!replies.running) reply.release();
      replies.drop();
      return;
    }
    if (replies.running) {
      replies.pushed(start >= 0);
      if (replies.apartBytes > OUTPUT_CHUNK) this.boundOutput();
    } else {
      this.output.showsNothingStored(start);
      // Bounded now: one command of another client may publish any number of messages.
      if (reply.length > OUTPUT_CHUNK) this.output.handOver();
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.server.turns.written(this);
  }

  showsUpTo(start: number, position: number): void {
    this.output.showsUpTo(start, position);
  }

  deferrable(start: number): void {
    this.output.deferrable(start);
  }

  flushDeferred(): void {
    if (!this.replies.running) this.output.flushDeferred();
  }

  endTurn(): void {
    this.#scheduled = false;
    if (this.suspension.has(BLOCKED) && !this.#blocking.active) this.#loop.resume(BLOCKED);
    else this.flush();
  }

  flush(): void {
    if (!this.replies.running) this.output.flush();
  }

  releaseOutput(): boolean {
    if (this.#closed) return false;
    const waits = this.output.release();
    if (!waits && this.suspension.has(CLOSING)) this.#finish();
    return waits;
  }

  drained(): void {
    this.requests?.outputRead();
    if (this.suspension.has(OUTPUT) && this.output.pending < OUTPUT_PAUSE / 2) {
      this.#loop.resume(OUTPUT);
    }
  }

  get drops(): boolean {
    return this.#cutOff || this.#closed;
  }

  /** Between two commands of EXEC: its reply is output too. */
  boundReply(): void {
    if (this.reply.length > this.server.outputNotice) this.boundOutput();
    if (this.#cutOff) this.reply.truncate(0);
  }

  /** Applies the limits of the client's class, and the bound of any client that does not read. */
  boundOutput(): void {
    const { server, output } = this;
    if (this.drops) return;
    const limit = this.receivesPushes ? server.pubsubOutput : server.normalOutput;
    if (output.exceeds(limit, outputBytes(this), server.monotonic())) {
      server.statistics.outputLimitDisconnections++;
      server.log.write('warning', 'Closing client for overcoming of output buffer limits', {
        client: clientLine(this),
      });
      // Not at once: a command of this client or of another one may be running.
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

  eachSecond(monotonic: number): void {
    if (outputBytes(this) > 0) this.boundOutput();
    const { pending } = this.output;
    if (pending !== this.#unsent) {
      this.#unsent = pending;
      this.sentAt = monotonic;
    }
    this.suspension.readFurther();
    this.requests?.outputRead();
  }

  // ---- What others see of it

  get outputBytes(): number {
    return this.output.total;
  }

  get outputSuspended(): boolean {
    return this.suspension.has(OUTPUT);
  }

  get readPaused(): boolean {
    return this.suspension.readPaused;
  }

  get lastActiveAt(): number {
    return Math.max(this.activeAt, this.sentAt);
  }

  get commandWaits(): boolean {
    return this.blocked || this.suspension.waits;
  }

  get waits(): boolean {
    return this.blocked || this.suspension.reasons !== 0 || this.receivesPushes;
  }

  get inputWaiting(): number {
    return this.#loop.waiting;
  }

  get inputHeld(): number {
    return this.#loop.held;
  }

  get waitingBytes(): number {
    return this.suspension.keptBytes + this.#blocking.bytes;
  }

  get heldBytes(): number {
    return heldBytes(this);
  }

  get listening(): boolean {
    return this.subscriptions !== null && this.subscriptions.total > 0;
  }

  get isMonitor(): boolean {
    return this.server.monitors.has(this);
  }

  /** Others cause its output: it has the limits of Redis's class `pubsub`. */
  get receivesPushes(): boolean {
    return this.listening || this.requests?.active === true || this.isMonitor;
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

  get mustLogIn(): boolean {
    return !this.authenticated && !this.server.acl.open;
  }

  become(user: User): void {
    this.user = user;
    this.authenticated = true;
    this.#loop.unauthenticated = false;
  }

  reset(): void {
    const { acl } = this.server;
    this.#leaveAll();
    this.database = this.engine.databases[0]!;
    this.reply.protocol = 2;
    this.name = '';
    this.replies.reset();
    this.noEvict = this.noTouch = false;
    this.user = acl.default;
    this.authenticated = acl.open;
    this.#loop.unauthenticated = !this.authenticated;
  }

  #leaveAll(): void {
    this.transaction?.discard();
    this.subscriptions?.clear();
    this.requests?.clear();
    this.server.monitors.delete(this);
  }

  closeAfterReply(): void {
    if (this.suspension.has(CLOSING)) return;
    this.suspension.add(CLOSING);
    // Further input is read and dropped: a socket that is closed with input unread loses its last replies.
    this.suspension.resumeReading();
    this.flushDeferred();
    if (this.output.held === 0) this.#finish();
  }

  #finish(): void {
    // The running command may still have to write its reply: QUIT's.
    setImmediate(() => {
      this.flushDeferred();
      if (this.output.held > 0) return;
      this.output.send();
      this.socket.destroySoon();
      setTimeout(() => this.destroy(), CLOSE_GRACE_MS).unref();
    });
  }

  destroy(): void {
    this.suspension.add(CLOSING);
    this.socket.destroy();
    this.closed();
  }

  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.suspension.add(CLOSING);
    this.server.connections.delete(this.id);
    this.forgetWait();
    this.#leaveAll();
    this.#dropOutput();
  }

  get isClosed(): boolean {
    return this.#closed;
  }
}
