/**
 * What in a reply depends on the time or on chance, and is therefore not compared. All of it:
 *
 * - XPENDING's idle times; XINFO CONSUMERS' idle and inactive; XINFO STREAM FULL's seen-time,
 *   active-time and delivery times; idle times of XREADGROUP CLAIM
 * - TTL and PTTL of a key that has one; EXPIRETIME and PEXPIRETIME where the expiry was given relatively
 * - ids that the server took from its clock (XADD with `*`)
 * - the order of KEYS and SCAN
 *
 * Each keeps its type and place, so a missing or misplaced field is still a difference.
 */
import { fieldsOf, type ReplyTree } from './reply-tree.ts';

type Normaliser = (tree: ReplyTree, args: readonly string[]) => void;

const TIME = 'time';

const NORMALISERS: Record<string, Normaliser> = {
  XPENDING: (tree, args) => {
    if (args.length > 3) for (const item of tree.items ?? []) hide(item.items?.[2]);
  },
  XINFO: (tree, args) => {
    const kind = args[1]?.toUpperCase();
    if (kind === 'CONSUMERS')
      for (const consumer of tree.items ?? []) hideFields(consumer, ['idle', 'inactive']);
    if (kind === 'STREAM' && args.length > 3) hideFullTimes(tree);
  },
  XREADGROUP: (tree, args) => {
    if (args.some((arg) => arg.toUpperCase() === 'CLAIM')) hideIdleOfEntries(tree);
  },
  TTL: hidePositive,
  PTTL: hidePositive,
  EXPIRETIME: hideNearTime,
  PEXPIRETIME: hideNearTime,
  KEYS: sortItems,
  SCAN: (tree) => {
    if (tree.items?.length === 2) sortItems(tree.items[1]);
  },
};

/** Changes the tree so that what time decides is the same everywhere. `args` in latin1. */
export function normalise(tree: ReplyTree, args: readonly string[]): void {
  if (tree.type === '-') return;
  NORMALISERS[args[0].toUpperCase()]?.(tree, args);
}

/**
 * Takes away ids that came from a server's clock. Not even their equality is kept: two that fell into
 * one millisecond on one server, on different streams, did not on the other.
 */
export function hideClockIds(tree: ReplyTree): void {
  for (const item of tree.items ?? []) hideClockIds(item);
  if (tree.text !== null) tree.text = tree.text.replace(CLOCK_ID, 'clock-id');
}

/** From 2017 to 2033. No id made by the generator looks like this. */
export const CLOCK_ID = /\b1[5-9]\d{11}-\d+\b/g;

function hide(tree: ReplyTree | undefined): void {
  if (tree?.type === ':' && tree.text !== '-1') tree.text = TIME;
}

function hideFields(tree: ReplyTree, names: readonly string[]): void {
  for (const [name, value] of fieldsOf(tree)) if (names.includes(name)) hide(value);
}

function hidePositive(tree: ReplyTree): void {
  if (tree.type === ':' && Number(tree.text) >= 0) tree.text = TIME;
}

/** A relative expiry ends in this century, an absolute one of the generator far beyond. */
function hideNearTime(tree: ReplyTree): void {
  const value = Number(tree.text);
  const seconds = value > 1e11 ? value / 1000 : value;
  if (tree.type === ':' && seconds > 1e9 && seconds < 4e9) tree.text = TIME;
}

function hideFullTimes(tree: ReplyTree): void {
  const groups = fieldsOf(tree).find(([name]) => name === 'groups')?.[1].items ?? [];
  for (const group of groups) {
    const facts = new Map(fieldsOf(group));
    for (const entry of facts.get('pending')?.items ?? facts.get('pel')?.items ?? [])
      hide(entry.items?.[2]);
    for (const consumer of facts.get('consumers')?.items ?? []) {
      hideFields(consumer, ['seen-time', 'active-time']);
      for (const [name, value] of fieldsOf(consumer)) {
        if (name === 'pending' || name === 'pel')
          for (const entry of value.items ?? []) hide(entry.items?.[1]);
      }
    }
  }
}

/** With CLAIM an entry has four parts: id, fields, idle time, deliveries. */
function hideIdleOfEntries(tree: ReplyTree): void {
  const items = tree.items ?? [];
  if (items.length === 4 && items[2].type === ':' && items[0].items === null) {
    if (items[2].text !== '0' || items[3].text !== '0') hide(items[2]);
    return;
  }
  for (const item of items) hideIdleOfEntries(item);
}

function sortItems(tree: ReplyTree): void {
  tree.items?.sort((a, b) => ((a.text ?? '') < (b.text ?? '') ? -1 : 1));
}
