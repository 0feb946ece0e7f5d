/**
 * Bytes: the body as it is. go-micro calls its value a Frame.
 *
 * Invariant: neither direction copies; the receiver owns the bytes that the transport gave it.
 */
import { RivuletError } from '../errors.ts';
import type { Codec } from './codec.ts';

export const bytesCodec: Codec = {
  name: 'bytes',
  contentTypes: ['application/octet-stream', 'application/grpc+bytes'],
  encode(value) {
    if (value instanceof Uint8Array) return value;
    throw new RivuletError('VALIDATION_FAILED', `bytes needs a Uint8Array, not ${typeof value}`);
  },
  decode(bytes) {
    return bytes;
  },
};
