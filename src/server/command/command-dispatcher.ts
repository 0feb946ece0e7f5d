/**
 * Looks up one command of a client, checks it, queues or runs it, and counts it. Redis's processCommand.
 *
 *   look-up ─> arity, authentication, ACL ─> memory, disk, subscription, pause ─> MULTI queue or run
 *
 * Invariants: every command is replied to once, blocks, or is kept for later. An exception of a command
 * becomes its error reply.
 * Cost: per command one look-up, one clock reading and a few compares; no allocation.
 */
import { isDamage } from '../../stream/block/block-damage.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { ClientSession } from '../connection/client-session.ts';
import type { ReadingFirst } from '../connection/reading-first.ts';
import { HELD, PAUSED, READING, type Suspension } from '../connection/suspension.ts';
import { clientLine } from '../observability/client-info.ts';
import { shownUpTo } from '../output/reply-barriers.ts';
import type { ReplyPath } from '../output/reply-path.ts';
import type { ServerState } from '../server-state.ts';
import type { CommandRunners } from './command.ts';
import {
  deniedSinceQueued,
  noteDenied,
  noteRun,
  notWhileListening,
  unknownCommand,
  unknownSubcommand,
} from './command-errors.ts';
import { type CommandEntry, FLAG } from './command-table.ts';
import { keyIndices } from './key-specs.ts';
import { QUEUE_FULL } from './transaction.ts';

/** For a larger command the journal is asked whether it has room for its bytes. */
const LARGE_COMMAND = 64 * 1024;

/** Keys are also JavaScript strings, which hold a little less than 512 MiB. */
const LONGEST_KEY = 512 * 1024 * 1024 - 1024;

const MINUS = 45;

/** What becomes of a command that waits and could go on. */
export type Recheck = 'run' | 'later' | 'refused';

/** The client whose commands are dispatched. */
export interface DispatchClient extends ClientSession {
  readonly replies: ReplyPath;
  readonly suspension: Suspension;
  /** Null until a command has to wait for blocks. */
  readonly reading: ReadingFirst | null;
  denyBlocking: boolean;
  lastCommand: CommandEntry | null;
  commands: number;
  /** The command has written its reply, from `start` on, or waits. */
  replied(start: number, entry: CommandEntry | null, waits: boolean): void;
  /** Checks the size of the reply that EXEC builds. */
  boundReply(): void;
  /** A command that was held for memory may be checked again. */
  memoryAvailable(): void;
}

export class CommandDispatcher {
  readonly #client: DispatchClient;
  readonly #server: ServerState;
  readonly #runners: CommandRunners<ClientSession>;

  constructor(client: DispatchClient, runners: CommandRunners<ClientSession>) {
    this.#client = client;
    this.#server = client.server;
    this.#runners = runners;
  }

  /** Dispatches the command in `args`, and notifies the reply path of its beginning and end. */
  dispatch(): void {
    const client = this.#client;
    const start = client.replies.begin();
    let entry: CommandEntry | null = null;
    let kept = false;
    try {
      entry = this.#find();
      if (entry !== null) {
        kept = this.#checkAndRun(entry);
        const { journal } = client.engine;
        // While everything is safe no reply waits, whatever it shows.
        if (journal.gate > journal.safe) {
          const shown = shownUpTo(entry, client.args, client.database);
          // A key may have been touched and no change of it recorded: nothing is behind the gate.
          if (shown !== null) client.showsUpTo(start, Math.min(shown, journal.gate));
        }
      }
    } finally {
      if (client.reading !== null && !client.suspension.has(READING)) client.reading.end(!kept);
      client.replied(start, entry, kept || client.blocked);
    }
  }

  /** True when the command is kept for later. */
  #checkAndRun(entry: CommandEntry): boolean {
    const client = this.#client;
    const { args, reply, transaction } = client;
    const server = this.#server;
    if (client.lastCommand !== entry) client.lastCommand = entry;
    const flags = entry.flags;
    if (entry.arity >= 0 ? args.count !== entry.arity : args.count < -entry.arity) {
      this.#reject(entry, `ERR wrong number of arguments for '${entry.name}' command`);
    } else if (args.buffer.length > LONGEST_KEY && hasLongKey(entry, args)) {
      this.#reject(entry, `ERR a key is longer than ${LONGEST_KEY} bytes`);
    } else if ((flags & FLAG.no_auth) === 0 && client.mustLogIn) {
      this.#reject(entry, 'NOAUTH Authentication required.');
    } else if (transaction?.active && (flags & FLAG.no_multi) !== 0) {
      this.#reject(entry, 'ERR Command not allowed inside a transaction');
    } else if (!client.user.unrestricted && !this.#permitted(entry)) {
      // The refusal was written.
    } else {
      const effects =
        transaction !== null && entry.name === 'exec' ? flags | transaction.queuedFlags : flags;
      if (server.memory.short && (effects & FLAG.denyoom) !== 0) {
        if (server.memory.holding) {
          client.suspension.keep(args, HELD);
          server.memory.hold(client);
          return true;
        }
        this.#reject(entry, "OOM command not allowed when used memory > 'maxmemory'.");
      } else if ((effects & FLAG.write) !== 0 && this.#unrecordable() !== null) {
        this.#reject(entry, `MISCONF Errors writing to the AOF file: ${this.#unrecordable()}`);
      } else if (reply.protocol === 2 && client.listening && !LISTENER_MAY.has(entry.name)) {
        this.#reject(entry, notWhileListening(args));
      } else if (server.pause !== null && this.#paused(effects)) {
        client.suspension.keep(args, PAUSED);
        return true;
      } else if (transaction?.active && !entry.immediateInMulti) {
        if (transaction.enqueue(entry, args)) reply.simple('QUEUED');
        else reply.error(QUEUE_FULL);
      } else {
        this.#call(entry);
        client.engine.serveBlocked();
        return client.suspension.has(READING);
      }
    }
    return false;
  }

  /** The entry that argument 0 (and 1) names, or null after an error was written. */
  #find(): CommandEntry | null {
    const { args } = this.#client;
    const entry = this.#server.table.find(args);
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

  /** A browser was made to send HTTP here (cross-protocol scripting): nothing of it may run. */
  #crossProtocol(): void {
    const client = this.#client;
    this.#server.log.write(
      'warning',
      'Possible SECURITY ATTACK detected: a client sends POST or Host: commands, as a browser would that was directed here. Connection aborted.',
      { client: clientLine(client) },
    );
    client.destroy();
  }

  /** An error before any command was found; `text` holds bytes as latin1. */
  #refuse(text: string): void {
    const client = this.#client;
    this.#server.statistics.countError('ERR');
    client.reply.errorBytes(text);
    client.transaction?.refuse();
  }

  /** `text` holds bytes as latin1. */
  #reject(entry: CommandEntry, text: string): void {
    entry.statistics.rejected++;
    const { transaction, reply } = this.#client;
    if (entry.name === 'exec') {
      transaction?.discard();
      this.#server.statistics.countError('EXECABORT');
      reply.errorBytes(`EXECABORT Transaction discarded because of: ${text.replace(/^ERR /, '')}`);
      return;
    }
    transaction?.refuse();
    this.#server.statistics.countError(text.slice(0, text.indexOf(' ')));
    reply.errorBytes(text);
  }

  /** Whether the ACL allows it; otherwise the refusal was written. */
  #permitted(entry: CommandEntry): boolean {
    const client = this.#client;
    const refusal = client.user.refusal(entry, client.args);
    if (refusal === null) return true;
    this.#reject(entry, `NOPERM ${noteDenied(client, entry, refusal)}`);
    return false;
  }

  /**
   * Whether a command that waits may be run again, with the arguments in `args`: the user's rights and the
   * room in the log may have changed since. `refused`: the error was written.
   */
  recheck(entry: CommandEntry): Recheck {
    const client = this.#client;
    const refusal = client.user.unrestricted ? null : client.user.refusal(entry, client.args);
    if (refusal !== null) {
      client.reply.errorBytes(`NOPERM ${noteDenied(client, entry, refusal)}`);
      return 'refused';
    }
    return (entry.flags & FLAG.write) !== 0 && this.#unrecordable() !== null ? 'later' : 'run';
  }

  /** Why a command that writes could not be recorded now; null when it could. */
  #unrecordable(): string | null {
    const { args, transaction, engine } = this.#client;
    const { journal } = engine;
    const last = args.count - 1;
    const bytes =
      args.offsets[last]! +
      args.lengths[last]! -
      args.offsets[0]! +
      (transaction === null ? 0 : transaction.queuedBytes);
    return bytes <= LARGE_COMMAND ? journal.refusal : journal.refusalFor(bytes);
  }

  /** Whether CLIENT PAUSE holds a command with these flags. */
  #paused(effects: number): boolean {
    const pause = this.#server.pause!;
    if (pause.until <= this.#client.engine.time.monotonic) return false;
    return !pause.writesOnly || (effects & FLAG.write) !== 0;
  }

  /** Runs a command that may run, and counts it. */
  #call(entry: CommandEntry): void {
    const client = this.#client;
    const server = this.#server;
    const { reply, args } = client;
    const started = server.lastCommandEndedAt;
    const start = reply.length;
    try {
      this.#runners[entry.index]!(client);
    } catch (error) {
      this.failed(entry, error as Error, start);
    }
    const ended = server.monotonic();
    server.lastCommandEndedAt = ended;
    if (client.suspension.has(READING)) return;
    const { statistics } = entry;
    const elapsed = ended - started;
    statistics.record(elapsed * 1000);
    server.statistics.commands++;
    client.commands++;
    if (reply.buffer[start] === MINUS && reply.length > start) {
      statistics.failed++;
      server.statistics.countError(codeOf(reply.buffer, start + 1));
    }
    if (elapsed >= server.noticeMs) {
      client.engine.turn();
      noteRun(client, entry, args, elapsed);
    }
  }

  /** The command threw: stored data is damaged, or it is a bug. The client receives an error, the log the stack. */
  failed(entry: CommandEntry | null, error: Error, start: number): void {
    const { reply } = this.#client;
    this.#server.engine.onUnexpectedError(error);
    reply.truncate(start);
    if (isDamage(error)) {
      reply.error(`DAMAGED ${error.message}`);
      this.#server.log.write('warning', `command ${entry?.name} failed: ${error.message}`);
      return;
    }
    reply.error(`ERR internal error: ${error.message}`);
    this.#server.log.write('warning', `command ${entry?.name} failed: ${error.message}`, {
      stack: error.stack,
    });
  }

  /** One queued command, as EXEC runs it. */
  execute(entry: CommandEntry, args: Arguments): void {
    const client = this.#client;
    const server = this.#server;
    const outer = client.args;
    const outerEndedAt = server.lastCommandEndedAt;
    client.args = args;
    client.denyBlocking = true;
    const start = client.reply.length;
    try {
      const refusal = client.user.unrestricted ? null : client.user.refusal(entry, args);
      if (refusal === null) {
        server.lastCommandEndedAt = server.monotonic();
        this.#call(entry);
      } else {
        noteDenied(client, entry, refusal);
        client.reply.error(`NOPERM ${deniedSinceQueued(refusal)}`);
      }
      // CLIENT REPLY OFF and SKIP write no reply, but EXEC's array needs an element.
      if (client.reply.length === start) client.reply.ok();
      client.boundReply();
    } finally {
      client.args = outer;
      client.denyBlocking = false;
      server.lastCommandEndedAt = Math.max(outerEndedAt, server.lastCommandEndedAt);
    }
  }
}

/** What a RESP2 client may run while it is subscribed. */
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
export function codeOf(buffer: Buffer, from: number): string {
  let end = from;
  while (end < from + 32 && buffer[end]! > 32) end++;
  return buffer.toString('latin1', from, end);
}

function hasLongKey(entry: CommandEntry, args: Arguments): boolean {
  return entry.keys.some((spec) =>
    keyIndices(spec, args).some((index) => args.lengths[index]! > LONGEST_KEY),
  );
}
