/**
 * What in a reply depends on the time or on chance, and is therefore not compared. All of it:
 *
 * - XPENDING's idle times; XINFO CONSUMERS' idle; XINFO STREAM FULL's seen-time and delivery times
 * - TTL and PTTL of a key that has one (EXPIRETIME is exact and compared)
 * - ids that the server took from its clock (XADD with `*`): replaced by the order of their appearance
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
      for (const consumer of tree.items ?? []) hideFields(consumer, ['idle']);
    if (kind === 'STREAM' && args.length > 3) hideFullTimes(tree);
  },
  TTL: hidePositive,
  PTTL: hidePositive,
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

/** Names each id taken from the clock after the order in which one server first showed it. */
export class ClockIds {
  readonly #names = new Map<string, string>();

  hide(tree: ReplyTree): void {
    for (const item of tree.items ?? []) this.hide(item);
    if (tree.text === null || tree.text.length < 15) return;
    tree.text = tree.text.replace(/\b1[5-9]\d{11}-\d+\b/g, (id) => {
      const name = this.#names.get(id) ?? `clock-${this.#names.size}`;
      this.#names.set(id, name);
      return name;
    });
  }
}

function hide(tree: ReplyTree | undefined): void {
  if (tree?.type === ':' && tree.text !== '-1') tree.text = TIME;
}

function hideFields(tree: ReplyTree, names: readonly string[]): void {
  for (const [name, value] of fieldsOf(tree)) if (names.includes(name)) hide(value);
}

function hidePositive(tree: ReplyTree): void {
  if (tree.type === ':' && Number(tree.text) >= 0) tree.text = TIME;
}

function hideFullTimes(tree: ReplyTree): void {
  const groups = fieldsOf(tree).find(([name]) => name === 'groups')?.[1].items ?? [];
  for (const group of groups) {
    const facts = new Map(fieldsOf(group));
    for (const entry of facts.get('pending')?.items ?? facts.get('pel')?.items ?? [])
      hide(entry.items?.[2]);
    for (const consumer of facts.get('consumers')?.items ?? []) {
      hideFields(consumer, ['seen-time']);
      for (const [name, value] of fieldsOf(consumer)) {
        if (name === 'pending' || name === 'pel')
          for (const entry of value.items ?? []) hide(entry.items?.[1]);
      }
    }
  }
}

function sortItems(tree: ReplyTree): void {
  tree.items?.sort((a, b) => ((a.text ?? '') < (b.text ?? '') ? -1 : 1));
}
