/**
 * BSON, by MongoDB's own library; loaded when a service asks for it.
 *
 * Form: a document. A value that is none (a number, a list, text) travels as `{ "": value }`, because
 * BSON has no form for it. int64 is a bigint. Cost: one pass, and a check of every length.
 */
import { deserialize, serialize } from 'bson';
import { RivuletError } from '../errors.ts';
import type { Codec } from './codec.ts';

export const bsonCodec: Codec = {
  name: 'bson',
  contentTypes: ['application/bson'],
  encode(value) {
    try {
      const document = isDocument(value) ? value : { [WRAPPED]: value };
      return serialize(document, { ignoreUndefined: true });
    } catch (cause) {
      throw new RivuletError('VALIDATION_FAILED', 'the value has no BSON form', { cause });
    }
  },
  decode(bytes) {
    let document: Record<string, unknown>;
    try {
      document = deserialize(bytes, {
        useBigInt64: true,
        promoteBuffers: true,
        validation: { utf8: true },
      });
    } catch (cause) {
      throw new RivuletError('DECODING_FAILED', 'the bytes are not BSON', { cause });
    }
    const keys = Object.keys(document);
    return keys.length === 1 && keys[0] === WRAPPED ? document[WRAPPED] : document;
  },
};

const WRAPPED = '';

function isDocument(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  if (Array.isArray(value) || value instanceof Uint8Array || value instanceof Date) return false;
  const keys = Object.keys(value);
  return !(keys.length === 1 && keys[0] === WRAPPED);
}
