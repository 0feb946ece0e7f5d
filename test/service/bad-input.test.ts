/** What callers, handlers and other programs may get wrong, and what is said of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { protoType } from '../../src/codec/proto/proto-types.ts';
import { protobufjs } from '../../src/codec/proto/protobufjs.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { NodeTable } from '../../src/registry/node-table.ts';
import { MAX_RECORD_BYTES, recordFrom } from '../../src/registry/record.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { bidi, clientStream, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { Metadata } from '../../src/rpc/metadata.ts';
import { Server } from '../../src/rpc/server.ts';
import { ServiceError } from '../../src/rpc/service-error.ts';
import { createService } from '../../src/service/service.ts';
import { createTestService } from '../../src/service/testing.ts';
import type { CallFailure, IncomingCall } from '../../src/transport/transport.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const INVALID = { code: 'INVALID_ARGUMENT' };
const BAD_NAMES = ['', '/', 'a/b', 'a b', 'a\nb', 'a\u0000', 'x'.repeat(300), 'é'.repeat(150)];
const own = { environment: false, args: false } as const;

test('a service name that no registry could carry is refused by contract, service and call', async () => {
  await using t = await createTestService();
  for (const name of BAD_NAMES) {
    assert.throws(() => contract(name, {}), INVALID, name);
    assert.throws(() => createService({ ...own, name }), INVALID, name);
    await assert.rejects(t.finish(t.service.call(name, 'A.B')), { ...INVALID, sent: 'no' });
  }
  for (const name of [undefined, null, 7, {}] as never[]) {
    assert.throws(() => contract(name, {}), INVALID);
    await assert.rejects(t.finish(t.service.call(name, 'A.B')), INVALID);
  }
  assert.ok(createService({ ...own, name: 'x'.repeat(255) }));
});

test('an endpoint has exactly one dot', async () => {
  await using t = await createTestService();
  for (const endpoint of [
    '',
    'A',
    '.',
    'A.',
    '.B',
    'A.B.C',
    'A..B',
    'A.B ',
    'A-B.C',
    '__proto__',
  ]) {
    await assert.rejects(t.finish(t.service.call('s', endpoint)), { ...INVALID, sent: 'no' });
    const server = new Server({ name: 's' });
    assert.throws(() => server.add(endpoint, unary(), () => null), INVALID, endpoint);
  }
  assert.throws(() => contract('s', { 'A.B': { C: unary() } }), INVALID);
  assert.throws(() => contract('s', { A: { 'B.C': unary() } }), INVALID);
  assert.throws(() => contract('s', { A: { ['x'.repeat(200)]: unary() } }), INVALID);
});

test('a timeout is a number of milliseconds above 0', async () => {
  await using t = await createTestService();
  for (const timeoutMs of [0, -1, Number.NaN, 2 ** 64, 'abc' as never, -0]) {
    await assert.rejects(t.finish(t.service.call('s', 'A.B', {}, { timeoutMs })), INVALID);
  }
});

test('a deadline that has passed or is no number reaches no handler, or counts as none', () => {
  const clock = new VirtualScheduler();
  let runs = 0;
  const server = new Server({ name: 's', scheduler: clock });
  server.add('A.B', unary(), () => ++runs);
  const dispatch = (timeoutMs: number | null) => {
    let failure: CallFailure | null = null;
    const call: Partial<IncomingCall> = {
      service: 's',
      endpoint: 'A.B',
      kind: 'unary',
      contentType: 'application/json',
      metadata: {},
      timeoutMs,
      peer: { address: 'x' },
      body: Buffer.from('{}'),
      onCancel() {},
      reply() {},
      fail(given) {
        failure = given;
      },
    };
    server.dispatch(call as IncomingCall);
    return failure as CallFailure | null;
  };
  for (const past of [0, -5, Number.NEGATIVE_INFINITY]) {
    const failure = dispatch(past);
    assert.deepEqual([failure?.code, failure?.sent], ['TIMEOUT', 'no']);
  }
  for (const odd of [Number.NaN, 2 ** 64, Number.POSITIVE_INFINITY, null]) {
    assert.equal(dispatch(odd), null);
  }
});

test('a handler may return nothing, throw nothing, never end, or go on after it was cancelled', async () => {
  await using t = await createTestService({ name: 'caller' });
  const Odd = contract('odd', {
    Odd: {
      Nothing: unary<undefined, undefined>(),
      ThrowNull: unary<undefined, undefined>(),
      ThrowText: unary<undefined, undefined>(),
      Never: unary<undefined, undefined>(),
      Function: unary<undefined, unknown>(),
      NoStream: serverStream<undefined, number>(),
      GoesOn: serverStream<undefined, number>(),
      Chat: bidi<number, number>(),
    },
  });
  const odd = t.open({ name: 'odd' });
  let yields = 0;
  let ended = 0;
  odd.handle(Odd, {
    Odd: {
      Nothing: () => undefined,
      ThrowNull: () => {
        throw null;
      },
      ThrowText: () => Promise.reject('just text'),
      Never: () => new Promise<undefined>(() => {}),
      Function: () => () => 1,
      NoStream: () => 5 as never,
      async *GoesOn() {
        try {
          for (;;) {
            yields++;
            yield yields;
            await t.pause(10);
          }
        } finally {
          ended++;
        }
      },
      async *Chat(lines) {
        for await (const line of lines) yield line;
      },
    },
  });
  await odd.start();
  const api = t.service.client(Odd).Odd;
  assert.equal(await t.finish(api.Nothing()), undefined);
  await assert.rejects(t.finish(api.ThrowNull()), { code: 'RESPONDER_FAILED', detail: 'null' });
  await assert.rejects(t.finish(api.ThrowText()), { detail: 'just text' });
  await assert.rejects(t.finish(api.Never()), { code: 'TIMEOUT' });
  await assert.rejects(t.finish(api.Function()), { code: 'VALIDATION_FAILED' });
  await assert.rejects(t.finish(api.NoStream().next()), { code: 'INTERNAL', message: /async \*/ });
  const stream = api.GoesOn();
  await t.finish(stream.next());
  await t.finish(stream.return!());
  await t.advance(1000);
  assert.ok(yields <= 3, `${yields} yields`);
  assert.equal(ended, 1, 'the generator ran its finally block');
  const thrower = (async function* () {
    yield 1;
    throw new Error('the file is gone');
  })();
  const reading = (async () => {
    for await (const _ of api.Chat(thrower));
  })();
  await assert.rejects(t.finish(reading), /the file is gone/);
  assert.equal(odd.server.running, 0);
});

test('an endpoint has one handler, whichever contract asks for it', () => {
  const V1 = contract('users', { UserSrv: { Get: unary<{ id: number }, string>() } });
  const V2 = contract('users', {
    UserSrv: { List: unary<undefined, string[]>(), Get: unary<{ name: string }, string>() },
  });
  const service = createService({ ...own, name: 'users' });
  const handlers = { UserSrv: { Get: () => 'x' } };
  service.handle(V1, handlers);
  const twice = { code: 'ALREADY_EXISTS', message: /UserSrv\.Get has a handler already/ };
  assert.throws(() => service.handle(V1, handlers), twice);
  assert.throws(() => service.handle(V2, { UserSrv: { Get: () => 'x', List: () => [] } }), twice);
  assert.equal(service.server.method('UserSrv.List'), null, 'a refused contract adds nothing');
  const Debug = contract('users', { Debug: { Health: unary() } });
  assert.throws(() => service.handle(Debug, { Debug: { Health: () => {} } }), /Debug\.Health/);
});

test('a missing, misnamed or wrong handler is named', () => {
  const Users = contract('users', { UserSrv: { Get: unary(), List: unary() } });
  const given = (handlers: unknown) => () =>
    createService({ ...own, name: 'users' }).handle(Users, handlers as never);
  const get = () => undefined;
  assert.throws(given({ UserSrv: { Get: get } }), { ...INVALID, message: /UserSrv\.List/ });
  assert.throws(given({ UserSrv: { Get: get, Lst: get } }), {
    ...INVALID,
    message: /UserSrv\.Lst/,
  });
  assert.throws(given({ UserSrv: { Get: get, List: 5 } }), {
    ...INVALID,
    message: /UserSrv\.List/,
  });
  assert.throws(given({}), INVALID);
  for (const nothing of [null, undefined, 5, { UserSrv: null }]) {
    assert.throws(given(nothing), INVALID, String(nothing));
  }
});

test('a record of another program that lies is refused with the reason', () => {
  const node = { id: 'n', address: '127.0.0.1:1', metadata: null };
  const record = { name: 's', version: '1', metadata: null, endpoints: null, nodes: [node] };
  assert.equal(recordFrom(record).nodes.length, 1);
  for (const address of [
    'javascript:alert(1)',
    'a',
    'a:0',
    'a:70000',
    'http://a:1',
    'a:1/b',
    '@a:1',
    '',
  ]) {
    const wrong = { ...record, nodes: [{ ...node, address }] };
    assert.throws(() => recordFrom(wrong), { code: 'DECODING_FAILED' }, address);
  }
  const odd = recordFrom({ ...record, metadata: JSON.parse('{"__proto__":"x"}') });
  assert.deepEqual(Object.keys(odd.metadata), ['__proto__']);
  assert.equal(Object.getPrototypeOf(odd.metadata), null);
});

test('a record of 1 MiB is refused, and the registry holds no more nodes than its limit', async () => {
  const registry = new MemoryRegistry();
  const record = (id: string, padding = ''): ServiceRecord => ({
    name: 's',
    version: '1',
    metadata: { padding },
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:1', metadata: {} }],
  });
  const large = record('n', 'x'.repeat(MAX_RECORD_BYTES));
  await assert.rejects(registry.register(large, { ttlMs: 1000 }), INVALID);
  const clock = new VirtualScheduler();
  const small = new MemoryRegistry(clock, new NodeTable(clock, 3));
  for (const id of ['a', 'b', 'c', 'c']) await small.register(record(id), { ttlMs: 1000 });
  await assert.rejects(small.register(record('d'), { ttlMs: 1000 }), {
    code: 'LIMIT_EXCEEDED',
    message: /3 nodes/,
  });
  await small.deregister(record('a'));
  await small.register(record('d'), { ttlMs: 2000 });
  await clock.advance(1000);
  for (const id of ['e', 'f']) await small.register(record(id), { ttlMs: 1000 });
  const nodes = (await small.getService('s'))[0]?.nodes.map(({ id }) => id);
  assert.deepEqual(nodes?.sort(), ['d', 'e', 'f']);
});

test('metadata takes every name that a wire can carry, __proto__ too, and no line breaks', async () => {
  const registry = new MemoryRegistry();
  const Echo = contract('echo', {
    Echo: { Get: unary<undefined, [string, string][]>() },
  });
  for (const transport of ['local', 'tcp', 'http']) {
    await using service = createService({ ...own, name: 'echo', registry, transport });
    service.handle(Echo, {
      Echo: {
        Get: (_request, { metadata, responseMetadata }) => {
          responseMetadata.set('__proto__', 'back');
          return [...metadata].filter(([name]) => /proto|tenant/.test(name));
        },
      },
    });
    await service.start();
    await using caller = createService({ ...own, name: 'caller', registry, transport });
    let back: string | undefined;
    const metadata = new Metadata().set('__proto__', 'x').set('X-Tenant', 'é');
    const seen = await caller.client(Echo).Echo.Get(undefined, {
      metadata,
      onMetadata: (given) => {
        back = given.get('__proto__');
      },
    });
    assert.deepEqual(
      seen.sort(),
      [
        ['__proto__', 'x'],
        ['x-tenant', 'é'],
      ],
      transport,
    );
    assert.equal(back, 'back', transport);
    assert.equal(({} as { polluted?: string }).polluted, undefined);
    const call = (name: string, value: string) =>
      caller.client(Echo).Echo.Get(undefined, { metadata: { [name]: value } });
    for (const value of ['a\r\nX: b', 'a\n', 'a\u0000'])
      await assert.rejects(call('a', value), INVALID);
    for (const name of ['', 'a b', 'a:b', 'a\r\n', 'é'])
      await assert.rejects(call(name, 'x'), INVALID);
    await assert.rejects(call('a', 'x'.repeat(65 * 1024)), { code: 'LIMIT_EXCEEDED', sent: 'no' });
    const many = Object.fromEntries(Array.from({ length: 2000 }, (_, n) => [`n${n}`, '']));
    const tooMany = caller.client(Echo).Echo.Get(undefined, { metadata: many });
    await assert.rejects(tooMany, { code: 'LIMIT_EXCEEDED', sent: 'no' });
  }
});

test('wrong metadata fails a call of every kind as all else does, and throws nothing', async () => {
  const Kinds = contract('kinds', {
    Kinds: {
      One: unary<unknown, unknown>(),
      Down: serverStream<unknown, unknown>(),
      Up: clientStream<unknown, unknown>(),
      Both: bidi<unknown, unknown>(),
    },
  });
  await using t = await createTestService();
  const { One, Down, Up, Both } = t.service.client(Kinds).Kinds;
  const options = { metadata: { 'no name': 'x' } };
  const first = async (replies: AsyncIterable<unknown>) => {
    for await (const reply of replies) return reply;
  };
  const refused = (error: unknown) => {
    assert.ok(error instanceof ServiceError, String(error));
    assert.equal(error.code, 'INVALID_ARGUMENT');
    return true;
  };
  await assert.rejects(t.finish(One({}, options)), refused);
  await assert.rejects(t.finish(first(Down({}, options))), refused);
  await assert.rejects(t.finish(Up([], options)), refused);
  await assert.rejects(t.finish(first(Both([], options))), refused);
});

test('grpc and http take messages as large as maxMessageBytes says, and none that are larger', async () => {
  const registry = new MemoryRegistry();
  const Echo = contract('echo', { Echo: { Get: unary<string, string>() } });
  for (const [transport, maxMessageBytes] of [
    ['http', 100_000],
    ['grpc', 100_000],
    ['grpc', 5 * 1024 * 1024],
  ] as const) {
    const limits = { ...own, registry, transport };
    await using service = createService({ ...limits, name: 'echo', maxMessageBytes });
    service.handle(Echo, { Echo: { Get: (text) => text } });
    await service.start();
    // The caller's own limit is higher: the node refuses what is too large for it.
    await using caller = createService({ ...limits, maxMessageBytes: 8_000_000, name: 'caller' });
    const { Get } = caller.client(Echo).Echo;
    const fitting = 'x'.repeat(maxMessageBytes - 10);
    assert.equal(await Get(fitting), fitting, transport);
    const tooLarge = Get('x'.repeat(maxMessageBytes));
    await assert.rejects(tooLarge, /more than|larger|bytes/, transport);
  }
});

const Sized = contract('sized', {
  S: {
    Echo: unary<string, string>(),
    Long: unary<undefined, string>(),
    Down: serverStream<number, string>(),
    Up: clientStream<string, number>(),
  },
});

for (const transport of ['tcp', 'ws', 'grpc', 'broker']) {
  test(`maxMessageBytes bounds each message of a stream too, at both ends (${transport})`, async () => {
    const registry = new MemoryRegistry();
    const broker = await openBroker('memory:');
    const limits = { ...own, registry, transport, broker };
    const tooLarge = { code: 'BODY_TOO_LARGE' };
    for (const [atServer, atCaller] of [
      [1000, 100_000],
      [100_000, 1000],
    ] as const) {
      await using service = createService({ ...limits, name: 'sized', maxMessageBytes: atServer });
      service.handle(Sized, {
        S: {
          Echo: (text) => text,
          Long: () => 'x'.repeat(5000),
          async *Down(length) {
            yield 'x'.repeat(length);
          },
          async Up(texts) {
            let length = 0;
            for await (const text of texts) length += text.length;
            return length;
          },
        },
      });
      await service.start();
      await using caller = createService({ ...limits, name: 'c', maxMessageBytes: atCaller });
      const { S } = caller.client(Sized);
      const down = async (length: number) => (await S.Down(length).next()).value?.length;
      assert.equal((await S.Echo('x'.repeat(900))).length, 900);
      assert.equal(await down(900), 900);
      assert.equal(await S.Up(['x'.repeat(900), 'x'.repeat(900)]), 1800);
      await assert.rejects(S.Echo('x'.repeat(5000)), tooLarge);
      await assert.rejects(S.Long(), tooLarge);
      await assert.rejects(down(5000), tooLarge);
      await assert.rejects(S.Up(['x'.repeat(5000)]), tooLarge);
    }
    await broker.disconnect();
  });
}

test('the description of a recursive type ends at its third level', () => {
  const { root } = protobufjs().parse(
    'syntax = "proto3"; message Tree { Tree left = 1; string name = 2; }',
  );
  const described = protoType(root.lookupType('Tree')).describe!();
  const depth = (value: { values: readonly { values: readonly never[] }[] }): number =>
    1 + Math.max(0, ...value.values.map((each) => depth(each as never)));
  assert.ok(depth(described as never) <= 4, JSON.stringify(described));
});
