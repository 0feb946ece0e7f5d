/**
 * Values as bodies: what a typed topic writes and reads.
 *
 * Invariant: a value that has no form is VALIDATION_FAILED before anything is sent, a body that cannot
 * be read is DECODING_FAILED; neither error shows the value. Cost: the codec's own.
 */
import { invalid, shown } from '../../client/option-table.ts';
import { RivuletError } from '../../errors.ts';
import { reasonOf } from '../message/reason.ts';
import type { ReceivedMessage } from '../message/received-message.ts';

export interface ValueCodec<Value> {
  /** Travels in the `Content-Type` header. */
  readonly contentType: string;
  encode(value: Value): Uint8Array;
  decode(bytes: Uint8Array): Value;
}

/** The default of typed topics. */
export const jsonCodec: ValueCodec<unknown> = {
  contentType: 'application/json',
  encode(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`${typeof value} has no form in JSON`);
    return Buffer.from(text);
  },
  decode: (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)),
};

/** What can be read of a delivery, a request or a reply. */
export type Readable = Pick<ReceivedMessage, 'json' | 'bytes'>;

export function encodeValue(codec: ValueCodec<unknown>, value: unknown, what: string): Uint8Array {
  try {
    return codec.encode(value);
  } catch (cause) {
    const text = `${what} cannot be written as ${codec.contentType}: ${reasonOf(cause)}`;
    throw new RivuletError('VALIDATION_FAILED', text, { cause });
  }
}

export function decodeValue(codec: ValueCodec<unknown>, body: Readable, what: string): unknown {
  // Its errors name the message, and do not quote it.
  if (codec === jsonCodec) return body.json();
  try {
    return codec.decode(body.bytes());
  } catch (cause) {
    if (cause instanceof RivuletError && cause.code === 'DECODING_FAILED') throw cause;
    const text = `${what} cannot be read as ${codec.contentType}: ${reasonOf(cause)}`;
    throw new RivuletError('DECODING_FAILED', text, { cause });
  }
}

export function checkValueCodec(value: unknown, name: string): void {
  const codec = value as Partial<ValueCodec<unknown>> | null;
  const isGood =
    typeof codec === 'object' &&
    codec !== null &&
    typeof codec.contentType === 'string' &&
    typeof codec.encode === 'function' &&
    typeof codec.decode === 'function';
  if (!isGood) {
    throw invalid(`${name} is an object with contentType, encode and decode, not ${shown(value)}`);
  }
}
