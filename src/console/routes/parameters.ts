/**
 * Parameters of a request, checked: a wrong one is INVALID_ARGUMENT with its name and what it may be.
 */
import { RivuletError } from '../../errors.ts';
import type { ConsoleSource } from '../sources/source.ts';

/** A method of the source. Throws UNSUPPORTED with the source's reason where it has none. */
export function needed<Name extends keyof ConsoleSource>(
  source: ConsoleSource,
  name: Name,
): NonNullable<ConsoleSource[Name]> {
  const method = source[name];
  const ability = ABILITIES[name] ?? name;
  const { missing } = source.capabilities;
  if (typeof method === 'function' && missing[ability] === undefined) {
    return method.bind(source) as never;
  }
  const why = missing[ability] ?? `this broker (${source.kind}) does not tell it`;
  throw new RivuletError('UNSUPPORTED', why);
}

/** Methods whose ability has another name. */
const ABILITIES: Partial<Record<keyof ConsoleSource, string>> = {
  topic: 'topics',
  edges: 'browse',
  entries: 'browse',
  group: 'groups',
  deadTopics: 'dead',
  scheduled: 'schedule',
};

export function count(
  text: string | null,
  name: string,
  least: number,
  most: number,
  otherwise: number,
): number {
  if (text === null || text === '') return otherwise;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && value >= least && value <= most) return value;
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `${name} is a whole number from ${least} to ${most}, not ${JSON.stringify(text.slice(0, 40))}`,
  );
}

export function oneOf<T extends string>(
  text: string | null,
  name: string,
  values: readonly T[],
  otherwise: T,
): T {
  if (text === null || text === '') return otherwise;
  if (values.includes(text as T)) return text as T;
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `${name} is one of ${values.join(', ')}, not ${JSON.stringify(text.slice(0, 40))}`,
  );
}

/** An id of a message: `1795253507502-0`, or one number on a broker that numbers its messages. */
export function idOf(text: string | null, name: string): string | null {
  if (text === null || text === '') return null;
  if (ID.test(text) && areIdParts(text)) return text;
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `${name} is an id such as 1795253507502-0, not ${JSON.stringify(text.slice(0, 40))}`,
  );
}

const ID = /^\d{1,20}(-\d{1,20})?$/;
const HIGHEST = 2n ** 64n - 1n;

/** Whether the one or two numbers of an id, which are digits, are numbers that an id may have. */
export function areIdParts(text: string): boolean {
  return text.split('-').every((part) => BigInt(part) <= HIGHEST);
}
