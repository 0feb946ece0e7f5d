/**
 * Values as bytes and back: what DUMP, RESTORE and COPY share.
 *
 * Layout: type (u8: 1 string), then the value; a string's bytes fill the rest.
 */
import type { Engine } from './engine.ts';
import type { Value } from './key-entry.ts';

const STRING = 1;

export function encodeValue(_engine: Engine, value: Value): Buffer {
  if (value.type !== 'string') throw new RangeError('streams cannot be encoded yet');
  return Buffer.concat([Buffer.of(STRING), value.bytes]);
}

/** Throws RangeError where the bytes are no value. */
export function decodeValue(_engine: Engine, payload: Uint8Array): Value {
  if (payload.length === 0 || payload[0] !== STRING) throw new RangeError('unknown type of value');
  return { type: 'string', bytes: Buffer.from(payload.subarray(1)) };
}

export function cloneValue(engine: Engine, value: Value): Value {
  if (value.type === 'string') return { type: 'string', bytes: value.bytes };
  return decodeValue(engine, encodeValue(engine, value));
}
