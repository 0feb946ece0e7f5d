/**
 * MessagePack, by msgpackr; loaded when a service asks for it.
 *
 * Form: plain MessagePack of any implementation (no records extension); int64 beyond 2^53 is a
 * bigint; a Date uses MessagePack's timestamp extension. Decoding is bounded: msgpackr checks lengths
 * against the bytes that are there. Cost: one pass.
 */
import { Packr } from 'msgpackr';
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
      return packr.unpack(bytes);
    } catch (cause) {
      throw new RivuletError('DECODING_FAILED', 'the bytes are not MessagePack', { cause });
    }
  },
};
