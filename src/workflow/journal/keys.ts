/**
 * The streams of a workflow, and which names may be part of them.
 *
 * `{name}` is a hash tag: on a cluster all streams of one workflow have one slot.
 */
import { isWellFormed } from '../../broker/message/text.ts';
import { invalid, shown } from '../../client/option-table.ts';

/** The group in which workers share a queue. */
export const WORKERS = 'workers';

const LONGEST_ID_BYTES = 512;

export const journalKey = (name: string, id: string): string => `wf:{${name}}:j:${id}`;
export const queueKey = (name: string, version: number): string => `wf:{${name}}:v${version}`;
export const listKey = (name: string, list: 'running' | 'parked' | 'done'): string =>
  `wf:{${name}}:${list}`;
export const scheduleKey = (name: string, schedule: string): string => `wf:{${name}}:s:${schedule}`;

/** One entry a version of the workflow: names.ts. */
export const versionsKey = (name: string): string => `wf:{${name}}:versions`;
/** One entry a workflow. No workflow has the name of nothing. */
export const namesKey = 'wf:{}:names';
export const LISTS = ['running', 'parked', 'done'] as const;

/** The name in a key of a list, or null. */
export function nameInKey(key: string): string | null {
  return /^wf:\{([^{}]+)\}:/.exec(key)?.[1] ?? null;
}

/** As part of a pattern of keys. */
export function escaped(text: string): string {
  return text.replace(/[\\*?[\]]/g, '\\$&');
}

export function checkName(name: unknown, what = 'a workflow'): asserts name is string {
  if (typeof name === 'string' && /^[A-Za-z0-9_][\w.-]{0,99}$/.test(name)) return;
  throw invalid(
    `the name of ${what} is 1 to 100 letters, digits, "_", "-" or ".", not ${shown(name)}`,
  );
}

export function checkId(id: unknown, what = 'the id of an instance'): asserts id is string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
  const isLegal = typeof id === 'string' && id !== '' && !/[\u0000-\u001f\u007f]/.test(id);
  if (isLegal && Buffer.byteLength(id) <= LONGEST_ID_BYTES && isWellFormed(id)) return;
  throw invalid(
    `${what} is a text of 1 to ${LONGEST_ID_BYTES} bytes without control characters, not ${shown(id)}`,
  );
}

export function checkVersion(version: unknown): asserts version is number {
  if (Number.isInteger(version) && (version as number) >= 1 && (version as number) <= 2 ** 31 - 1) {
    return;
  }
  throw invalid(`version is a whole number from 1 on, not ${shown(version)}`);
}
