/** A message as brokers store it, of one that a caller gives. */
import type { Message, RawMessage } from '../../broker/message/message.ts';

export function rawMessage({ headers, body, key }: Message): RawMessage {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  return { headers: headers ?? {}, body: bytes, ...(key === undefined ? {} : { key }) };
}
