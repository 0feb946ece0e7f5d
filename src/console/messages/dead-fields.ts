/**
 * The fields of a dead letter as bytes: where it came from, and the entries that a redrive and an edit add.
 *
 * The server writes `rivulet-dead-*` as fields, other brokers write them into the JSON of `headers`.
 * Invariant: names and values that are not changed keep their bytes, also where they are no UTF-8. Cost: one
 * walk.
 */
import { decodeMessage } from '../../broker/message/entry.ts';
import { deadLetterHeaders, ONLY_GROUP } from '../../broker/message/message.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';

const OURS: ReadonlySet<string> = new Set([...Object.values(deadLetterHeaders), ONLY_GROUP]);

/** The bytes of a field; of a header where there is no such field. Null: it has neither. */
export function fieldOf(fields: readonly Buffer[], name: string): Buffer | null {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i]!.toString('latin1') === name) return fields[i + 1]!;
  }
  const value = decodeMessage(fields).headers[name];
  return value === undefined ? null : Buffer.from(value);
}

/** The topic that the letter says it came from. */
export function originTopic(fields: readonly Buffer[]): Buffer | null {
  return fieldOf(fields, deadLetterHeaders.topic);
}

/** The entry that the letter was made of, for its group only, with further headers. */
export function redrivenFields(
  fields: readonly Buffer[],
  more: Readonly<Record<string, string>>,
): CommandArgument[] {
  const group = fieldOf(fields, deadLetterHeaders.group);
  const { headers, others } = partsOf(fields);
  if (group !== null && group.length > 0) headers.push([ONLY_GROUP, group.toString()]);
  return joined([...headers, ...Object.entries(more)], others);
}

/** What an edit changes; null = it stays as the letter has it. */
export interface Edit {
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>> | null;
  readonly key: string | null;
}

/** The edited entry, for every group, with further headers. */
export function editedFields(
  fields: readonly Buffer[],
  { body, headers, key }: Edit,
  more: Readonly<Record<string, string>>,
): CommandArgument[] {
  const before = partsOf(fields);
  const others: Buffer[] = [];
  for (let i = 0; i < before.others.length; i += 2) {
    const [name, value] = [before.others[i]!, before.others[i + 1]!];
    const text = name.toString('latin1');
    const isKept = text === 'body' ? false : text === 'key' ? key === null : headers === null;
    if (isKept) others.push(name, value);
  }
  if (key !== null && key !== '') others.push(Buffer.from('key'), Buffer.from(key));
  others.push(Buffer.from('body'), body);
  const own = headers === null ? before.headers : Object.entries(headers);
  return joined([...own, ...Object.entries(more)], others);
}

function joined(headers: [string, string][], others: readonly Buffer[]): CommandArgument[] {
  return ['headers', JSON.stringify(Object.fromEntries(headers)), ...others];
}

/** The headers of a message of ours, and all other fields, without those that make it a dead letter. */
function partsOf(fields: readonly Buffer[]): { headers: [string, string][]; others: Buffer[] } {
  const others: Buffer[] = [];
  const headers: [string, string][] = [];
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const [name, value] = [fields[i]!, fields[i + 1]!];
    const text = name.toString('latin1');
    if (OURS.has(text)) continue;
    const own = text === 'headers' ? headersIn(value) : null;
    if (own === null) others.push(name, value);
    else headers.push(...own.filter(([each]) => !OURS.has(each)));
  }
  return { headers, others };
}

/** Null: the field is not the headers of a message of ours. */
function headersIn(value: Buffer): [string, string][] | null {
  try {
    const parsed: unknown = JSON.parse(value.toString());
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return null;
    const pairs = Object.entries(parsed);
    return pairs.every(([, each]) => typeof each === 'string') ? pairs : null;
  } catch {
    return null;
  }
}
