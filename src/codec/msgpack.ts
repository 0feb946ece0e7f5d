/**
 * MessagePack, by msgpackr; loaded when a service asks for it.
 *
 * Form: plain MessagePack of any implementation (no records extension); int64 beyond 2^53 is a
 * bigint; a Date uses MessagePack's timestamp extension. Decoding is bounded: msgpackr checks lengths
 * against the bytes that are there. Cost: one pass.
 */
import { C1, Packr } from 'msgpackr';
import { RivuletError } from '../errors.ts';
import type { Codec } from './codec.ts';

const packr = new Packr({
  useRecords: false,
  mapsAsObjects: true,
  int64AsType: 'auto' as 'bigint',
});

export const msgpackCodec: Codec = {
  name: 'msgpack',
  contentTypes: ['application/msgpack', 'application/x-msgpack', 'application/vnd.msgpack'],
  encode(value) {
    try {
      // The packer reuses its buffer: what leaves must not change under the transport.
      return Uint8Array.from(packr.pack(value === undefined ? null : value));
    } catch (cause) {
      throw new RivuletError('VALIDATION_FAILED', 'the value has no MessagePack form', { cause });
    }
  },
  decode(bytes) {
    try {
      const value = packr.unpack(bytes);
      // 0xc1 is the one byte that MessagePack never uses; msgpackr returns its own constant for it.
      if (bytes.includes(0xc1) && holdsC1(value, 0))
        throw new TypeError('the byte c1 has no meaning');
      return value;
    } catch (cause) {
      throw new RivuletError('DECODING_FAILED', 'the bytes are not MessagePack', { cause });
    }
  },
};

const MAX_DEPTH = 1000;

function holdsC1(value: unknown, depth: number): boolean {
  if ((value as unknown) === C1) return true;
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return false;
  if (depth > MAX_DEPTH) return false;
  return Object.values(value).some((each) => holdsC1(each, depth + 1));
}
