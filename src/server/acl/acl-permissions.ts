/**
 * What a user (or one selector of a user) may do: commands, keys, channels.
 *
 * Holds: one bit per command of the table, key patterns with their access, channel patterns, and the
 * rules that set them, in the short form that ACL LIST shows.
 * Cost: a command check is one bit; key and channel checks try the patterns in turn.
 * Source of the meaning: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
 */
import type { Arguments } from '../../util/arguments.ts';
import { globMatches } from '../../util/glob.ts';
import type { CommandEntry, CommandTable } from '../command/command-table.ts';
import { FOREIGN_CATEGORIES, isForeignCommand } from '../command/foreign-commands.ts';
import { keyFlags, keyIndices, neededRights } from '../command/key-specs.ts';
import { lowerCase } from '../command/quoting.ts';

/** A rule that was refused, and Redis's reason. */
export class AclError extends Error {
  override readonly name = 'AclError';
}

export type Refusal =
  | { readonly reason: 'command' }
  | { readonly reason: 'key' | 'channel'; readonly argument: number };

interface KeyPattern {
  readonly glob: Buffer;
  readonly read: boolean;
  readonly write: boolean;
}

/** Redis's categories, in the order of ACL CAT. */
export const CATEGORIES: readonly string[] = [
  'keyspace',
  'read',
  'write',
  'set',
  'sortedset',
  'list',
  'hash',
  'string',
  'bitmap',
  'hyperloglog',
  'geo',
  'stream',
  'pubsub',
  'admin',
  'fast',
  'slow',
  'blocking',
  'dangerous',
  'connection',
  'transaction',
  'scripting',
];

/** White space as C defines it, and NUL; byte 0xA0 is not white space. */
export const SPACE = /[\0 \t-\r]/;

const UNKNOWN = 'Unknown command or category name in ACL';

export class Permissions {
  readonly #table: CommandTable;
  #allowed: Uint8Array;
  /** `+@all -config|set`: the rules that still matter, in order. */
  #rules: string[] = ['-@all'];
  #keys: KeyPattern[] = [];
  #channels: Buffer[] = [];
  /** `+select|0`: commands allowed with these first arguments only, in lower case. */
  #firstArguments = new Map<number, Set<string>>();
  allKeys = false;
  allChannels: boolean;
  /** Every command without exception. */
  allCommands = false;

  constructor(table: CommandTable, allChannels: boolean) {
    this.#table = table;
    this.#allowed = new Uint8Array(table.entries.length);
    this.allChannels = allChannels;
  }

  clone(): Permissions {
    const copy = new Permissions(this.#table, this.allChannels);
    copy.#allowed = this.#allowed.slice();
    copy.#rules = [...this.#rules];
    copy.#keys = [...this.#keys];
    copy.#channels = [...this.#channels];
    for (const [index, words] of this.#firstArguments) {
      copy.#firstArguments.set(index, new Set(words));
    }
    copy.allKeys = this.allKeys;
    copy.allCommands = this.allCommands;
    return copy;
  }

  /** Allowed every command, key and channel: no check is needed. */
  get unrestricted(): boolean {
    return this.allCommands && this.allKeys && this.allChannels;
  }

  allows(entry: CommandEntry, args: Arguments): boolean {
    if (this.#allowed[entry.index] === 1) return true;
    if (this.#firstArguments.size === 0 || args.count < 2) return false;
    return this.#firstArguments.get(entry.index)?.has(lowerCase(args.latin1(1))) ?? false;
  }

  /** Why this command may not run, or null. */
  refusal(entry: CommandEntry, args: Arguments): Refusal | null {
    if (!this.allows(entry, args) && !entry.has('no_auth')) return { reason: 'command' };
    if (!this.allKeys) {
      for (const spec of entry.keys) {
        if (spec.flags[0] === 'not_key') continue;
        const needed = neededRights(keyFlags(spec, args));
        for (const argument of keyIndices(spec, args)) {
          if (!this.allowsKey(args.view(argument), needed)) return { reason: 'key', argument };
        }
      }
    }
    if (!this.allChannels) {
      const channels = CHANNEL_ARGUMENTS[entry.name];
      if (channels !== undefined) {
        const last = channels.only ? Math.min(2, args.count) : args.count;
        for (let argument = 1; argument < last; argument++) {
          const name = args.view(argument);
          if (!this.allowsChannel(name, channels.literal)) return { reason: 'channel', argument };
        }
      }
    }
    return null;
  }

  /** Whether one pattern grants all rights that are needed. */
  allowsKey(key: Uint8Array, needed: { read: boolean; write: boolean }): boolean {
    return (
      this.allKeys ||
      this.#keys.some(
        ({ glob, read, write }) =>
          (read || !needed.read) && (write || !needed.write) && globMatches(glob, key),
      )
    );
  }

  /** A pattern (PSUBSCRIBE) must be allowed literally: what it matches is not known. */
  allowsChannel(name: Uint8Array, literal: boolean): boolean {
    return (
      this.allChannels ||
      this.#channels.some((glob) =>
        literal ? Buffer.compare(glob, name) === 0 : globMatches(glob, name),
      )
    );
  }

  /** Applies one rule. False when the rule is not about permissions. Throws AclError. */
  apply(rule: string): boolean {
    const lower = lowerCase(rule);
    if (lower === 'allkeys' || rule === '~*') {
      this.allKeys = true;
      this.#keys = [];
    } else if (lower === 'resetkeys') {
      this.allKeys = false;
      this.#keys = [];
    } else if (lower === 'allchannels' || rule === '&*') {
      this.allChannels = true;
      this.#channels = [];
    } else if (lower === 'resetchannels') {
      this.allChannels = false;
      this.#channels = [];
    } else if (lower === 'allcommands' || lower === '+@all') {
      this.#setAll(true);
    } else if (lower === 'nocommands' || lower === '-@all') {
      this.#setAll(false);
    } else if (rule[0] === '~' || rule[0] === '%') {
      this.#addKeys(rule);
    } else if (rule[0] === '&') {
      this.#addChannel(rule.slice(1));
    } else if ((rule[0] === '+' || rule[0] === '-') && rule.length > 1) {
      this.#command(lower);
    } else {
      return false;
    }
    return true;
  }

  get keysText(): string {
    if (this.allKeys) return '~*';
    return this.#keys
      .map(({ glob, read, write }) => {
        const text = glob.toString('latin1');
        return read && write ? `~${text}` : `%${read ? 'R' : 'W'}~${text}`;
      })
      .join(' ');
  }

  get channelsText(): string {
    return this.allChannels
      ? '&*'
      : this.#channels.map((c) => `&${c.toString('latin1')}`).join(' ');
  }

  get commandsText(): string {
    return this.#rules.join(' ');
  }

  /** The part of an ACL LIST line that is about permissions. */
  get text(): string {
    const channels = this.allChannels ? '&*' : `resetchannels ${this.channelsText}`.trim();
    return [this.keysText, channels, this.commandsText].filter((part) => part !== '').join(' ');
  }

  #setAll(allowed: boolean): void {
    this.#allowed.fill(allowed ? 1 : 0);
    this.#firstArguments.clear();
    this.allCommands = allowed;
    this.#rules = [allowed ? '+@all' : '-@all'];
  }

  #addKeys(rule: string): void {
    let read = true;
    let write = true;
    let glob = rule.slice(1);
    if (rule[0] === '%') {
      const match = /^%([RW]{1,2})~(.*)$/is.exec(rule);
      if (match === null) throw new AclError('Syntax error');
      const access = match[1]!.toUpperCase();
      read = access.includes('R');
      write = access.includes('W');
      glob = match[2]!;
    }
    checkPattern(glob);
    if (this.allKeys) {
      throw new AclError(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns",
      );
    }
    const bytes = Buffer.from(glob, 'latin1');
    const same = this.#keys.findIndex((key) => key.glob.equals(bytes));
    if (same >= 0) {
      const old = this.#keys[same]!;
      this.#keys[same] = { glob: bytes, read: read || old.read, write: write || old.write };
    } else {
      this.#keys.push({ glob: bytes, read, write });
    }
  }

  #addChannel(glob: string): void {
    checkPattern(glob);
    if (this.allChannels) {
      throw new AclError(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels",
      );
    }
    const bytes = Buffer.from(glob, 'latin1');
    if (!this.#channels.some((channel) => channel.equals(bytes))) this.#channels.push(bytes);
  }

  /** `+get`, `-config|set`, `+@stream`, `+select|0`. */
  #command(rule: string): void {
    const allowed = rule[0] === '+';
    const what = rule.slice(1);
    if (what[0] === '@') {
      const category = what.slice(1);
      if (!CATEGORIES.includes(category) && !FOREIGN_CATEGORIES.has(category)) {
        throw new AclError(UNKNOWN);
      }
      for (const entry of this.#table.entries) {
        if (entry.categories.has(category)) this.#set(entry, allowed);
      }
    } else {
      const entry = this.#table.byName(what);
      if (entry !== null) this.#setWhole(entry, allowed);
      else if (!isForeignCommand(what)) this.#allowFirstArgument(what, allowed);
    }
    // A rule replaces earlier ones about the same command or category, and about its subcommands.
    this.#rules = this.#rules.filter(
      (old) => old.slice(1) !== what && !old.slice(1).startsWith(`${what}|`),
    );
    this.#rules.push(rule);
    this.allCommands = this.#allowed.every((bit) => bit === 1);
  }

  #setWhole(entry: CommandEntry, allowed: boolean): void {
    this.#set(entry, allowed);
    for (const sub of entry.subcommands?.all ?? []) this.#set(sub, allowed);
  }

  /** `+select|0`, of a command without subcommands. Throws AclError. */
  #allowFirstArgument(what: string, allowed: boolean): void {
    const at = what.indexOf('|');
    const name = what.slice(0, at);
    const argument = what.slice(at + 1);
    const entry = at < 0 ? null : this.#table.byName(name);
    const foreign = at >= 0 && isForeignCommand(name);
    if (!allowed || (entry === null && !foreign)) throw new AclError(UNKNOWN);
    if (argument === '') throw new AclError('Syntax error');
    if (argument.includes('|')) {
      throw new AclError('Allowing first-arg of a subcommand is not supported');
    }
    if (entry === null) return;
    if (entry.subcommands !== null) throw new AclError(UNKNOWN);
    const words = this.#firstArguments.get(entry.index) ?? new Set();
    this.#firstArguments.set(entry.index, words.add(argument));
  }

  #set(entry: CommandEntry, allowed: boolean): void {
    this.#allowed[entry.index] = allowed ? 1 : 0;
    this.#firstArguments.delete(entry.index);
  }
}

function checkPattern(glob: string): void {
  if (SPACE.test(glob)) throw new AclError('Syntax error');
}

/** Commands whose arguments are channels; `only` = just the first; `literal` = patterns. */
const CHANNEL_ARGUMENTS: Record<string, { only: boolean; literal: boolean }> = {
  publish: { only: true, literal: false },
  open: { only: true, literal: false },
  ask: { only: true, literal: false },
  request: { only: true, literal: false },
  respond: { only: true, literal: false },
  spublish: { only: true, literal: false },
  subscribe: { only: false, literal: false },
  ssubscribe: { only: false, literal: false },
  psubscribe: { only: false, literal: true },
};
