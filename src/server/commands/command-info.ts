/**
 * The replies of COMMAND INFO: one row of the table in the shape that Redis 7 and 8 give it.
 */
import { CATEGORIES } from '../acl/acl-permissions.ts';
import type { CommandEntry } from '../command/command-table.ts';
import { commandTips } from '../command/command-tips.ts';
import type { KeySpec } from '../command/key-specs.ts';
import type { Session } from '../connection/session.ts';

export function writeCommandInfos(session: Session, entries: readonly CommandEntry[]): void {
  session.reply.array(entries.length);
  for (const entry of entries) writeCommandInfo(session, entry);
}

export function writeCommandInfo(session: Session, entry: CommandEntry): void {
  const { reply } = session;
  const { first, last, step, movable } = legacyRange(entry.keys);
  const flags: string[] = [...entry.row.flags];
  if (movable && !flags.includes('movablekeys')) flags.push('movablekeys');
  reply.array(10);
  reply.bulkText(entry.name);
  reply.integer(entry.arity);
  reply.set(flags.length);
  for (const flag of flags) reply.simple(flag);
  reply.integer(first);
  reply.integer(last);
  reply.integer(step);
  const categories = CATEGORIES.filter((name) => entry.categories.has(name));
  reply.set(categories.length);
  for (const name of categories) reply.simple(`@${name}`);
  const tips = commandTips(entry.name);
  reply.set(tips.length);
  for (const tip of tips) reply.bulkText(tip);
  reply.set(entry.keys.length);
  for (const spec of entry.keys) writeKeySpec(session, spec);
  const subs = entry.subcommands?.all ?? [];
  if (subs.length === 0) reply.set(0);
  else reply.array(subs.length);
  for (const each of subs) writeCommandInfo(session, each);
}

/** First, last and step, for clients that do not read key specifications. Neighbouring ranges are joined. */
function legacyRange(specs: readonly KeySpec[]): {
  first: number;
  last: number;
  step: number;
  movable: boolean;
} {
  const ranges = specs.filter((spec) => spec.find === undefined);
  const movable = ranges.length < specs.length;
  const { first = 0, step = 0 } = ranges[0] ?? {};
  return { first, last: ranges.at(-1)?.last ?? 0, step, movable };
}

function writeKeySpec(session: Session, spec: KeySpec): void {
  const { reply } = session;
  reply.map(spec.notes === undefined ? 3 : 4);
  if (spec.notes !== undefined) {
    reply.bulkText('notes');
    reply.bulkText(spec.notes);
  }
  reply.bulkText('flags');
  reply.set(spec.flags.length);
  for (const flag of spec.flags) reply.simple(flag);
  reply.bulkText('begin_search');
  reply.map(2);
  reply.bulkText('type');
  if (spec.keyword !== undefined) {
    reply.bulkText('keyword');
    reply.bulkText('spec');
    reply.map(2);
    reply.bulkText('keyword');
    reply.bulkText(spec.keyword.word);
    reply.bulkText('startfrom');
    reply.integer(spec.keyword.startFrom);
    // The keys are the first half of what follows the word.
    writeRange(session, -1, 1, 2);
  } else if (spec.find !== undefined) {
    reply.bulkText('unknown');
    reply.bulkText('spec');
    reply.map(0);
    reply.bulkText('find_keys');
    reply.map(2);
    reply.bulkText('type');
    reply.bulkText('unknown');
    reply.bulkText('spec');
    reply.map(0);
  } else {
    const { first, last, step } = spec;
    reply.bulkText('index');
    reply.bulkText('spec');
    reply.map(1);
    reply.bulkText('index');
    reply.integer(first);
    writeRange(session, last < 0 ? last : last - first, step, 0);
  }
}

function writeRange(session: Session, last: number, step: number, limit: number): void {
  const { reply } = session;
  reply.bulkText('find_keys');
  reply.map(2);
  reply.bulkText('type');
  reply.bulkText('range');
  reply.bulkText('spec');
  reply.map(3);
  reply.bulkText('lastkey');
  reply.integer(last);
  reply.bulkText('keystep');
  reply.integer(step);
  reply.bulkText('limit');
  reply.integer(limit);
}
