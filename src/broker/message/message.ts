/**
 * Messages: as a caller publishes them, as brokers store and carry them, and the forms of dead letters.
 *
 * Invariant: whatever a caller gives (a text or bytes, headers or none), brokers see one form, with
 * headers and bytes. Cost: none; these are plain objects.
 */
import { deadLetterFields } from '../../engine/streams/dead-letter-fields.ts';

/** What `publish`, `request` and responders give to a broker. */
export interface Message {
  /** Any Unicode names and values. Names beginning with `rivulet-` are ours. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** A text is sent as UTF-8. */
  readonly body: string | Uint8Array;
  /** Messages of one key keep their order where `ordered: 'key'`. */
  readonly key?: string | undefined;
}

/** What brokers store, carry and hand over: headers are there, the body is bytes. */
export interface RawMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly key?: string;
}

/** Headers that dead letters carry; the server writes them as fields of the same names. */
export const deadLetterHeaders = deadLetterFields;

/** A message with this header is for one group only; the others acknowledge it unseen. Redriven
 * dead letters carry it, because the other groups have had theirs. */
export const ONLY_GROUP = 'rivulet-only-group';

/** The dead letter of a message: as it was, and from where, why and after how many attempts. */
export function deadLetterMessage(
  origin: { readonly topic: string; readonly id: string; readonly message: RawMessage },
  group: string | null,
  attempts: number,
  reason: string,
  time: number,
): RawMessage {
  const { [ONLY_GROUP]: _, ...headers } = origin.message.headers;
  return {
    ...origin.message,
    headers: {
      ...headers,
      [deadLetterHeaders.topic]: origin.topic,
      [deadLetterHeaders.group]: group ?? '',
      [deadLetterHeaders.id]: origin.id,
      [deadLetterHeaders.reason]: reason,
      [deadLetterHeaders.attempts]: String(attempts),
      [deadLetterHeaders.time]: new Date(time).toISOString(),
    },
  };
}

/** The message that a dead letter was made of, addressed to the group that could not handle it. */
export function redrivenMessage(dead: RawMessage): { topic: string | null; message: RawMessage } {
  const headers: Record<string, string> = {};
  const ours = new Set<string>(Object.values(deadLetterHeaders));
  for (const [name, value] of Object.entries(dead.headers)) {
    if (!ours.has(name)) headers[name] = value;
  }
  const group = dead.headers[deadLetterHeaders.group];
  if (group) headers[ONLY_GROUP] = group;
  return {
    topic: dead.headers[deadLetterHeaders.topic] ?? null,
    message: { ...dead, headers },
  };
}
