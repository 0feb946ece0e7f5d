/**
 * JSON: the default codec. Plain values without a type, protobuf's JSON mapping with one.
 *
 * Rules without a type: `undefined` becomes no bytes and no bytes become `undefined`; a bigint is
 * written as a decimal string, as protobuf's JSON mapping writes int64; a Uint8Array as base64.
 * Own keys named `__proto__` are kept as data and change no prototype (JSON.parse's behaviour).
 * Cost: one JSON.parse or JSON.stringify.
 */
import { RivuletError } from '../errors.ts';
import type { Codec, MessageType } from './codec.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

export const jsonCodec: Codec = createJsonCodec('camel');

/** `names`: field names of protobuf messages; go-micro's servers write `proto`, its clients `camel`. */
export function createJsonCodec(names: 'proto' | 'camel'): Codec {
  return {
    name: 'json',
    contentTypes: ['application/json', 'application/grpc+json', 'application/json-rpc'],
    encode(value: unknown, type?: MessageType | null): Uint8Array {
      if (value === undefined && !type) return EMPTY;
      const json = type ? type.toJson(value, names) : value;
      try {
        const text = JSON.stringify(json, replacer);
        // Functions and symbols have no JSON form.
        if (text === undefined) throw new TypeError(`a ${typeof json} has no JSON form`);
        return encoder.encode(text);
      } catch (cause) {
        throw new RivuletError('VALIDATION_FAILED', `no JSON form: ${textOf(cause)}`, { cause });
      }
    },
    decode(bytes: Uint8Array, type?: MessageType | null): unknown {
      if (bytes.length === 0) return type ? type.fromJson({}) : undefined;
      let json: unknown;
      try {
        json = JSON.parse(decoder.decode(bytes));
      } catch (cause) {
        throw new RivuletError('DECODING_FAILED', `not JSON: ${textOf(cause)}`, { cause });
      }
      return type ? type.fromJson(json) : json;
    },
  };
}

const EMPTY = new Uint8Array(0);

function replacer(this: unknown, key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  // A Buffer has already been turned into an object by its toJSON: look at the holder's own value.
  const own = (this as Record<string, unknown>)[key];
  if (own instanceof Uint8Array) return Buffer.from(own).toString('base64');
  return value;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
