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
        // A replacer is called for every key: most values need none.
        const text = isPlain(json, 0) ? JSON.stringify(json) : JSON.stringify(json, replacer);
        // Functions and symbols have no JSON form.
        if (text === undefined) throw new TypeError(`a ${typeof json} has no JSON form`);
        return Buffer.from(text, 'utf8');
      } catch (cause) {
        throw new RivuletError('VALIDATION_FAILED', `no JSON form: ${reasonOf(cause)}`, { cause });
      }
    },
    decode(bytes: Uint8Array, type?: MessageType | null): unknown {
      if (bytes.length === 0) return type ? type.fromJson({}) : undefined;
      let json: unknown;
      try {
        json = JSON.parse(textOf(bytes));
      } catch (cause) {
        throw new RivuletError('DECODING_FAILED', `not JSON: ${reasonOf(cause)}`, { cause });
      }
      return type ? type.fromJson(json) : json;
    },
  };
}

const EMPTY = new Uint8Array(0);

/** How deep is looked; what is deeper is written with the replacer. */
const MAX_DEPTH = 20;

/** Whether JSON.stringify alone writes the value as the replacer would. */
function isPlain(value: unknown, depth: number): boolean {
  if (typeof value !== 'object') return typeof value !== 'bigint';
  if (value === null) return true;
  // A toJSON could give anything, also one of a list.
  if (depth === MAX_DEPTH || (value as { toJSON?: unknown }).toJSON !== undefined) return false;
  if (Array.isArray(value)) {
    for (const each of value) if (!isPlain(each, depth + 1)) return false;
    return true;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  const own = value as Record<string, unknown>;
  for (const key in own) if (!isPlain(own[key], depth + 1)) return false;
  return true;
}

function replacer(this: unknown, key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  // A Buffer has already been turned into an object by its toJSON: look at the holder's own value.
  const own = (this as Record<string, unknown>)[key];
  if (own instanceof Uint8Array) return Buffer.from(own).toString('base64');
  return value;
}

/**
 * Throws for what is not UTF-8. A Buffer is decoded twice as fast as by a TextDecoder, which is asked
 * only where the result may hide an error: a replacement character, or a byte order mark.
 */
function textOf(bytes: Uint8Array): string {
  if (!(bytes instanceof Buffer)) return decoder.decode(bytes);
  const text = bytes.toString('utf8');
  const isSure = text.charCodeAt(0) !== BYTE_ORDER_MARK && !text.includes(REPLACEMENT);
  return isSure ? text : decoder.decode(bytes);
}

const BYTE_ORDER_MARK = 0xfeff;
const REPLACEMENT = '\ufffd';

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
