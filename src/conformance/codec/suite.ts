/**
 * The suite that says which codecs conform: values come back, wrong bytes are errors, nothing is kept.
 *
 * Give it a test runner and a factory of fixtures: a codec, values that its form carries, and values
 * that it does not. Random cases go by a fixed seed, so that a failure comes back.
 */
import assert from 'node:assert/strict';
import type { Codec, MessageType } from '../../codec/codec.ts';
import { RivuletError } from '../../errors.ts';
import { type CaseSetup, type FixtureCase, registerCases } from '../register-cases.ts';

export interface CodecFixture {
  readonly codec: Codec;
  /** Values that the form carries, at least one. */
  readonly values: readonly unknown[];
  /** The type of every value, for a codec that needs one. */
  readonly type?: MessageType;
  /** Values that the form does not carry. */
  readonly refused?: readonly unknown[];
  /** A value that the form carries, made from numbers in [0, 1). */
  readonly make?: (fraction: () => number) => unknown;
  /** Bytes that are no message of the form. */
  readonly malformed?: readonly Uint8Array[];
}

const RANDOM_VALUES = 300;
const RANDOM_BYTES = 2000;

export const codecCases: readonly FixtureCase<CodecFixture>[] = [
  {
    name: 'a value comes back as it was',
    run({ codec, type, values }) {
      for (const value of values) assertSame(codec.decode(codec.encode(value, type), type), value);
    },
  },
  {
    name: 'values made at random come back as they were',
    uses: ['make'],
    run({ codec, type, make }) {
      const fraction = fractions(7);
      for (let count = 0; count < RANDOM_VALUES; count++) {
        const value = make?.(fraction);
        assertSame(codec.decode(codec.encode(value, type), type), value);
      }
    },
  },
  {
    name: 'a message has its own bytes: the next one does not change it',
    run({ codec, type, values }) {
      const kept = values.map((value) => {
        const message = codec.encode(value, type);
        assert.ok(message instanceof Uint8Array, 'a message is a Uint8Array');
        return { message, before: Uint8Array.from(message) };
      });
      for (let round = 0; round < 20; round++) for (const each of values) codec.encode(each, type);
      for (const { message, before } of kept) assert.deepEqual(Uint8Array.from(message), before);
    },
  },
  {
    name: 'a value is the same after it was encoded',
    run({ codec, type, values }) {
      const before = values.map((value) => structuredClone(value));
      for (const value of values) codec.encode(value, type);
      for (const [at, value] of values.entries()) assertSame(value, before[at]);
    },
  },
  {
    name: 'bytes are the same after they were decoded',
    run({ codec, type, values }) {
      for (const value of values) {
        const message = codec.encode(value, type);
        const before = Uint8Array.from(message);
        assertSame(codec.decode(message, type), codec.decode(message, type));
        assert.deepEqual(Uint8Array.from(message), before);
      }
    },
  },
  {
    name: 'a message may lie in the middle of other bytes',
    run({ codec, type, values }) {
      for (const value of values) {
        const message = codec.encode(value, type);
        const around = new Uint8Array(message.length + 20).fill(0xa5);
        around.set(message, 10);
        const inside = around.subarray(10, 10 + message.length);
        assertSame(codec.decode(inside, type), value);
      }
    },
  },
  {
    name: 'a value that the form does not carry is VALIDATION_FAILED',
    uses: ['refused'],
    run({ codec, type, refused }) {
      for (const value of refused ?? []) {
        assert.throws(() => codec.encode(value, type), isError('VALIDATION_FAILED'));
      }
    },
  },
  {
    name: 'malformed bytes are DECODING_FAILED',
    uses: ['malformed'],
    run({ codec, type, malformed }) {
      for (const bytes of malformed ?? []) {
        assert.throws(() => codec.decode(bytes, type), isError('DECODING_FAILED'));
      }
    },
  },
  {
    name: 'random and damaged bytes give a value or DECODING_FAILED, and no other error',
    run({ codec, type, values }) {
      const fraction = fractions(11);
      const messages = values.map((value) => codec.encode(value, type));
      for (let count = 0; count < RANDOM_BYTES; count++) {
        const bytes = damaged(messages[count % messages.length] as Uint8Array, fraction);
        try {
          codec.decode(bytes, type);
        } catch (error) {
          isError('DECODING_FAILED')(error);
        }
      }
    },
  },
  {
    name: 'its content types are media types in lower case, each once',
    run({ codec }) {
      assert.ok(codec.name.length > 0 && codec.contentTypes.length > 0);
      assert.equal(new Set(codec.contentTypes).size, codec.contentTypes.length);
      for (const type of codec.contentTypes) assert.match(type, /^[a-z0-9.+-]+\/[a-z0-9.+-]+$/);
    },
  },
];

export function codecConformance(setup: CaseSetup<CodecFixture>): void {
  registerCases({ ...setup, name: `${setup.name} codec` }, codecCases);
}

/** Equal by value: some codecs give null-prototype objects or a Buffer for bytes. */
function assertSame(found: unknown, wanted: unknown): void {
  assert.deepEqual(plain(found), plain(wanted));
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('hex') };
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

function isError(code: string) {
  return (error: unknown) => {
    assert.ok(error instanceof RivuletError, `${String(error)} is no RivuletError`);
    assert.equal(error.code, code);
    return true;
  };
}

/** A message cut short, with bytes changed, or replaced by random ones. */
function damaged(message: Uint8Array, fraction: () => number): Uint8Array {
  const below = (most: number) => Math.floor(fraction() * most);
  const kind = below(3);
  if (kind === 0) return message.slice(0, below(message.length));
  const bytes = kind === 1 ? Uint8Array.from(message) : new Uint8Array(below(64));
  const changes = kind === 1 ? 1 + below(4) : bytes.length;
  for (let change = 0; change < changes && bytes.length > 0; change++) {
    bytes[kind === 1 ? below(bytes.length) : change] = below(256);
  }
  return bytes;
}

/** Mulberry32: the same numbers for the same seed. */
function fractions(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
