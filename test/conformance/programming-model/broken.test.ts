/**
 * The cases of the suites of codecs, selectors and calls can fail: for each promise there is an
 * implementation that breaks it, and the case that says so notices.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Codec } from '../../../src/codec/codec.ts';
import { jsonCodec } from '../../../src/codec/json.ts';
import { type CodecFixture, codecCases } from '../../../src/conformance/codec/suite.ts';
import type { FixtureCase } from '../../../src/conformance/register-cases.ts';
import { rpcCases } from '../../../src/conformance/rpc/suite.ts';
import { type SelectorFixture, selectorCases } from '../../../src/conformance/selector/suite.ts';
import type { ServiceNode } from '../../../src/registry/registry.ts';
import type { Selector } from '../../../src/selector/selector.ts';
import { consistentHash, random } from '../../../src/selector/strategies.ts';
import { LocalTransport } from '../../../src/transport/local/local.ts';
import {
  CallError,
  type Channel,
  NO_METADATA,
  type OutgoingCall,
  type Reply,
} from '../../../src/transport/transport.ts';
import { codecFixtures, rpcFixture, selectorFixture } from './fixtures.ts';

const shared = new Uint8Array(1_000_000);
const codecBreakages: Readonly<Record<string, Partial<Codec>>> = {
  'a value comes back as it was': { decode: () => ({}) },
  'values made at random come back as they were': {
    decode: (bytes) => withoutNull(jsonCodec.decode(bytes)),
  },
  'a message has its own bytes: the next one does not change it': {
    encode(value) {
      const bytes = jsonCodec.encode(value);
      shared.set(bytes);
      return shared.subarray(0, bytes.length);
    },
  },
  'a value is the same after it was encoded': {
    encode(value) {
      const bytes = jsonCodec.encode(value);
      if (typeof value === 'object' && value !== null) Object.assign(value, { seen: true });
      return bytes;
    },
  },
  'bytes are the same after they were decoded': {
    decode(bytes) {
      const value = jsonCodec.decode(bytes);
      if (bytes.length > 0) bytes[0] = 32;
      return value;
    },
  },
  'a message may lie in the middle of other bytes': {
    decode: (bytes) => jsonCodec.decode(new Uint8Array(bytes.buffer.slice(0, bytes.length))),
  },
  'a value that the form does not carry is VALIDATION_FAILED': {
    encode: (value) => Buffer.from(JSON.stringify(value) ?? 'null'),
  },
  'malformed bytes are DECODING_FAILED': { decode: () => null },
  'random and damaged bytes give a value or DECODING_FAILED, and no other error': {
    decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()),
  },
  'its content types are media types in lower case, each once': {
    contentTypes: ['Application/JSON'],
  },
};

function withoutNull(value: unknown): unknown {
  return value === null ? 0 : Array.isArray(value) ? value.map(withoutNull) : value;
}

proves('codec', codecCases, codecBreakages, {
  sound: codecFixtures.json as () => Promise<CodecFixture>,
  broken: async (breakage) => {
    const fixture = await (codecFixtures.json as () => Promise<CodecFixture>)();
    // Own values: what a broken codec does to them must not reach the next case.
    const values = structuredClone(fixture.values);
    return { ...fixture, values, codec: { ...jsonCodec, ...breakage } };
  },
});

type Breaks = (sound: Selector) => Partial<Selector>;
const always = (sound: Selector, index: number): Partial<Selector> => ({
  async select(service, options) {
    const next = await sound.select(service, options);
    return () => chosen(next, (nodes) => nodes[index % nodes.length] as ServiceNode);
  },
});

/** Looks at every node that `next` knows and takes one of them. */
function chosen(next: () => ServiceNode, choose: (nodes: ServiceNode[]) => ServiceNode) {
  const seen = new Map<string, ServiceNode>();
  for (let n = 0; n < 50; n++) {
    const node = next();
    seen.set(node.id, node);
  }
  return choose([...seen.values()].sort((a, b) => (a.id < b.id ? -1 : 1)));
}

const selectorBreakages: Readonly<Record<string, Breaks>> = {
  'a service without nodes is SERVICE_NOT_FOUND': () => ({
    select: async () => () => ({ id: 'x', address: 'x:1', metadata: {} }),
  }),
  'every node gets its share, within four standard deviations': (sound) => always(sound, 0),
  'the next attempt of a call goes to another node while there is one': (sound) => always(sound, 0),
  'a node that could not be reached is passed over, and comes back': () => ({ mark() {} }),
  'when every node is passed over, all are tried again': (sound) => {
    let lost = 0;
    return {
      mark(service, node, outcome) {
        if (outcome.result === 'unreachable') lost++;
        sound.mark(service, node, outcome);
      },
      async select(service, options) {
        if (lost > 2) throw new Error('no node is left');
        return sound.select(service, options);
      },
    };
  },
  'an outcome that says nothing of the node changes nothing': (sound) => ({
    mark: (service, node, outcome) =>
      sound.mark(service, node, outcome.result === 'none' ? { result: 'unreachable' } : outcome),
  }),
  'filters leave the nodes that fit, and UNAVAILABLE where they leave none': (sound) => ({
    select: (service) => sound.select(service),
  }),
  'a node that registers gets calls, and one that leaves gets none': (sound) => {
    let first: (() => ServiceNode) | null = null;
    return {
      async select(service, options) {
        first ??= await sound.select(service, options);
        return first;
      },
    };
  },
  'a key stays on its node': (sound) => ({ select: (service) => sound.select(service) }),
  'what it selects at once is among the same nodes, and marked alike': () => ({
    selectNow: () => null,
  }),
};

proves('selector', selectorCases, selectorBreakages, {
  sound: async (name) =>
    selectorFixture(name === 'a key stays on its node' ? consistentHash : random),
  broken: async (breaks, name): Promise<SelectorFixture> => {
    const keyed = name === 'a key stays on its node';
    const fixture = selectorFixture(keyed ? consistentHash : random);
    const sound = fixture.selector;
    const selector: Selector = {
      name: sound.name,
      select: (service, options) => sound.select(service, options),
      selectNow: (service, options) => sound.selectNow?.(service, options) ?? null,
      mark: (service, node, outcome) => sound.mark(service, node, outcome),
      reset: (service) => sound.reset(service),
      close: () => sound.close(),
      ...breaks(sound),
    };
    return { ...fixture, selector };
  },
});

type Request = (call: OutgoingCall, sound: Channel) => Promise<Reply>;
const withoutDeadline: Request = (call, sound) => sound.request({ ...call, timeoutMs: null });
const withoutSignal: Request = (call, sound) => {
  const { signal } = call;
  const reply = sound.request({ ...call, signal: null });
  if (signal === null) return reply;
  const aborted = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  return Promise.race([reply, aborted]);
};
let earlier: Reply | null = null;

const rpcBreakages: Readonly<Record<string, Request>> = {
  'a request and its reply arrive whole, once': async (call, sound) => {
    await sound.request(call);
    return sound.request(call);
  },
  'many calls at once each get their own reply': async (call, sound) => {
    const reply = await sound.request(call);
    earlier ??= reply;
    return earlier;
  },
  'metadata arrives both ways, whatever the case of its names': async (call, sound) => {
    const reply = await sound.request(call);
    return { ...reply, metadata: NO_METADATA };
  },
  'what a handler throws arrives with its text and without its stack, after one run': async (
    call,
    sound,
  ) => {
    await sound.request(call).catch(() => {});
    return sound.request(call);
  },
  'the code of an error that a handler throws arrives': (call, sound) =>
    sound.request(call).catch((error) => {
      throw error instanceof CallError
        ? new CallError({ ...error.failure, code: 'INTERNAL' })
        : error;
    }),
  'an endpoint that no node has is METHOD_NOT_FOUND, and provably ran no handler': (call, sound) =>
    sound.request(call).catch((error) => {
      throw error instanceof CallError ? new CallError({ ...error.failure, sent: 'maybe' }) : error;
    }),
  'a call ends at its deadline, for the caller and for the handler': (call, sound) =>
    sound.request({ ...call, timeoutMs: 20 }),
  'a nested call has what is left of the deadline of its cause': withoutDeadline,
  'a caller that aborts gets ABORTED, and the signal of the handler is aborted': withoutSignal,
  'of a call and its hedge one answers and the other is cancelled': withoutSignal,
};

/** The local transport with one way of its channels broken. */
class BrokenTransport extends LocalTransport {
  readonly #request: Request;

  constructor(request: Request) {
    super();
    this.#request = request;
  }

  override async dial(node: ServiceNode): Promise<Channel> {
    const sound = await super.dial(node);
    return {
      get load() {
        return sound.load;
      },
      request: (call) => this.#request(call, sound),
      call: (call) => sound.call(call),
      close: (drainMs) => sound.close(drainMs),
    };
  }
}

const able = { hasStreams: true, hasCancel: true } as const;
proves(
  'calls',
  rpcCases.filter(({ uses }) => uses?.includes('hasStreams') !== true),
  rpcBreakages,
  {
    sound: async () => rpcFixture({ transport: 'local' }, able),
    broken: async (request) => rpcFixture({ transport: new BrokenTransport(request) }, able),
  },
);

/** Every case passes on a sound implementation and fails on the one that breaks its promise. */
function proves<Fixture, Breakage>(
  suite: string,
  cases: readonly FixtureCase<Fixture>[],
  breakages: Readonly<Record<string, Breakage>>,
  make: {
    sound(name: string): Promise<Fixture>;
    broken(breakage: Breakage, name: string): Promise<Fixture>;
  },
): void {
  test(`${suite}: every case has an implementation that breaks its promise`, () => {
    assert.deepEqual(Object.keys(breakages).sort(), cases.map(({ name }) => name).sort());
  });
  for (const each of cases) {
    test(`${suite}: broken is noticed by "${each.name}"`, { timeout: 60_000 }, async () => {
      const sound = await outcome(each, await make.sound(each.name));
      assert.equal(sound, null, 'the case passes on a sound implementation');
      const breakage = breakages[each.name] as Breakage;
      const broken = await outcome(each, await make.broken(breakage, each.name));
      assert.notEqual(broken, null, 'the case fails on the broken implementation');
    });
  }
}

/** Why the case failed; null when it passed. */
async function outcome<Fixture>(each: FixtureCase<Fixture>, fixture: Fixture): Promise<unknown> {
  try {
    await each.run(fixture);
    return null;
  } catch (error) {
    return error;
  } finally {
    await (fixture as Partial<AsyncDisposable>)[Symbol.asyncDispose]?.();
  }
}
