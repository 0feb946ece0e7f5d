/**
 * Up to where in the log a command's reply shows: that much has to be safe before the reply leaves.
 *
 *   PING, CONFIG, CLIENT LIST   nothing stored
 *   GET, XRANGE, XINFO, TTL     the keys that they name
 *   all others                  everything recorded so far
 *
 * So a disk that does not answer holds the replies that show what it has not written, and no others.
 * Invariant: a reply shows nothing that was recorded at the position returned or behind it.
 * Cost: a look-up for each key, and only while something is not safe yet.
 */
import type { Database } from '../../engine/keyspace/database.ts';
import type { Arguments } from '../../util/arguments.ts';
import { type CommandEntry, FLAG } from '../command/command-table.ts';
import type { KeySpec } from '../command/key-specs.ts';

/** Commands outside of the group \`connection\` that show nothing stored. */
const SHOW_NOTHING = new Set([
  'acl|whoami',
  'asking',
  'bgrewriteaof',
  'bgsave',
  'command',
  'config|get',
  'lastsave',
  'readonly',
  'readwrite',
  'role',
  'shutdown',
  'time',
]);
/** What they show is not in the key that they name. */
const SHOW_MORE = new Set(['xschedule|len', 'xschedule|list']);

interface Shown {
  readonly nothing: boolean;
  /** The keys of which alone it shows something; null = it shows more. */
  readonly keys: readonly KeySpec[] | null;
}

const known = new WeakMap<CommandEntry, Shown>();

/** The position behind everything that the reply shows; null = all that is recorded. */
export function shownUpTo(entry: CommandEntry, args: Arguments, database: Database): number | null {
  let shown = known.get(entry);
  if (shown === undefined) {
    shown = { nothing: showsNothing(entry), keys: shownKeys(entry) };
    known.set(entry, shown);
  }
  if (shown.nothing) return 0;
  if (shown.keys === null) return null;
  let position = -1;
  for (const { first, last, step } of shown.keys) {
    const end = last < 0 ? args.count + last : Math.min(last, args.count - 1);
    for (let i = first; i <= end; i += step) {
      position = Math.max(position, database.changedAt(args, i));
    }
  }
  return position + 1;
}

function showsNothing({ name, parent, row }: CommandEntry): boolean {
  return (
    row.group === 'connection' || SHOW_NOTHING.has(name) || SHOW_NOTHING.has(parent?.name ?? '')
  );
}

function shownKeys({ flags, keys, name }: CommandEntry): readonly KeySpec[] | null {
  const reads = (flags & FLAG.readonly) !== 0 && (flags & FLAG.blocking) === 0;
  const isPlain = keys.length > 0 && keys.every(({ find, first }) => !find && first > 0);
  return reads && isPlain && !SHOW_MORE.has(name) ? keys : null;
}
