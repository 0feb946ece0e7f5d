/**
 * The form of calls within one process: the value itself, copied but never turned into bytes.
 *
 * Its "bytes" are the copy, typed as bytes because transports carry bodies without looking at them;
 * only the local transport carries this form. Invariants: what the receiver changes, the sender does
 * not see; a protobuf message arrives as its bytes would, checked and with its zeros; with `share` nothing is copied and both must leave the value alone. Values that cannot be
 * copied (functions) are VALIDATION_FAILED. Cost: one walk over the value.
 */
import { RivuletError } from '../errors.ts';
import { errorText } from '../util/error-text.ts';
import type { Codec, MessageType } from './codec.ts';

/** Stands for null on its way: a call whose body is null has no body yet. */
const NULL = Object.freeze({});

function orNull(value: unknown): unknown {
  return value === null ? NULL : value;
}

function fromBody(body: unknown): unknown {
  return body === NULL ? null : body;
}

/** A copy that shares nothing with the value. */
export function copyOf(value: unknown): unknown {
  return copy(value);
}

/** Values are copied on their way. */
export const copyCodec: Codec = {
  name: 'value',
  contentTypes: ['application/x-rivulet-value'],
  encode: (value, type) =>
    orNull(type?.copy === undefined ? copy(value) : typed(value, type)) as Uint8Array,
  decode: (bytes, type) => {
    const value = fromBody(bytes);
    // A sender that knows the type has checked and copied already; an untyped caller has not.
    if (type?.copy === undefined || fitted.has(value as object)) return value;
    return type.copy(value);
  },
};

/** Messages that their sender made to fit their type. */
const fitted = new WeakSet<object>();

function typed(value: unknown, type: MessageType): unknown {
  const made = type.copy!(value);
  if (typeof made === 'object' && made !== null) fitted.add(made);
  return made;
}

/** Both sides have the same object: neither may change it. */
export const shareCodec: Codec = {
  name: 'shared-value',
  contentTypes: ['application/x-rivulet-shared-value'],
  encode: (value) => orNull(value) as Uint8Array,
  decode: fromBody,
};

const MAX_DEPTH = 200;
/**
 * Objects that are copied by hand. A value that refers to the same objects by many ways, in a loop or not,
 * would be copied once for each way: what is larger than this is left to structuredClone, which copies
 * each object once.
 */
const MAX_OBJECTS = 100_000;
const TOO_LARGE = Symbol('too deep, or too many objects');
let objects = 0;

function copy(value: unknown): unknown {
  try {
    objects = 0;
    return copyPlain(value, 0);
  } catch (error) {
    if (error === TOO_LARGE) return cloned(value);
    throw uncopied(error);
  }
}

function cloned(value: unknown): unknown {
  try {
    return structuredClone(value);
  } catch (error) {
    throw uncopied(error);
  }
}

function uncopied(cause: unknown): RivuletError {
  const text = `the value cannot be copied to the other side of the call: ${errorText(cause)}`;
  return new RivuletError('VALIDATION_FAILED', text, { cause });
}

/** Plain objects and lists by hand, which is several times faster; all else by structuredClone. */
function copyPlain(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) {
    return typeof value === 'function' || typeof value === 'symbol'
      ? structuredClone(value)
      : value;
  }
  if (depth > MAX_DEPTH || ++objects > MAX_OBJECTS) throw TOO_LARGE;
  if (Array.isArray(value)) return value.map((each) => copyPlain(each, depth + 1));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return structuredClone(value);
  const made: Record<string, unknown> = prototype === null ? Object.create(null) : {};
  const source = value as Record<string, unknown>;
  for (const key of Object.keys(source)) {
    const each = copyPlain(source[key], depth + 1);
    // An own key of this name must not become the prototype.
    if (key === '__proto__') Object.defineProperty(made, key, { ...DATA, value: each });
    else made[key] = each;
  }
  return made;
}

const DATA = { writable: true, enumerable: true, configurable: true } as const;
