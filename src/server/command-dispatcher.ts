/**
 * One command of a connection: looked up, checked, queued or run, counted. Redis's processCommand.
 *
 *   look-up ─> arity, authentication, ACL ─> memory, disk, subscription, pause ─> MULTI queue or run
 *
 * Invariants: every command that comes here is answered once, waits, or is kept for later; an exception
 * of a command becomes its reply.
 * Cost: per command one look-up, one clock reading and a few compares; no allocation.
 */
import { isDamage } from '../stream/block-damage.ts';
import type { Arguments } from '../util/arguments.ts';
import { clientLine } from './client-info.ts';
import { type CommandEntry, FLAG } from './command-table.ts';
import type { Connection } from './connection.ts';
import {
  deniedSinceQueued,
  noteDenied,
  noteRun,
  notWhileListening,
  unknownCommand,
  unknownSubcommand,
} from './dispatch-texts.ts';
import { keyIndices } from './key-specs.ts';
import type { ServerState } from './server-state.ts';
import { HELD, PAUSED } from './suspension.ts';
import { QUEUE_FULL } from './transaction.ts';

/** Larger commands are asked about by size: whether the log has room for so much. */
const LARGE_COMMAND = 64 * 1024;

/** Keys are also names in tables of strings, which hold a little less than 512 MiB. */
const LONGEST_KEY = 512 * 1024 * 1024 - 1024;

const MINUS = 45;

export class CommandDispatcher {
  readonly #client: Connection;
  readonly #server: ServerState;

  constructor(client: Connection) {
    this.#client = client;
    this.#server = client.server;
  }

  /** The command in `args`; the reply path is told of its beginning and its end. */
  dispatch(): void {
    const client = this.#client;
    const start = client.replies.begin();
    let entry: CommandEntry | null = null;
    let kept = false;
    try {
      entry = this.#find();
      if (entry !== null) kept = this.#checkAndRun(entry);
    } finally {
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
        client.engine.settle();
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

  /** A browser was sent here to speak HTTP; nothing of what it says may be run. */
  #crossProtocol(): void {
    const client = this.#client;
    this.#server.log.write(
      'warning',
      'Possible SECURITY ATTACK detected: somebody is sending POST or Host: commands. Connection aborted.',
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

  /** Whether the ACL lets it run; otherwise the refusal was written. */
  #permitted(entry: CommandEntry): boolean {
    const client = this.#client;
    const refusal = client.user.refusal(entry, client.args);
    if (refusal === null) return true;
    this.#reject(entry, `NOPERM ${noteDenied(client, entry, refusal)}`);
    return false;
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
    const started = server.mark;
    const start = reply.length;
    try {
      entry.run(client);
    } catch (error) {
      this.failed(entry, error as Error, start);
    }
    const ended = server.monotonic();
    server.mark = ended;
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

  /** The command threw: stored data is damaged, or it is a bug. The client learns so, the operator learns where. */
  failed(entry: CommandEntry | null, error: Error, start: number): void {
    const { reply } = this.#client;
    this.#server.engine.threw(error);
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
    const outerMark = server.mark;
    client.args = args;
    client.denyBlocking = true;
    const start = client.reply.length;
    try {
      const refusal = client.user.unrestricted ? null : client.user.refusal(entry, args);
      if (refusal === null) {
        server.mark = server.monotonic();
        this.#call(entry);
      } else {
        noteDenied(client, entry, refusal);
        client.reply.error(`NOPERM ${deniedSinceQueued(refusal)}`);
      }
      // CLIENT REPLY has no reply by itself; as an element of EXEC's array it needs one.
      if (client.reply.length === start) client.reply.ok();
      client.boundReply();
    } finally {
      client.args = outer;
      client.denyBlocking = false;
      server.mark = Math.max(outerMark, server.mark);
    }
  }
}

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
