/**
 * Where the keys of a command are and what happens to them, in the words of Redis's key specifications.
 *
 * Holds: the specifications that several command files share, and the rights that flags require. `access`:
 * the reply depends on the value; `insert`, `update`, `delete`: the value changes. A specification without any
 * of the four (EXISTS, TYPE, XLEN) needs a pattern that matches, with any right.
 * Source: https://redis.io/docs/latest/develop/reference/key-specs/
 */
import type { Arguments } from '../../util/arguments.ts';

export type KeyFlag =
  | 'RO'
  | 'RW'
  | 'OW'
  | 'RM'
  | 'access'
  | 'insert'
  | 'update'
  | 'delete'
  | 'not_key'
  | 'variable_flags';

export interface KeySpec {
  /** First key's argument index (1-based after the name); 0 = found by `find`. */
  readonly first: number;
  /** Last key's index; negative counts from the end. */
  readonly last: number;
  readonly step: number;
  readonly flags: readonly KeyFlag[];
  readonly notes?: string;
  /** For movable keys: the argument indices of the keys. */
  find?(args: Arguments): number[];
  /** For movable keys: the word that the keys follow, and the argument from which it is searched. */
  readonly keyword?: { readonly word: string; readonly startFrom: number };
  /** With `variable_flags`: the flags of this call. */
  flagsOf?(args: Arguments): readonly KeyFlag[];
}

/** One key, at an argument: `keyAt(1, 'RW', 'update')`. */
export function keyAt(index: number, ...flags: KeyFlag[]): KeySpec {
  return { first: index, last: index, step: 1, flags };
}

/** Every argument from the first on is a key. */
export function everyKey(...flags: KeyFlag[]): KeySpec {
  return { first: 1, last: -1, step: 1, flags };
}

export const READ_KEY = keyAt(1, 'RO', 'access');
/** The reply shows only whether the key exists, its type or its size: any right on the key is enough. */
export const KNOWN_KEY = keyAt(1, 'RO');
export const UPDATED_KEY = keyAt(1, 'RW', 'update');

/** The argument indices of the keys of one specification. */
export function keyIndices(spec: KeySpec, args: Arguments): number[] {
  if (spec.find) return spec.find(args);
  const { first, last, step } = spec;
  const end = last < 0 ? args.count + last : last;
  const indices: number[] = [];
  for (let i = first; i <= end && i < args.count; i += step) indices.push(i);
  return indices;
}

/** The flags that hold for this call. */
export function keyFlags(spec: KeySpec, args: Arguments): readonly KeyFlag[] {
  return spec.flagsOf?.(args) ?? spec.flags;
}

/** The rights on the key that the flags require; both may be false. */
export function neededRights(flags: readonly KeyFlag[]): { read: boolean; write: boolean } {
  let read = false;
  let write = false;
  for (const flag of flags) {
    if (flag === 'access') read = true;
    else if (flag === 'insert' || flag === 'update' || flag === 'delete') write = true;
  }
  return { read, write };
}
