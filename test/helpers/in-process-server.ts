/**
 * The commands without a socket: an engine on a manual clock, sessions over nothing, and a
 * journal kept in memory whose records can be replayed into another engine.
 *
 * Replies come as plain values: arrays, numbers, strings for bulk and simple strings (latin1), null,
 * a Map for a RESP3 map, and an Error for an error.
 */

import { Engine } from '../../src/engine/engine.ts';
import type { BlockedReader } from '../../src/engine/keyspace/blocked-readers.ts';
import type { Database } from '../../src/engine/keyspace/database.ts';
import { Replay } from '../../src/engine/log/replay.ts';
import { streamReplayHandlers } from '../../src/engine/streams/stream-replay.ts';
import { type Command, runnersOf } from '../../src/server/command/command.ts';
import { type CommandEntry, CommandTable } from '../../src/server/command/command-table.ts';
import type { RequestSession } from '../../src/server/command/request-session.ts';
import type { Subscriptions } from '../../src/server/command/subscriptions.ts';
import type { Transaction } from '../../src/server/command/transaction.ts';
import { databaseCommands } from '../../src/server/commands/databases.ts';
import { expiryCommands } from '../../src/server/commands/expiry.ts';
import { keyCommands } from '../../src/server/commands/keys.ts';
import { objectCommands } from '../../src/server/commands/objects.ts';
import { pubsubCommands } from '../../src/server/commands/pubsub.ts';
import { requestCommands } from '../../src/server/commands/request.ts';
import { scriptingCommands } from '../../src/server/commands/scripting.ts';
import { streamCommands } from '../../src/server/commands/stream/streams.ts';
import { numberCommands } from '../../src/server/commands/string/string-numbers.ts';
import { stringCommands } from '../../src/server/commands/string/strings.ts';
import { transactionCommands } from '../../src/server/commands/transactions.ts';
import type { BlockingWait, Session, WaitOptions } from '../../src/server/connection/session.ts';
import { BufferPool } from '../../src/server/output/buffer-pool.ts';
import { ReplyWriter } from '../../src/server/output/reply-writer.ts';
import type { Journal } from '../../src/storage/log/journal.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { ByteWriter } from '../../src/util/byte-writer.ts';
import { Random } from '../../src/util/random.ts';
import { ManualClock } from '../../src/util/time/clock.ts';

export type Value = string | number | bigint | null | Error | Value[] | Map<Value, Value>;
export type Argument = string | number | Uint8Array;

/** Keeps every record, each with its type. */
export class MemoryJournal implements Journal {
  readonly enabled = true;
  readonly durable = 0;
  readonly gate = 0;
  readonly safe = 0;
  readonly refusal = null;
  readonly unitBytes = 0;
  unfinished = false;
  /** Why nothing may be recorded any more. */
  failure: unknown = null;
  refusalFor(): null {
    return null;
  }
  boundary(): void {}
  fail(_what: string, cause: unknown): void {
    this.failure ??= cause;
  }
  appended = 0;
  readonly records: { type: number; body: Buffer }[] = [];
  #type = 0;
  readonly #writer = new ByteWriter();

  begin(type: number): ByteWriter {
    if (this.unfinished) throw new Error('a record was not ended');
    this.unfinished = true;
    this.#type = type;
    this.#writer.clear();
    return this.#writer;
  }

  end(): void {
    this.unfinished = false;
    this.records.push({ type: this.#type, body: this.#writer.toBuffer() });
    this.appended += this.#writer.length;
  }
}

export class InProcessServer {
  readonly clock: ManualClock;
  readonly journal = new MemoryJournal();
  readonly engine: Engine;

  constructor(now = 1_700_000_000_000) {
    this.clock = new ManualClock(now);
    this.engine = new Engine({ clock: this.clock, random: new Random(1), journal: this.journal });
  }

  session(protocol: 2 | 3 = 2): InProcessSession {
    return new InProcessSession(this, protocol);
  }

  /** Another server with the state that this one's records describe. */
  replayed(): InProcessServer {
    const copy = new InProcessServer(this.clock.now());
    copy.engine.nodeLimits.maxEntries = this.engine.nodeLimits.maxEntries;
    copy.engine.nodeLimits.maxBytes = this.engine.nodeLimits.maxBytes;
    const replay = new Replay(copy.engine, streamReplayHandlers);
    for (const { type, body } of this.journal.records) replay.apply(type, body);
    copy.engine.tick();
    return copy;
  }

  /** Lets time pass, and does what is due then. */
  advance(ms: number): void {
    this.clock.advance(ms);
    this.engine.tick();
  }
}

const ROWS: readonly Command[] = [
  ...streamCommands,
  ...stringCommands,
  ...numberCommands,
  ...keyCommands,
  ...databaseCommands,
  ...expiryCommands,
  ...objectCommands,
  ...pubsubCommands,
  ...requestCommands,
  ...transactionCommands,
  ...scriptingCommands,
];
const COMMANDS = new CommandTable(ROWS);
const RUNNERS = runnersOf(COMMANDS, ROWS);

let nextId = 1;

/** Commands with a reply, and pushes to their own session beside it. */
const CALLS: ReadonlySet<string> = new Set(['OPEN', 'SEND', 'GRANT', 'REPLY']);

export class InProcessSession implements Session {
  readonly id = nextId++;
  readonly engine: Engine;
  database: Database;
  args = new Arguments();
  readonly reply: ReplyWriter;
  denyBlocking = false;
  transaction: Transaction | null = null;
  subscriptions: Subscriptions | null = null;
  requests: RequestSession | null = null;
  #blocked: BlockedReader | undefined;
  readonly #later = new ReplyWriter(new BufferPool(16384, 4));
  #isCalling = false;

  constructor(server: { readonly engine: Engine }, protocol: 2 | 3) {
    this.engine = server.engine;
    this.database = server.engine.databases[0];
    this.reply = new ReplyWriter(new BufferPool(16384, 4));
    this.reply.protocol = protocol;
    this.#later.protocol = protocol;
  }

  get blocked(): boolean {
    return this.#blocked !== undefined;
  }

  /** As on a connection: what is pushed while a request command runs follows the command's reply. */
  get pushes(): ReplyWriter {
    return this.#isCalling ? this.#later : this.reply;
  }

  hasRoom = true;

  /** Runs one command and returns its reply; undefined where it waits. Forgets earlier replies. */
  call(...args: Argument[]): Value | undefined {
    this.reply.release();
    this.#later.release();
    this.#isCalling = CALLS.has(String(args[0]));
    try {
      this.run(...args);
    } finally {
      this.#isCalling = false;
    }
    this.engine.serveBlocked();
    const bytes = Buffer.from(this.reply.take());
    return bytes.length === 0 ? undefined : parseReply(bytes);
  }

  /** As `call`, inside a MULTI: readers are served when `settle` is called. */
  run(...args: Argument[]): void {
    this.args = Arguments.of(...args);
    this.engine.turn();
    let command = COMMANDS.find(this.args);
    if (command?.subcommands) command = command.subcommands.find(this.args, 1);
    if (command === null) throw new Error(`no command ${args[0]} ${args[1]}`);
    const { arity } = command;
    if (arity >= 0 ? args.length !== arity : args.length < -arity) {
      this.transaction?.refuse();
      this.reply.error(`ERR wrong number of arguments for '${command.name}' command`);
    } else if (this.transaction?.active && !command.immediateInMulti) {
      this.transaction.enqueue(command, this.args);
      this.reply.simple('QUEUED');
    } else {
      RUNNERS[command.index]!(this);
    }
  }

  /** What was written since the last call; undefined where nothing was. */
  take(): Value | undefined {
    const bytes = this.takeBytes();
    return bytes.length === 0 ? undefined : parseReply(bytes);
  }

  takeBytes(): Buffer {
    return Buffer.concat([this.reply.take(), this.#later.take()]);
  }

  block(wait: BlockingWait): void {
    const kept = this.args.clone();
    const again = (act: () => void): void => {
      this.args = kept;
      act();
    };
    this.#blocked = {
      database: wait.database,
      keys: wait.keys,
      deadline: wait.deadline,
      get wakeAt() {
        return wait.wakeAt;
      },
      ready: () => wait.ready?.() ?? true,
      retry: () => {
        let done = false;
        again(() => {
          done = wait.retry(this);
        });
        if (done) this.#blocked = undefined;
        return done;
      },
      timedOut: () => {
        this.#blocked = undefined;
        again(() => wait.timedOut(this));
      },
    };
    this.engine.blocked.add(this.#blocked);
  }

  readFirst(): boolean {
    return false;
  }

  waitFor(
    done: Promise<void>,
    answer: (error: Error | null) => void,
    { deadline = Number.POSITIVE_INFINITY }: WaitOptions = {},
  ): void {
    this.block({
      database: this.database,
      keys: [],
      deadline,
      retry: () => false,
      timedOut: () => answer(null),
    });
    const blocked = this.#blocked;
    const settle = (error: Error | null): void => {
      if (this.#blocked !== blocked || blocked === undefined) return;
      this.engine.blocked.remove(blocked);
      this.#blocked = undefined;
      answer(error);
    };
    done.then(() => settle(null), settle);
  }

  execute(command: CommandEntry, args: Arguments): void {
    this.args = args;
    this.denyBlocking = true;
    RUNNERS[command.index]!(this);
    this.denyBlocking = false;
  }

  written(): void {}

  deferrable(): void {}

  showsUpTo(): void {}
}

/** One whole reply as a value. */
export function parseReply(bytes: Buffer): Value {
  let at = 0;
  const line = (): string => {
    const end = bytes.indexOf('\r\n', at, 'latin1');
    const text = bytes.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const value = (): Value => {
    const head = line();
    const rest = head.slice(1);
    switch (head[0]) {
      case '+':
        return rest;
      case '-':
        return new Error(rest);
      case ':':
        return Number.isSafeInteger(Number(rest)) ? Number(rest) : BigInt(rest);
      case '_':
        return null;
      case '$': {
        if (rest === '-1') return null;
        const text = bytes.toString('latin1', at, at + Number(rest));
        at += Number(rest) + 2;
        return text;
      }
      case '*':
        return rest === '-1' ? null : Array.from({ length: Number(rest) }, value);
      case '%': {
        const map = new Map<Value, Value>();
        for (let pairs = Number(rest); pairs > 0; pairs--) {
          const key = value();
          map.set(key, value());
        }
        return map;
      }
      default:
        throw new Error(`not a reply: ${JSON.stringify(head)}`);
    }
  };
  const result = value();
  if (at !== bytes.length) throw new Error(`more than one reply: ${bytes.toString('latin1')}`);
  return result;
}
