/**
 * The loop of one client: parses its input and runs its commands, one after another, in order.
 *
 *   receive ─> parser ─> command-dispatcher ─┐
 *                 ^                          │ until input ends, the client has to wait, or its turn is over
 *                 └──────────────────────────┘
 *
 * Invariants: while the client is suspended (suspension.ts) no command runs; after the client has closed
 * its side, commands that can run do, and one that has to wait is forgotten.
 * Cost: per command one look-up, one clock reading and a few compares; no allocation.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { CommandRunners } from '../command/command.ts';
import {
  CommandDispatcher,
  type DispatchClient,
  type Recheck,
} from '../command/command-dispatcher.ts';
import type { CommandEntry } from '../command/command-table.ts';
import { clientLine } from '../observability/client-info.ts';
import { outputBytes, unrunBytes } from '../observability/client-memory.ts';
import { OUTPUT_CHUNK, type OutputBuffer } from '../output/output-buffer.ts';
import type { ScheduledClient } from '../turn-scheduler.ts';
import type { ClientSession } from './client-session.ts';
import { BROKEN, COMPLETE, RespParser } from './resp-parser.ts';
import { BACKLOG, CLOSING, YIELDED } from './suspension.ts';

/** A client runs no longer than this while others wait for their turn. */
const TURN_MS = 4;
/** The clock of commands is read again after this many commands. */
const CLOCK_EVERY = 16;
/** Input that a client which has not logged in may send without its being run. */
const UNAUTHENTICATED_INPUT = 1024 * 1024;

export interface LoopClient extends DispatchClient, ScheduledClient {
  readonly output: OutputBuffer;
  activeAt: number;
  /** Sends what was written. */
  flush(): void;
  /** There is no client to answer: the command that waits is forgotten. */
  forgetWait(): void;
}

export class CommandLoop {
  readonly #client: LoopClient;
  readonly #dispatcher: CommandDispatcher;
  readonly #parser: RespParser;
  #inputEnded = false;

  constructor(client: LoopClient, runners: CommandRunners<ClientSession>) {
    this.#client = client;
    this.#dispatcher = new CommandDispatcher(client, runners);
    this.#parser = new RespParser(client.server.parserLimits);
  }

  /** The arguments of the command that was parsed last. */
  get args(): Arguments {
    return this.#parser.args;
  }

  /** Bytes received and not parsed. */
  get waiting(): number {
    return this.#parser.waiting;
  }

  /** Bytes of the buffers that hold them. */
  get held(): number {
    return this.#parser.held;
  }

  /** Commands of a client that has not logged in may only be short. */
  set unauthenticated(is: boolean) {
    this.#parser.unauthenticated = is;
  }

  execute(entry: CommandEntry, args: Arguments): void {
    this.#dispatcher.execute(entry, args);
  }

  recheck(entry: CommandEntry): Recheck {
    return this.#dispatcher.recheck(entry);
  }

  failed(entry: CommandEntry | null, error: Error, start: number): void {
    this.#dispatcher.failed(entry, error, start);
  }

  /** Bytes from the socket; `chunk` may be reused when this returns. */
  receive(chunk: Buffer, length: number): void {
    const client = this.#client;
    const { server } = client;
    server.lastCommandEndedAt = server.monotonic();
    client.activeAt = server.lastCommandEndedAt;
    client.engine.turn();
    if (!client.authenticated) this.#parser.unauthenticated = client.mustLogIn;
    try {
      this.#parser.feed(chunk, 0, length);
      this.#process();
    } catch (error) {
      // Outside a command: the state of this client is unknown; the others go on.
      server.failures.note('reading a client', error);
      client.destroy();
    }
    server.turns.afterCommands();
  }

  /** The client has sent its last byte. */
  ended(): void {
    this.#inputEnded = true;
    this.#endWhenDone();
  }

  #endWhenDone(): void {
    const client = this.#client;
    const { suspension } = client;
    if (!this.#inputEnded || suspension.has(CLOSING)) return;
    if (suspension.waits) client.forgetWait();
    else if (suspension.reasons !== 0) return;
    // A client that has sent a pipeline and closed its side still receives its replies.
    if (outputBytes(client) > 0) client.closeAfterReply();
    else client.destroy();
  }

  #process(): void {
    const parser = this.#parser;
    const client = this.#client;
    const { server, suspension, engine, reply } = client;
    const { turns } = server;
    const until = server.lastCommandEndedAt + TURN_MS;
    let count = 0;
    while (suspension.reasons === 0) {
      const status = parser.next();
      if (status !== COMPLETE) {
        if (status === BROKEN) this.#protocolError(parser.error);
        break;
      }
      if (client.args !== parser.args) client.args = parser.args;
      if (parser.args.count === 0) continue;
      this.#dispatcher.dispatch();
      if (reply.length > OUTPUT_CHUNK) client.output.handOver();
      if ((++count & (CLOCK_EVERY - 1)) === 0) {
        engine.turn();
        if (suspension.reasons !== 0) break;
        if (server.lastCommandEndedAt > until && parser.waiting > 0) this.#yield();
        if (turns.backlogged) this.#awaitBacklog();
      }
    }
    parser.keep();
    this.#boundInput();
    client.flush();
    // Few commands may be many bytes.
    if (suspension.reasons === 0 && turns.backlogged) this.#awaitBacklog();
    this.#endWhenDone();
  }

  /** The other clients have their turn; this one goes on in the next turn of the event loop. */
  #yield(): void {
    const { suspension } = this.#client;
    suspension.add(YIELDED);
    suspension.pauseReading();
    setImmediate(() => this.resume(YIELDED));
  }

  #awaitBacklog(): void {
    const client = this.#client;
    client.suspension.add(BACKLOG);
    client.suspension.pauseReading();
    client.server.turns.awaitBacklog(client);
  }

  /** A reason to wait has gone. Goes on unless another one holds. */
  resume(reason: number): void {
    const client = this.#client;
    const { server, suspension } = client;
    if (!suspension.remove(reason)) {
      if (!suspension.has(CLOSING)) suspension.boundInput(this.#parser.waiting);
      this.#endWhenDone();
      return;
    }
    server.lastCommandEndedAt = server.monotonic();
    client.engine.turn();
    try {
      const kept = suspension.takeKept();
      if (kept !== null) {
        client.args = kept;
        this.#dispatcher.dispatch();
      }
      this.#process();
    } catch (error) {
      server.failures.note('resuming a client', error);
      client.destroy();
    }
    if (!suspension.has(CLOSING)) suspension.boundInput(this.#parser.waiting);
    server.turns.afterCommands();
  }

  #boundInput(): void {
    const client = this.#client;
    const { server, suspension } = client;
    const { waiting } = this.#parser;
    if (waiting === 0 && client.transaction === null) return;
    const limit = client.mustLogIn ? UNAUTHENTICATED_INPUT : server.queryBufferLimit;
    if (unrunBytes(client) > limit) {
      server.statistics.queryLimitDisconnections++;
      server.log.write('warning', 'Closing client that reached max query buffer length', {
        client: clientLine(client),
      });
      client.destroy();
    } else if (suspension.reasons !== 0) {
      suspension.boundInput(waiting);
    }
  }

  #protocolError(why: string): void {
    const client = this.#client;
    const { server } = client;
    server.statistics.countError('ERR');
    client.reply.error(`ERR Protocol error: ${why}`);
    server.log.write('verbose', `Protocol error (${why}) from client`, {
      client: clientLine(client),
    });
    client.closeAfterReply();
  }
}
