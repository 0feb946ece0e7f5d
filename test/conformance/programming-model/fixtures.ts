/** Fixtures of the suites of codecs, selectors and calls, for every implementation of ours. */

import { Codecs } from '../../../src/codec/by-content-type.ts';
import { protoType } from '../../../src/codec/proto/proto-types.ts';
import { protobufjs } from '../../../src/codec/proto/protobufjs.ts';
import type { CodecFixture } from '../../../src/conformance/codec/suite.ts';
import type { RpcFixture } from '../../../src/conformance/rpc/suite.ts';
import type { SelectorFixture } from '../../../src/conformance/selector/suite.ts';
import { MemoryRegistry } from '../../../src/registry/memory.ts';
import { RegistrySelector } from '../../../src/selector/registry-selector.ts';
import type { Strategy } from '../../../src/selector/selector.ts';
import type { ServiceOptions } from '../../../src/service/options/options.ts';
import { createService, type Service } from '../../../src/service/service.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';

const codecs = new Codecs();
const bytesOf = (text: string) => new TextEncoder().encode(text);
const structured = [
  { a: 1, b: [true, null, 'ä漢🚀'], c: { d: { e: -1.5 } } },
  { empty: {}, list: [] },
  { text: 'x'.repeat(100_000) },
  { text: '\u0000\r\n"\\' },
];
const cut = (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 1);

export const codecFixtures: Readonly<Record<string, () => Promise<CodecFixture>>> = {
  json: async () => ({
    codec: await codecs.load('json'),
    values: [...structured, 'text', 7, false, null, [1, [2]]],
    make: someValue,
    refused: [() => 1, Symbol('no'), loop()],
    malformed: ['{', '{"a":', '"', '[1,', 'nul', '{"a":1}}'].map(bytesOf),
  }),
  msgpack: async () => {
    const codec = await codecs.load('msgpack');
    const malformed = [cut(codec.encode(structured[0])), new Uint8Array([0xc1])];
    return { codec, values: [...structured, 'text', 7, [1, [2]]], make: someValue, malformed };
  },
  bson: async () => {
    const codec = await codecs.load('bson');
    const make = (fraction: () => number) => ({ value: someValue(fraction) });
    return { codec, values: structured, make, malformed: [cut(codec.encode(structured[0]))] };
  },
  text: async () => ({
    codec: await codecs.load('text'),
    values: ['', 'text', 'ä漢🚀', 'x'.repeat(100_000)],
    malformed: [new Uint8Array([0xff, 0xfe, 0xfd])],
  }),
  bytes: async () => ({
    codec: await codecs.load('bytes'),
    values: [new Uint8Array(0), new Uint8Array([0, 255, 128]), new Uint8Array(100_000)],
  }),
  proto: async () => {
    const { root } = protobufjs().parse(
      'syntax = "proto3"; message M { string text = 1; int32 n = 2; repeated M more = 3; }',
    );
    const leaf = { text: 'ä漢🚀', n: -1, more: [] };
    return {
      codec: await codecs.load('proto'),
      type: protoType(root.lookupType('M')),
      values: [leaf, { text: 'x'.repeat(10_000), n: 2 ** 31 - 1, more: [leaf, leaf] }],
      refused: [{ n: 'text' }, { text: 7 }],
      malformed: [new Uint8Array([0x0a, 0x05, 0x41]), new Uint8Array([0xff])],
    };
  },
};

function someValue(fraction: () => number, depth = 0): unknown {
  const kind = Math.floor(fraction() * (depth > 3 ? 4 : 6));
  const text = () => Math.floor(fraction() * 1e9).toString(36);
  if (kind === 0) return text();
  if (kind === 1) return Math.floor((fraction() - 0.5) * 2 ** 31);
  if (kind === 2) return fraction() < 0.5;
  if (kind === 3) return null;
  const items = Array.from({ length: Math.floor(fraction() * 4) }, () =>
    someValue(fraction, depth + 1),
  );
  return kind === 4 ? items : Object.fromEntries(items.map((item) => [`k${text()}`, item]));
}

function loop(): unknown {
  const value: Record<string, unknown> = {};
  value.self = value;
  return value;
}

export function selectorFixture(strategy: Strategy): SelectorFixture {
  const scheduler = new VirtualScheduler(3);
  const registry = new MemoryRegistry(scheduler);
  const selector = new RegistrySelector(registry, { strategy, scheduler });
  return {
    selector,
    registry,
    advance: async (ms) => {
      await scheduler.advance(ms);
      await scheduler.settle();
    },
    isFair: true,
    ...(strategy.name === 'consistent-hash' ? { keepsKeys: true as const } : {}),
    async [Symbol.asyncDispose]() {
      await selector.close();
    },
  };
}

/** Services of one registry, over one transport. */
export function rpcFixture(
  options: ServiceOptions,
  can: Pick<RpcFixture, 'hasStreams' | 'hasCancel'>,
): RpcFixture {
  const registry = new MemoryRegistry();
  const made: Service[] = [];
  return {
    ...can,
    service(name) {
      const own = { environment: false, args: false, drainTimeoutMs: 0 } as const;
      const service = createService({ ...own, registry, ...options, name });
      made.push(service);
      return service;
    },
    async [Symbol.asyncDispose]() {
      for (const service of made.reverse()) await service.stop();
    },
  };
}
