/**
 * The commands without a socket: an engine on a manual clock, sessions over nothing, and a
 * journal kept in memory whose records can be replayed into another engine.
 *
 * Replies come as plain values: arrays, numbers, strings for bulk and simple strings (latin1), null,
 * a Map for a RESP3 map, and an Error for an error.
 */
import type { BlockedReader } from '../../src/engine/blocked-readers.ts';
import type { Database } from '../../src/engine/database.ts';
import { Engine } from '../../src/engine/engine.ts';
import { Replay } from '../../src/engine/replay.ts';
import { streamReplayHandlers } from '../../src/engine/stream-replay.ts';
import { BufferPool } from '../../src/server/buffer-pool.ts';
import { type CommandEntry, CommandTable } from '../../src/server/command-table.ts';
import { databaseCommands } from '../../src/server/commands/databases.ts';
import { expiryCommands } from '../../src/server/commands/expiry.ts';
import { keyCommands } from '../../src/server/commands/keys.ts';
import { objectCommands } from '../../src/server/commands/objects.ts';
import { pubsubCommands } from '../../src/server/commands/pubsub.ts';
import { requestCommands } from '../../src/server/commands/request.ts';
import { scriptingCommands } from '../../src/server/commands/scripting.ts';
import { streamCommands } from '../../src/server/commands/streams.ts';
import { numberCommands } from '../../src/server/commands/string-numbers.ts';
import { stringCommands } from '../../src/server/commands/strings.ts';
import { transactionCommands } from '../../src/server/commands/transactions.ts';
import { ReplyWriter } from '../../src/server/reply-writer.ts';
import type {
  BlockingWait,
  ExchangeState,
  Session,
  SubscriptionState,
  TransactionState,
} from '../../src/server/session.ts';
import type { Journal } from '../../src/storage/journal.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { ByteWriter } from '../../src/util/byte-writer.ts';
import { ManualClock } from '../../src/util/clock.ts';
import { Random } from '../../src/util/random.ts';

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

const COMMANDS = new CommandTable([
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
]);

let nextId = 1;

export class InProcessSession implements Session {
  readonly id = nextId++;
  readonly engine: Engine;
  database: Database;
  args = new Arguments();
  readonly reply: ReplyWriter;
  denyBlocking = false;
  transaction: TransactionState | null = null;
  subscriptions: SubscriptionState | null = null;
  exchange: ExchangeState | null = null;
  #blocked: BlockedReader | undefined;

  constructor(server: { readonly engine: Engine }, protocol: 2 | 3) {
    this.engine = server.engine;
    this.database = server.engine.databases[0];
    this.reply = new ReplyWriter(new BufferPool(16384, 4));
    this.reply.protocol = protocol;
  }

  get blocked(): boolean {
    return this.#blocked !== undefined;
  }

  get pushes(): ReplyWriter {
    return this.reply;
  }

  hasRoom = true;

  /** Runs one command and returns its reply; undefined where it waits. Forgets earlier replies. */
  call(...args: Argument[]): Value | undefined {
    this.reply.release();
    this.run(...args);
    this.engine.settle();
    return this.take();
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
      command.run(this);
    }
  }

  /** What was written since the last call; undefined where nothing was. */
  take(): Value | undefined {
    const bytes = this.takeBytes();
    return bytes.length === 0 ? undefined : parseReply(bytes);
  }

  takeBytes(): Buffer {
    return Buffer.from(this.reply.take());
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

  execute(command: CommandEntry, args: Arguments): void {
    this.args = args;
    this.denyBlocking = true;
    command.run(this);
    this.denyBlocking = false;
  }

  written(): void {}

  unhurried(): void {}
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
