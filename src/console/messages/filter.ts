/**
 * Whether an entry fits a filter.
 *
 * What is compared:
 * - A place that the entry does not have equals nothing, not even `null`; so `==`, `<`, `^=` and the like
 *   are false for it, and `!=` is true. Alone it is false; any other place is true unless it is false,
 *   null, 0 or the empty text.
 * - A number against a text that is a number (a header always is a text) compares as numbers.
 * - `<` and the like compare two numbers or two texts (by UTF-16 code units); anything else is false.
 * - `^=` begins with, `$=` ends with, `*=` contains: of texts and numbers as they are written.
 * Invariants: a filter sees what the viewer sees (masked values are masked here too); it never throws.
 * Cost: at most one decoding of the body and STEPS steps an entry.
 */
import type { Expression, Operator, Place } from './filter-parser.ts';

/** An entry as filters see it; what is costly is asked for when needed. */
export interface Filtered {
  readonly id: string;
  readonly time: number | undefined;
  readonly key: string | undefined;
  readonly size: number;
  readonly text: string;
  /** The decoded body; undefined where it cannot be decoded. */
  readonly json: unknown;
  header(name: string): string | undefined;
}

export function matches(expression: Expression, entry: Filtered): boolean {
  switch (expression.kind) {
    case 'not':
      return !matches(expression.of, entry);
    case 'all':
      return expression.of.every((each) => matches(each, entry));
    case 'any':
      return expression.of.some((each) => matches(each, entry));
    case 'compare': {
      const left = valueIn(expression.left, entry);
      return compares(expression.operator, left, valueIn(expression.right, entry));
    }
    default:
      return Boolean(valueIn(expression, entry));
  }
}

function valueIn(expression: Expression, entry: Filtered): unknown {
  if (expression.kind === 'constant') return expression.value;
  if (expression.kind !== 'place') return matches(expression, entry);
  return placeOf(expression.place, expression.path, entry);
}

function placeOf(place: Place, path: readonly (string | number)[], entry: Filtered): unknown {
  if (place === 'header') return entry.header(String(path[0]));
  if (place !== 'json') return entry[place];
  let value = entry.json;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) {
      return undefined;
    }
    if (Array.isArray(value) && typeof part === 'string') return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

function compares(operator: Operator, left: unknown, right: unknown): boolean {
  if (operator === '!=') return !compares('==', left, right);
  if (left === undefined || right === undefined) return false;
  if (operator === '^=' || operator === '$=' || operator === '*=') {
    const [whole, part] = [written(left), written(right)];
    if (whole === null || part === null) return false;
    if (operator === '^=') return whole.startsWith(part);
    return operator === '$=' ? whole.endsWith(part) : whole.includes(part);
  }
  const [a, b] = alike(left, right);
  if (operator === '==') return a === b;
  const areOrdered =
    (typeof a === 'number' && typeof b === 'number') ||
    (typeof a === 'string' && typeof b === 'string');
  if (!areOrdered) return false;
  if (operator === '<') return a < b;
  if (operator === '<=') return a <= b;
  return operator === '>' ? a > b : a >= b;
}

/** A text beside a number is a number where it is written as one. */
function alike(left: unknown, right: unknown): [unknown, unknown] {
  if (typeof left === 'number' && typeof right === 'string') return [left, numberIn(right)];
  if (typeof left === 'string' && typeof right === 'number') return [numberIn(left), right];
  return [left, right];
}

function numberIn(text: string): number | string {
  return NUMBER.test(text) ? Number(text) : text;
}

function written(value: unknown): string | null {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : null;
}

const NUMBER = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
