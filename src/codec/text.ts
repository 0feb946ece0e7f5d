/**
 * Text: a string as UTF-8.
 *
 * Invariant: bytes that are not UTF-8 are DECODING_FAILED, not replaced. Cost: one copy.
 */
import { RivuletError } from '../errors.ts';
import type { Codec } from './codec.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Half of a surrogate pair: UTF-8 has no form for it. */
const LONE_SURROGATE = /\p{Surrogate}/u;

export const textCodec: Codec = {
  name: 'text',
  contentTypes: ['text/plain'],
  encode(value) {
    if (typeof value !== 'string') {
      throw new RivuletError('VALIDATION_FAILED', `text needs a string, not ${typeof value}`);
    }
    if (LONE_SURROGATE.test(value)) {
      throw new RivuletError('VALIDATION_FAILED', 'the string holds half of a surrogate pair');
    }
    return encoder.encode(value);
  },
  decode(bytes) {
    try {
      return decoder.decode(bytes);
    } catch (cause) {
      throw new RivuletError('DECODING_FAILED', 'the bytes are not UTF-8', { cause });
    }
  },
};
