/**
 * The commands of one server. A look-up compares bytes and makes no string.
 *
 * Holds: one CommandEntry per command and per subcommand: the row, its facts as bits, and its
 * statistics. An open-addressed table finds an entry by a case-insensitive hash of the name.
 * Invariant: `index` numbers the entries 0..count-1; ACL keeps one bit per index.
 * Cost: a look-up hashes the name's bytes and compares once; no allocation.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { CommandFacts, CommandFlag } from './command-facts.ts';
import { CommandStatistics } from './command-statistics.ts';
import { isForeignCommand } from './foreign-commands.ts';
import type { KeySpec } from './key-specs.ts';
import { lowerCase } from './quoting.ts';

/** The flags as bits, so that the dispatch loop tests several at once. */
export const FLAG = {
  write: 1 << 0,
  readonly: 1 << 1,
  denyoom: 1 << 2,
  admin: 1 << 3,
  pubsub: 1 << 4,
  noscript: 1 << 5,
  blocking: 1 << 6,
  loading: 1 << 7,
  stale: 1 << 8,
  fast: 1 << 9,
  no_auth: 1 << 10,
  movablekeys: 1 << 11,
  no_multi: 1 << 12,
  allow_busy: 1 << 13,
  skip_monitor: 1 << 14,
  skip_slowlog: 1 << 15,
  no_async_loading: 1 << 16,
} as const satisfies Record<CommandFlag, number>;

export class CommandEntry {
  readonly row: CommandFacts;
  /** Lower case; a subcommand's is `xgroup|create`. */
  readonly name: string;
  readonly parent: CommandEntry | null;
  readonly index: number;
  readonly arity: number;
  readonly flags: number;
  /** Empty = no keys. */
  readonly keys: readonly KeySpec[];
  /** MULTI runs it at once instead of queueing it. */
  readonly immediateInMulti: boolean;
  readonly categories: ReadonlySet<string>;
  readonly subcommands: Lookup | null;
  readonly statistics = new CommandStatistics();

  constructor(
    row: CommandFacts,
    parent: CommandEntry | null,
    register: (e: CommandEntry) => number,
  ) {
    this.row = row;
    this.parent = parent;
    this.name = row.name;
    this.arity = row.arity;
    let flags = 0;
    for (const flag of row.flags) flags |= FLAG[flag];
    this.flags = flags;
    this.keys = row.keys === undefined ? [] : [row.keys].flat();
    this.immediateInMulti = IMMEDIATE_IN_MULTI.has(row.name);
    this.categories = categoriesOf(row);
    this.index = register(this);
    this.subcommands = row.subcommands
      ? new Lookup(
          row.subcommands.map((sub) => new CommandEntry(sub, this, register)),
          (entry) => entry.name.slice(entry.name.indexOf('|') + 1),
        )
      : null;
  }

  has(flag: CommandFlag): boolean {
    return (this.flags & FLAG[flag]) !== 0;
  }
}

export class CommandTable {
  /** Every command and subcommand, by index. */
  readonly entries: CommandEntry[] = [];
  /** Commands, without subcommands, that clients can name, in the order given. */
  readonly top: readonly CommandEntry[];
  /** By the names that clients use. */
  readonly #lookup: Lookup;
  /** By the commands' own names: what ACL rules use. */
  readonly #original: Lookup;

  /** `renamed`: the lines of `rename-command`. Throws Error with the reason where one is wrong. */
  constructor(
    rows: readonly CommandFacts[],
    renamed: readonly (readonly [command: string, name: string])[] = [],
  ) {
    const register = (entry: CommandEntry): number => this.entries.push(entry) - 1;
    const all = rows.map((row) => new CommandEntry(row, null, register));
    this.#original = new Lookup(all, (entry) => entry.name);
    this.#lookup = renamed.length === 0 ? this.#original : this.#rename(renamed);
    this.top = this.#lookup.all;
  }

  #rename(renamed: readonly (readonly [command: string, name: string])[]): Lookup {
    const names = new Map(this.#original.all.map((entry) => [entry.name, entry]));
    for (const [command, name] of renamed) {
      const from = lowerCase(command);
      const to = lowerCase(name);
      const entry = names.get(from);
      if (entry === undefined && !isForeignCommand(from)) {
        throw new Error(`No such command in rename-command: '${command}'`);
      }
      names.delete(from);
      if (to !== '' && names.has(to)) {
        throw new Error(`Target command name already exists: '${name}'`);
      }
      if (to !== '' && entry !== undefined) names.set(to, entry);
    }
    const named = new Map([...names].map(([name, entry]) => [entry, name]));
    return new Lookup([...names.values()], (entry) => named.get(entry)!);
  }

  /** The command named by argument 0; a container itself where a subcommand would follow. */
  find(args: Arguments): CommandEntry | null {
    return this.#lookup.find(args, 0);
  }

  /** `get`, `config|set`; any case: the command's own name, as ACL rules use it. */
  byName(name: string): CommandEntry | null {
    return find(this.#original, name);
  }

  /** As `byName`, by the name that clients use. */
  byGivenName(name: string): CommandEntry | null {
    return find(this.#lookup, name);
  }
}

function find(lookup: Lookup, name: string): CommandEntry | null {
  const [first, second, ...rest] = name.split('|');
  if (rest.length > 0) return null;
  const top = lookup.byName(first!);
  if (second === undefined || top === null) return top;
  return top.subcommands?.byName(second) ?? null;
}

/** Names to entries: open addressing over a power of two, at most half full. */
class Lookup {
  readonly #mask: number;
  readonly #names: (Uint8Array | undefined)[];
  readonly #entries: (CommandEntry | undefined)[];
  readonly all: readonly CommandEntry[];

  constructor(entries: readonly CommandEntry[], nameOf: (entry: CommandEntry) => string) {
    let size = 16;
    while (size < entries.length * 3) size *= 2;
    this.all = entries;
    this.#mask = size - 1;
    this.#names = new Array(size).fill(undefined);
    this.#entries = new Array(size).fill(undefined);
    for (const entry of entries) {
      const name = Buffer.from(nameOf(entry), 'latin1');
      let slot = hash(name, 0, name.length) & this.#mask;
      while (this.#names[slot] !== undefined) {
        if (sameName(this.#names[slot]!, name, 0, name.length)) {
          throw new Error(`command ${entry.name} is defined twice`);
        }
        slot = (slot + 1) & this.#mask;
      }
      this.#names[slot] = name;
      this.#entries[slot] = entry;
    }
  }

  /** The entry named by one argument, in any case. */
  find(args: Arguments, index: number): CommandEntry | null {
    return this.#find(args.buffer, args.offsets[index], args.lengths[index]);
  }

  byName(name: string): CommandEntry | null {
    const bytes = Buffer.from(name, 'latin1');
    return this.#find(bytes, 0, bytes.length);
  }

  #find(buffer: Uint8Array, from: number, length: number): CommandEntry | null {
    const names = this.#names;
    let slot = hash(buffer, from, length) & this.#mask;
    for (;;) {
      const name = names[slot];
      if (name === undefined) return null;
      if (sameName(name, buffer, from, length)) return this.#entries[slot]!;
      slot = (slot + 1) & this.#mask;
    }
  }
}

/** `byte | 32` maps A-Z to a-z; sameName distinguishes the other bytes that it merges. */
function hash(buffer: Uint8Array, from: number, length: number): number {
  let h = length;
  const end = from + Math.min(length, 24);
  for (let i = from; i < end; i++) h = (Math.imul(h, 31) + (buffer[i]! | 32)) | 0;
  return h ^ (h >>> 15);
}

function sameName(lower: Uint8Array, buffer: Uint8Array, from: number, length: number): boolean {
  if (lower.length !== length) return false;
  for (let i = 0; i < length; i++) {
    let code = buffer[from + i]!;
    if (code >= 65 && code <= 90) code += 32;
    if (code !== lower[i]) return false;
  }
  return true;
}

const IMMEDIATE_IN_MULTI = new Set(['exec', 'discard', 'multi', 'watch', 'quit', 'reset']);

const GROUP_CATEGORY: Partial<Record<CommandFacts['group'], string>> = {
  stream: 'stream',
  string: 'string',
  generic: 'keyspace',
  transactions: 'transaction',
  connection: 'connection',
  scripting: 'scripting',
};

/** The categories that Redis derives from flags and group, and those the row names itself. */
function categoriesOf(row: CommandFacts): ReadonlySet<string> {
  const set = new Set(row.categories ?? []);
  const flags = new Set(row.flags);
  if (flags.has('write')) set.add('write');
  if (flags.has('readonly') && row.group !== 'scripting') set.add('read');
  if (flags.has('admin')) set.add('admin').add('dangerous');
  if (flags.has('pubsub')) set.add('pubsub');
  if (flags.has('blocking')) set.add('blocking');
  // A container has no category by its group, nor a row that names another family (WAIT).
  const group = row.subcommands === undefined ? GROUP_CATEGORY[row.group] : undefined;
  if (group !== undefined && !set.has('connection')) set.add(group);
  set.add(flags.has('fast') ? 'fast' : 'slow');
  return set;
}
