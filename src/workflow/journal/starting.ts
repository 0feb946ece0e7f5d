/**
 * How an instance begins: its first record, its task, and its entry in the list of running ones, in one
 * commit under the condition that the id is new. So the id is the idempotency key.
 */
import type { JournalCommit, JournalEffect } from '../../broker/journal.ts';
import { NO_RECORD } from '../../broker/journal.ts';
import { validate } from '../../codec/standard-schema.ts';
import type { AnyWorkflow } from '../workflow.ts';
import { checkId, journalKey, listKey, queueKey } from './keys.ts';
import { fieldsOf, type Records, rawFields, taskFields } from './records.ts';
import { stored } from './values.ts';

export interface Beginning {
  readonly definition: AnyWorkflow;
  readonly id: string;
  readonly input: unknown;
  readonly startAt?: number | undefined;
  readonly more?: Partial<Records['start']>;
}

/** Checks the input; rejects with VALIDATION_FAILED before anything is sent. */
export async function firstRecord(beginning: Beginning, most: number): Promise<Records['start']> {
  const { definition, id, input, startAt, more } = beginning;
  checkId(id);
  const { name, version, options } = definition;
  const kept = stored(input, `the input of ${name}/${id}`, most);
  if (options.input !== null) await validate(options.input, kept, `the input of ${name}/${id}`);
  return {
    v: version,
    ...(kept === undefined ? {} : { input: kept }),
    ...(options.timeoutMs === null ? {} : { timeoutMs: options.timeoutMs }),
    ...(startAt === undefined ? {} : { startAt }),
    ...more,
  };
}

/** What stands beside the first record. */
export function startEffects(
  name: string,
  id: string,
  { v, startAt }: Records['start'],
): JournalEffect[] {
  return [
    {
      kind: 'add',
      key: queueKey(name, v),
      fields: taskFields({ id, k: 'start' }),
      ...(startAt === undefined ? {} : { at: startAt }),
    },
    { kind: 'add', key: listKey(name, 'running'), fields: listFields({ id, v }) },
  ];
}

export function startCommit(
  name: string,
  id: string,
  record: Records['start'],
  token: string,
): JournalCommit {
  return {
    key: journalKey(name, id),
    last: NO_RECORD,
    records: [fieldsOf('start', record)],
    effects: startEffects(name, id, record),
    token,
  };
}

/** The same as effects of another instance's commit, which has the condition among its own. */
export function startAsEffects(
  name: string,
  id: string,
  record: Records['start'],
  token: string,
): JournalEffect[] {
  const key = journalKey(name, id);
  return [
    { kind: 'add', key, fields: rawFields('start', record, token), tell: true },
    ...startEffects(name, id, record),
  ];
}

/** One entry of a list of instances. */
export interface Listed {
  readonly id: string;
  readonly v: number;
  /** Unix ms of its start, in the lists of what has stopped. */
  readonly from?: number;
  readonly status?: string;
  readonly why?: string;
  readonly code?: string;
  /** The result, where it is small; else its bytes as JSON. */
  readonly r?: unknown;
  readonly rb?: number;
  /** It is a schedule that is parked, and `id` its name. */
  readonly s?: 1;
}

/** Results of at most this many bytes as JSON are in the list itself. */
const MOST_LISTED = 256;

/** A result as the list of ended instances holds it; undefined is not stored. */
export function listedResult(value: unknown): Pick<Listed, 'r' | 'rb'> {
  if (value === undefined) return {};
  const rb = Buffer.byteLength(JSON.stringify(value));
  return rb <= MOST_LISTED ? { r: value } : { rb };
}

export function listFields(listed: Listed): string[] {
  return ['d', JSON.stringify(listed)];
}
