/**
 * XGROUP: creating, moving and destroying groups and their consumers.
 *
 * Source: xgroupCommand. Options are read before the key is looked up, the id after it.
 */

import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import { UNKNOWN_READ } from '../../../consumer-groups/lag.ts';
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import { EventClass } from '../../../engine/keyspace/keyspace-events.ts';
import {
  createConsumer,
  createGroup,
  deleteConsumer,
  destroyGroup,
  findConsumer,
  findGroup,
  setGroupId,
} from '../../../engine/streams/stream-groups.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import { least, type Whole } from '../../../util/whole.ts';
import type { Command, CommandFlag } from '../../command/command.ts';
import { type KeyFlag, keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { NOT_AN_INTEGER, replyHelp, wrongSubcommand } from '../common.ts';
import { GROUP_POLICY_HELP, groupPolicyCommands } from './group-policy.ts';
import { noGroupForKey } from './stream-errors.ts';
import { isCharacter, readLooseId, readStrictId } from './stream-ids.ts';
import { findStream, valueIn } from './stream-lookup.ts';

const DOLLAR = 36;

function create(session: Session): void {
  const { args, database, engine, reply } = session;
  if (!readOptions(session, true)) return;
  let entry = findStream(session, 2);
  if (entry === null || (entry === undefined && !makeStream && keyRequired(session))) return;
  if (!readGroupId(session, entry, readStrictId)) return;
  entry ??= database.set(args.view(2), engine.newStream(), 0);
  if (findGroup(valueIn(entry), args, 3) !== undefined) {
    reply.error('BUSYGROUP Consumer Group name already exists');
    return;
  }
  createGroup(database, entry, args.copy(3), id, cappedRead(entry));
  reply.ok();
}

function setId(session: Session): void {
  if (!readOptions(session, false)) return;
  withGroup(session, (entry, group) => {
    if (!readGroupId(session, entry, readLooseId)) return;
    setGroupId(session.database, entry, group, id, cappedRead(entry));
    session.database.notify(EventClass.STREAM, 'xgroup-setid', entry.key);
    session.reply.ok();
  });
}

function destroy(session: Session): void {
  const entry = findStream(session, 2);
  if (entry === null || (entry === undefined && keyRequired(session))) return;
  const group = findGroup(valueIn(entry as KeyEntry), session.args, 3);
  if (group !== undefined) destroyGroup(session.database, entry as KeyEntry, group);
  session.reply.integer(group === undefined ? 0 : 1);
}

function newConsumer(session: Session): void {
  const { args, database, engine, reply } = session;
  withGroup(session, (entry, group) => {
    const found = findConsumer(group, args, 4);
    if (found === undefined) createConsumer(database, entry, group, args.copy(4), engine.steady);
    reply.integer(found === undefined ? 1 : 0);
  });
}

function removeConsumer(session: Session): void {
  const { args, database, reply } = session;
  withGroup(session, (entry, group) => {
    const consumer = findConsumer(group, args, 4);
    reply.integer(consumer === undefined ? 0 : deleteConsumer(database, entry, group, consumer));
  });
}

function withGroup(session: Session, act: (entry: KeyEntry, group: ConsumerGroup) => void): void {
  const entry = findStream(session, 2);
  if (entry === null) return;
  if (entry === undefined) {
    keyRequired(session);
    return;
  }
  const group = findGroup(valueIn(entry), session.args, 3);
  if (group === undefined) noGroupForKey(session, 2, 3);
  else act(entry, group);
}

function keyRequired(session: Session): true {
  session.reply.error(
    'ERR The XGROUP subcommand requires the key to exist. ' +
      'Note that for CREATE you may want to use the MKSTREAM option ' +
      'to create an empty stream automatically.',
  );
  return true;
}

/** `[MKSTREAM] [ENTRIESREAD n]` of CREATE, the latter of SETID. Returns false after an error. */
function readOptions(session: Session, forCreate: boolean): boolean {
  const { args, reply } = session;
  makeStream = false;
  entriesRead = UNKNOWN_READ;
  for (let i = 5; i < args.count; i++) {
    if (forCreate && args.is(i, 'MKSTREAM')) {
      makeStream = true;
    } else if (args.is(i, 'ENTRIESREAD') && i + 1 < args.count) {
      const given = args.whole(++i);
      if (given === null || given < UNKNOWN_READ) {
        reply.error(
          given === null ? NOT_AN_INTEGER : 'ERR value for ENTRIESREAD must be positive or -1',
        );
        return false;
      }
      entriesRead = given;
    } else {
      wrongSubcommand(session, 'XGROUP');
      return false;
    }
  }
  if (args.count <= (forCreate ? 8 : 7)) return true;
  // The same option again and again is too much, whatever it says.
  wrongSubcommand(session, 'XGROUP');
  return false;
}

/** The group's new position, in `id`: `$` is the stream's last id. Returns false after an error. */
function readGroupId(
  session: Session,
  entry: KeyEntry | undefined,
  readId: (session: Session, index: number, id: StreamId) => boolean,
): boolean {
  if (!isCharacter(session.args, 4, DOLLAR)) return readId(session, 4, id);
  if (entry === undefined) id.setMin();
  else id.copy(valueIn(entry).stream.lastId);
  return true;
}

/** ENTRIESREAD, at most the number of entries ever added. */
function cappedRead(entry: KeyEntry): Whole {
  return least(entriesRead, valueIn(entry).stream.entriesAdded);
}

// Scratch: never held across commands.
const id = new StreamId();
let makeStream = false;
let entriesRead: Whole = UNKNOWN_READ;

/** The key flag of a subcommand, as COMMAND shows it. */
const CHANGES: Record<string, KeyFlag> = {
  create: 'insert',
  createconsumer: 'insert',
  delconsumer: 'delete',
  destroy: 'delete',
  setid: 'update',
};

export const streamGroupCommands: readonly Command[] = [
  {
    name: 'xgroup',
    arity: -2,
    flags: [],
    group: 'stream',
    since: '5.0.0',
    summary: 'A container for commands about consumer groups.',
    subcommands: [
      row('create', -5, ['write', 'denyoom'], '5.0.0', 'Creates a consumer group.', create),
      row(
        'createconsumer',
        5,
        ['write', 'denyoom'],
        '6.2.0',
        'Creates a consumer in a group.',
        newConsumer,
      ),
      row(
        'delconsumer',
        5,
        ['write'],
        '5.0.0',
        'Deletes a consumer with its pending entries.',
        removeConsumer,
      ),
      row('destroy', 4, ['write'], '5.0.0', 'Destroys a consumer group.', destroy),
      {
        name: 'xgroup|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'stream',
        since: '5.0.0',
        summary: 'Returns helpful text about the subcommands.',
        run: (session) => replyHelp(session, 'XGROUP', HELP),
      },
      row('setid', -5, ['write'], '5.0.0', 'Sets the last delivered id of a group.', setId),
      ...groupPolicyCommands,
    ],
  },
];

function row(
  name: string,
  arity: number,
  flags: readonly CommandFlag[],
  since: string,
  summary: string,
  run: (session: Session) => void,
): Command {
  const complexity =
    name === 'destroy' || name === 'delconsumer'
      ? 'O(N), N being the number of pending entries.'
      : 'O(1)';
  return {
    name: `xgroup|${name}`,
    arity,
    flags,
    keys: keyAt(2, 'RW', CHANGES[name]!),
    group: 'stream',
    since,
    summary,
    complexity,
    run,
  };
}

const HELP = [
  'CREATE <key> <groupname> <id|$> [option]',
  '    Create a new consumer group. Options are:',
  '    * MKSTREAM',
  '      Create the empty stream if it does not exist.',
  '    * ENTRIESREAD entries_read',
  "      Set the group's entries_read counter (internal use).",
  'CREATECONSUMER <key> <groupname> <consumer>',
  '    Create a new consumer in the specified group.',
  'DELCONSUMER <key> <groupname> <consumer>',
  '    Remove the specified consumer.',
  ...GROUP_POLICY_HELP,
  'DESTROY <key> <groupname>',
  '    Remove the specified group.',
  'SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]',
  '    Set the current group ID and entries_read counter.',
];
