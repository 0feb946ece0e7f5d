/**
 * Checks options against a table that has one row for each option.
 *
 * Holds: the kinds of rows and the function that checks an object against its table. Invariant: a
 * value that passes is of the row's type, finite, in range and, where it counts something, whole; a
 * name without a row is refused with the nearest known name. An option that is `undefined` is absent.
 * Cost: one loop over the options that were given.
 */
import { RivuletError } from '../errors.ts';
import { nearestName } from '../util/nearest-name.ts';

export interface NumberRow {
  readonly kind: 'number';
  readonly min: number;
  readonly max: number;
  readonly integer: boolean;
  /** For error texts: `ms`, `bytes`, or nothing. */
  readonly unit: string;
}

export type OptionRow =
  | NumberRow
  | { readonly kind: 'boolean' }
  | { readonly kind: 'text'; readonly check?: (value: string, name: string) => void }
  | {
      readonly kind: 'one of';
      readonly values: readonly string[];
      /** Values of earlier versions, and what they are called now. */
      readonly renamed?: Readonly<Record<string, string>>;
    }
  /** An option of earlier versions: refused, with its new name. */
  | { readonly kind: 'renamed'; readonly to: string }
  | { readonly kind: 'date' }
  | { readonly kind: 'signal' }
  | { readonly kind: 'group'; readonly table: OptionTable }
  /** Checked by a function that throws when the value is wrong. */
  | { readonly kind: 'other'; readonly check: (value: unknown, name: string) => void };

export type OptionTable = Readonly<Record<string, OptionRow>>;

/** setTimeout's limit: 24.8 days. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;
/** A hundred years: a longer delay is a mistake, and servers do not accept it. */
export const LONGEST_DELAY_MS = 100 * 366 * 86_400_000;

/** A duration that a timer of this process waits for. */
export function timeout(min = 1): NumberRow {
  return { kind: 'number', min, max: LONGEST_TIMEOUT_MS, integer: false, unit: 'ms' };
}

/** A duration that the broker waits for. */
export function delay(): NumberRow {
  return { kind: 'number', min: 0, max: LONGEST_DELAY_MS, integer: false, unit: 'ms' };
}

export function count(min: number, max: number, unit = ''): NumberRow {
  return { kind: 'number', min, max, integer: true, unit };
}

/** Throws INVALID_ARGUMENT for the first option that is wrong. `prefix` is put before names. */
export function checkOptions(table: OptionTable, given: unknown, prefix = ''): void {
  if (given === undefined) return;
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    const what = prefix === '' ? 'options' : prefix.slice(0, -1);
    throw invalid(`${what} must be an object, not ${shown(given)}`);
  }
  for (const name of Object.keys(given)) {
    const value = (given as Record<string, unknown>)[name];
    const row = Object.hasOwn(table, name) ? table[name] : undefined;
    if (row === undefined) throw unknownOption(table, name, prefix);
    if (row.kind === 'renamed') {
      throw invalid(`the option ${prefix}${name} is now called ${prefix}${row.to}`);
    }
    if (value !== undefined) checkValue(row, value, prefix + name);
  }
}

/** The options that were given a value. */
export function given<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}

export function invalid(text: string): RivuletError {
  return new RivuletError('INVALID_ARGUMENT', text);
}

/** A value for an error text: short, without the contents of objects. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case 'string': {
      const text = value.length > 40 ? `${value.slice(0, 40)}...` : value;
      return JSON.stringify(text);
    }
    case 'number':
    case 'boolean':
    case 'undefined':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'bigint':
      return `${value}n`;
    case 'object':
      if (value === null) return 'null';
      if (Array.isArray(value)) return 'an array';
      return value instanceof Date ? 'a date' : 'an object';
    default:
      return `a ${typeof value}`;
  }
}

function checkValue(row: OptionRow, value: unknown, name: string): void {
  switch (row.kind) {
    case 'number':
      checkNumber(row, value, name);
      return;
    case 'boolean':
      if (typeof value !== 'boolean')
        throw invalid(`${name} is true or false, not ${shown(value)}`);
      return;
    case 'text':
      if (typeof value !== 'string') throw invalid(`${name} must be a string, not ${shown(value)}`);
      row.check?.(value, name);
      return;
    case 'one of':
      if (!row.values.includes(value as string)) {
        const renamed = renamedTo(row.renamed, value);
        if (renamed !== null) {
          throw invalid(`${name}: ${shown(value)} is now called ${JSON.stringify(renamed)}`);
        }
        const choice = row.values.map((each) => JSON.stringify(each)).join(', ');
        throw invalid(`${name} is one of ${choice}, not ${shown(value)}`);
      }
      return;
    case 'date':
      if (!(value instanceof Date)) throw invalid(`${name} must be a Date, not ${shown(value)}`);
      if (Number.isNaN(value.getTime())) throw invalid(`${name} is not a valid date`);
      if (Math.abs(value.getTime()) > LONGEST_DELAY_MS * 2) {
        throw invalid(`${name} is more than a hundred years away`);
      }
      return;
    case 'signal':
      if (!(value instanceof AbortSignal)) {
        throw invalid(`${name} must be an AbortSignal, not ${shown(value)}`);
      }
      return;
    case 'group':
      checkOptions(row.table, value, `${name}.`);
      return;
    case 'other':
      row.check(value, name);
  }
}

function renamedTo(names: Readonly<Record<string, string>> = {}, value: unknown): string | null {
  if (typeof value !== 'string' || !Object.hasOwn(names, value)) return null;
  return names[value] ?? null;
}

/** One value outside of an object: an argument. */
export function checkNumber(row: NumberRow, value: unknown, name: string): void {
  const { min, max, integer, unit } = row;
  const kind = integer ? 'a whole number' : 'a number';
  const unitOf = unit === '' ? '' : ` ${unit}`;
  const isGood =
    typeof value === 'number' &&
    value >= min &&
    value <= max &&
    (!integer || Number.isInteger(value));
  if (!isGood) {
    throw invalid(`${name} must be ${kind} from ${min} to ${max}${unitOf}, not ${shown(value)}`);
  }
}

function unknownOption(table: OptionTable, name: string, prefix: string): RivuletError {
  const known = Object.keys(table).filter((each) => table[each]?.kind !== 'renamed');
  const nearest = nearestName(name, known);
  const hint =
    nearest === null ? `there are ${known.sort().join(', ')}` : `did you mean ${prefix}${nearest}?`;
  return invalid(`there is no option ${prefix}${shown(name).slice(1, -1)}: ${hint}`);
}
