/**
 * XDEL, XDELEX and XACKDEL: entries go by their ids.
 *
 * All ids are read before the first is deleted, so that a bad one changes nothing.
 * Sources: xdelCommand, xdelexCommand, xackdelCommand.
 */
import { mayReadAhead } from '../../../engine/checkpoint/read-ahead.ts';
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import { acknowledge } from '../../../engine/streams/stream-deliveries.ts';
import {
  type Deletion,
  deleteEntries,
  NOT_FOUND,
  type References,
  STILL_REFERENCED,
} from '../../../engine/streams/stream-entries.ts';
import { findGroup } from '../../../engine/streams/stream-groups.ts';
import { IdList } from '../../../stream/id-list.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import type { Command } from '../../command/command.ts';
import { keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { fail, SYNTAX } from '../common.ts';
import { readStrictIds } from './stream-ids.ts';
import { findStream, valueIn } from './stream-lookup.ts';
import { readReferences } from './stream-references.ts';

function deleteById(session: Session): void {
  const { args, database, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    reply.integer(0);
    return;
  }
  if (!readStrictIds(session, 2, args.count - 2, id, ids)) return;
  if (readsFirst(session, entry)) return;
  reply.integer(deleteEntries(database, entry, valueIn(entry), ids, 'keepref', outcomes));
}

function deleteExtended(session: Session): void {
  const { database, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null || !options.read(session, 2)) return;
  if (entry === undefined) {
    writeNotFound(session);
    return;
  }
  if (!readStrictIds(session, options.idsAt, options.count, id, ids)) return;
  if (readsFirst(session, entry)) return;
  deleteEntries(database, entry, valueIn(entry), ids, options.references, outcomes);
  reply.array(ids.count);
  for (let i = 0; i < ids.count; i++) reply.integer(outcomes[i]);
}

function acknowledgeAndDelete(session: Session): void {
  const { args, database, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null || !options.read(session, 3)) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), args, 2);
  if (entry === undefined || group === undefined) {
    writeNotFound(session);
    return;
  }
  if (!readStrictIds(session, options.idsAt, options.count, id, ids)) return;
  if (readsFirst(session, entry)) return;
  acknowledge(database, entry, group, ids, acknowledged);
  deleteEntries(database, entry, valueIn(entry), acknowledged, options.references, outcomes);
  // The ids acknowledged are those asked for, in their order, less those that were not pending.
  reply.array(ids.count);
  let next = 0;
  for (let i = 0; i < ids.count; i++) {
    const pending =
      next < acknowledged.count && acknowledged.get(next, other).equals(ids.get(i, id));
    if (!pending) reply.integer(NOT_FOUND);
    else reply.integer(outcomes[next++] === STILL_REFERENCED ? STILL_REFERENCED : 1);
  }
}

/** Whether the command has to wait until the blocks that may hold `ids` are read. */
function readsFirst(session: Session, entry: KeyEntry): boolean {
  const { stream } = valueIn(entry);
  return mayReadAhead(stream, ids.count) && session.readFirst({ stream, ids });
}

/** No key, or no group: none of the ids is there. */
function writeNotFound(session: Session): void {
  session.reply.array(options.count);
  for (let i = 0; i < options.count; i++) session.reply.integer(NOT_FOUND);
}

/** `[KEEPREF | DELREF | ACKED] IDS count id ...`, in any order. */
class DeleteOptions {
  references: References = 'keepref';
  idsAt = 0;
  count = 0;

  /** Returns false after it has written an error. */
  read(session: Session, from: number): boolean {
    const { args } = session;
    this.references = 'keepref';
    this.idsAt = 0;
    let referencesGiven = false;
    for (let i = from; i < args.count; i++) {
      if (!referencesGiven && this.#readReferences(session, i)) referencesGiven = true;
      else if (args.is(i, 'IDS') && i + 1 < args.count) {
        const count = args.integer(i + 1);
        if (count === null || count < 1) {
          return fail(session, 'ERR Number of IDs must be a positive integer');
        }
        if (count > args.count - i - 2) {
          return fail(session, 'ERR The `numids` parameter must match the number of arguments');
        }
        this.count = count;
        this.idsAt = i + 2;
        i = this.idsAt + count - 1;
      } else return fail(session, SYNTAX);
    }
    return this.idsAt > 0 || fail(session, 'ERR IDS option is required');
  }

  #readReferences(session: Session, i: number): boolean {
    const references = readReferences(session, i);
    if (references === null) return false;
    this.references = references;
    return true;
  }
}

// Scratch: never held across commands.
const options = new DeleteOptions();
const id = new StreamId();
const other = new StreamId();
const ids = new IdList();
const acknowledged = new IdList();
const outcomes: Deletion[] = [];

export const streamDeleteCommands: readonly Command[] = [
  {
    name: 'xdel',
    arity: -3,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'delete'),
    group: 'stream',
    since: '5.0.0',
    summary: 'Deletes entries and returns how many there were.',
    complexity: 'O(1) for each entry.',
    run: deleteById,
  },
  {
    name: 'xdelex',
    arity: -5,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'delete'),
    group: 'stream',
    since: '8.2.0',
    summary: 'Deletes entries, deciding what becomes of references to them from groups.',
    complexity: 'O(1) for each entry.',
    run: deleteExtended,
  },
  {
    name: 'xackdel',
    arity: -6,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'delete'),
    group: 'stream',
    since: '8.2.0',
    summary: 'Acknowledges entries and deletes them.',
    complexity: 'O(1) for each entry.',
    run: acknowledgeAndDelete,
  },
];
