/**
 * Actions on pending messages: deliver now, give back, claim, dead-letter, acknowledge.
 *
 * Invariant: an id that is not pending any more is reported as such and nothing happens to it.
 */

import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Reply } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import type { PendingRow, Verb } from '../api-types.ts';
import { needed } from '../routes/parameters.ts';
import { listOf } from '../sources/commands.ts';
import { commandsOf } from '../sources/stream-source.ts';
import { nameBytes, nameText } from '../topics/names.ts';
import {
  type ActionCall,
  type ActionKind,
  allow,
  numberOption,
  type Plan,
  textOption,
} from './plan.ts';
import { chosenPending, groupOf, MOST_ITEMS, topicOf } from './targets.ts';

const LONGEST_DELAY = 365 * 86_400_000;
const FIRST = 5;

/** Builds the command for one id from the options, which are checked before anything is planned. */
type Command = (
  call: ActionCall,
  topic: Buffer,
  group: Buffer,
) => (id: string) => CommandArgument[];

function kind(
  verb: Verb,
  command: readonly string[],
  does: string,
  build: Command,
  reversible: boolean,
): ActionKind {
  return {
    verb,
    command,
    needs: 'settle',
    async plan(call): Promise<Plan> {
      const { viewer, target } = call;
      const [topic, group] = [topicOf(target), groupOf(target)];
      const commandOf = build(call, topic, group);
      allow(
        viewer,
        ...commandOf('0-1').map((each) => (Buffer.isBuffer(each) ? each : String(each))),
      );
      const { ids, isCut } = await chosenPending(call, topic, group);
      const rows = await firstRows(call, topic, group, ids);
      const gone =
        ids.length <= FIRST ? ids.filter((id) => !rows.some((row) => row.id === id)) : [];
      const items = ids.filter((id) => !gone.includes(id));
      const shown = `${nameText(topic)} / ${nameText(group)}`;
      const first = isCut ? `, the first ${MOST_ITEMS}` : '';
      return {
        items,
        first: rows.map(lineOf),
        impossible: gone.map((id) => ({ what: id, why: NOT_PENDING })),
        target: shown,
        summary: `${does} ${items.length} pending of ${shown}${first}`,
        reversible,
        async run(id) {
          const reply = await commandsOf(viewer).call(...commandOf(id));
          if (countOf(reply) === 0) throw new RivuletError('NOT_FOUND', NOT_PENDING);
          return null;
        },
      };
    },
  };
}

const NOT_PENDING = 'it is not pending any more';

export const pendingActions: readonly ActionKind[] = [
  kind(
    'pending.deliver',
    ['XNACK', 'x', 'g', 'FAIL', 'IDS', '1', '0-1'],
    'deliver now',
    (call, topic, group) => {
      const delay = hasExtensions(call) ? ['DELAY', 0] : [];
      return (id) => ['XNACK', topic, group, 'FAIL', 'IDS', 1, id, ...delay];
    },
    true,
  ),
  kind(
    'pending.giveBack',
    ['XNACK', 'x', 'g', 'FAIL', 'IDS', '1', '0-1'],
    'give back',
    (call, topic, group) => {
      const delay = numberOption(call.options, 'delayMs', 0, LONGEST_DELAY);
      const { reason } = call.options;
      const more = [
        ...(delay === undefined ? [] : ['DELAY', delay]),
        ...(typeof reason === 'string' && reason !== '' ? ['REASON', reason] : []),
      ];
      return (id) => ['XNACK', topic, group, 'FAIL', 'IDS', 1, id, ...more];
    },
    true,
  ),
  kind(
    'pending.claim',
    ['XCLAIM', 'x', 'g', 'c', '0', '0-1'],
    'claim',
    (call, topic, group) => {
      const consumer = nameBytes(
        textOption(call.options, 'consumer', 'the consumer that gets them'),
      );
      return (id) => ['XCLAIM', topic, group, consumer, 0, id, 'JUSTID'];
    },
    true,
  ),
  kind(
    'pending.deadLetter',
    ['XNACK', 'x', 'g', 'DEADLETTER', 'IDS', '1', '0-1'],
    'dead-letter',
    (call, topic, group) => {
      const reason = textOption(call.options, 'reason', 'it is stored in the dead letter');
      return (id) => ['XNACK', topic, group, 'DEADLETTER', 'IDS', 1, id, 'REASON', reason];
    },
    true,
  ),
  kind(
    'pending.acknowledge',
    ['XACK', 'x', 'g', '0-1'],
    'acknowledge',
    (_, topic, group) => (id) => ['XACK', topic, group, id],
    false,
  ),
];

function hasExtensions({ source }: ActionCall): boolean {
  return source.kind !== 'redis';
}

async function firstRows(
  { source, viewer }: ActionCall,
  topic: Buffer,
  group: Buffer,
  ids: readonly string[],
): Promise<PendingRow[]> {
  const rows = await Promise.all(
    ids.slice(0, FIRST).map(async (id) => {
      const query = { after: before(id), consumer: null, minIdleMs: 0, limit: 1 };
      const page = await needed(source, 'pending')(viewer, topic, group, query);
      if (page === null) throw new RivuletError('NOT_FOUND', 'the broker has no such group');
      const [row] = page.entries;
      return row?.id === id ? row : null;
    }),
  );
  return rows.filter((row) => row !== null);
}

/** The id before this one. */
function before(id: string): string {
  const [ms, seq] = id.split('-').map(BigInt) as [bigint, bigint];
  if (seq > 0n) return `${ms}-${seq - 1n}`;
  return ms === 0n ? '0-0' : `${ms - 1n}-18446744073709551615`;
}

function lineOf({ id, consumer, attempts, idleMs }: PendingRow): string {
  const holder = consumer === '' ? 'held by no consumer' : `held by ${consumer}`;
  return `${id}  ${holder}, attempt ${attempts}, idle ${Math.round(idleMs / 1000)} s`;
}

/** XNACK and XACK reply a count, XCLAIM the ids. */
function countOf(reply: Reply): number {
  return Array.isArray(reply) ? listOf(reply).length : Number(reply);
}
