/**
 * XADD at a later time (DELAY, AT), and XSCHEDULE, which lists and cancels scheduled entries.
 *
 * An addition to Redis. A scheduled entry has a name, `s` and a number, that XADD replies in place of
 * an id. The rules are in engine/scheduled-entries.ts, the syntax in docs/extensions.md.
 */

import { scheduledFields, unschedule } from '../../engine/schedule/scheduled-entries.ts';
import type { ScheduledEntry } from '../../engine/schedule/scheduled-queue.ts';
import type { Command } from '../command/command.ts';
import { keyAt } from '../command/key-specs.ts';
import type { Session } from '../connection/session.ts';
import type { Reply } from '../output/reply.ts';
import { NOT_AN_INTEGER, replyHelp, wrongSubcommand } from './common.ts';

const DEFAULT_COUNT = 100;

/** What XADD replies for a scheduled entry. */
export function scheduledName(number: number): string {
  return `s${number}`;
}

/** The number in a name; null when it is not such a name. */
function readScheduledName(text: string): number | null {
  return /^s[1-9]\d{0,15}$/.test(text) ? Number(text.slice(1)) : null;
}

function list(session: Session): void {
  const { args, database, engine, reply } = session;
  let count = DEFAULT_COUNT;
  if (args.count > 3) {
    if (args.count !== 5 || !args.is(3, 'COUNT')) {
      wrongSubcommand(session, 'XSCHEDULE');
      return;
    }
    const given = args.integer(4);
    if (given === null || given < 1) {
      reply.error(given === null ? NOT_AN_INTEGER : 'ERR COUNT must be positive');
      return;
    }
    count = given;
  }
  const found = database.keyspace.schedule.firstOf(args.view(2), count, engine.time);
  reply.array(found.length);
  for (const scheduled of found) writeScheduled(reply, scheduled, engine.time.stepped);
}

function writeScheduled(reply: Reply, scheduled: ScheduledEntry, stepped: number): void {
  reply.array(3);
  reply.bulkText(scheduledName(scheduled.number));
  // A date of the present clock, for both.
  reply.integer(scheduled.isDelay ? scheduled.at + stepped : scheduled.at);
  const fields = scheduledFields(scheduled);
  reply.array(fields.count);
  for (let i = 0; i < fields.count; i++) {
    reply.bulkSlice(fields.buffer, fields.offsets[i], fields.lengths[i]);
  }
}

function cancel(session: Session): void {
  const { args, database, reply } = session;
  const { schedule } = database.keyspace;
  let cancelled = 0;
  for (let i = 3; i < args.count; i++) {
    const number = readScheduledName(args.latin1(i));
    const scheduled = number === null ? undefined : schedule.get(number);
    if (scheduled === undefined || !scheduled.key.equals(args.view(2))) continue;
    unschedule(database, scheduled);
    cancelled++;
  }
  reply.integer(cancelled);
}

function length(session: Session): void {
  const { args, database, reply } = session;
  reply.integer(database.keyspace.schedule.count(args.view(2)));
}

const HELP = [
  'CANCEL <key> <id> [<id> ...]',
  '    Forget scheduled entries of a stream; return how many there were.',
  'LEN <key>',
  '    Return how many entries wait for a stream.',
  'LIST <key> [COUNT <count>]',
  '    Return the scheduled entries of a stream, the next ones first.',
];

export const scheduleCommands: readonly Command[] = [
  {
    name: 'xschedule',
    arity: -2,
    flags: [],
    group: 'stream',
    since: '8.10.0',
    summary: 'A container for commands about entries that wait for their time.',
    subcommands: [
      {
        name: 'xschedule|cancel',
        arity: -4,
        flags: ['write', 'fast'],
        keys: keyAt(2, 'RW', 'delete'),
        group: 'stream',
        since: '8.10.0',
        summary: 'Forgets scheduled entries.',
        complexity: 'O(log(N)) for each, N being the number of scheduled entries.',
        run: cancel,
      },
      {
        name: 'xschedule|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'stream',
        since: '8.10.0',
        summary: 'Returns helpful text about the subcommands.',
        run: (session) => replyHelp(session, 'XSCHEDULE', HELP),
      },
      {
        name: 'xschedule|len',
        arity: 3,
        flags: ['readonly', 'fast'],
        keys: keyAt(2, 'RO'),
        group: 'stream',
        since: '8.10.0',
        summary: 'Returns how many entries wait for a stream.',
        complexity: 'O(1)',
        run: length,
      },
      {
        name: 'xschedule|list',
        arity: -3,
        flags: ['readonly'],
        keys: keyAt(2, 'RO', 'access'),
        group: 'stream',
        since: '8.10.0',
        summary: 'Returns the scheduled entries of a stream, the next ones first.',
        complexity: 'O(N) with N entries that wait for the stream.',
        run: list,
      },
    ],
  },
];
