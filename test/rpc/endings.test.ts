/** How calls end: what was thrown, when the time is up, whether anybody read, and what is left behind. */
import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { createServer } from 'node:net';
import { after, test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { bidi, clientStream, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { debugHandlers } from '../../src/rpc/seen/debug.ts';
import { LogRing } from '../../src/rpc/seen/log-ring.ts';
import { ServiceError } from '../../src/rpc/service-error.ts';
import { type ClientOptions, openClient } from '../../src/service/client.ts';
import { createService } from '../../src/service/service.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { until } from '../helpers/until.ts';

const own = { environment: false, args: false } as const;
const NODE = 'endings-1';
const Ending = contract('test.endings', {
  S: {
    Who: unary<undefined, string>(),
    Kept: unary<undefined, number>({ idempotent: true, cache: { ttlMs: 60_000 } }),
    Throw: unary<{ which: number }, string>(),
    ThrowLate: serverStream<undefined, number>(),
    Late: unary<undefined, string>(),
    Hang: unary<undefined, string>(),
    Count: clientStream<number, number>(),
    Echo: bidi<string, string>(),
    Ticks: serverStream<undefined, number>(),
  },
});

let kept = 0;
const unhandled: unknown[] = [];
const note = (error: unknown) => void unhandled.push(error);
process.on('unhandledRejection', note);
after(() => process.off('unhandledRejection', note));

/** What no code should throw, and some does. */
const STRANGE: readonly unknown[] = [
  Object.create(null),
  Object.assign(new Error('text'), { message: 5 }),
  Object.assign(new Error('text'), { message: Object.create(null) }),
  { toString: () => assert.fail('as text') },
  new ServiceError({ code: 'NOT_FOUND', id: 'x', status: 404 } as never),
  Symbol('strange'),
  null,
  undefined,
];

async function world(transport: string, options: ClientOptions = {}) {
  const registry = new MemoryRegistry();
  const service = createService({ ...own, name: 'test.endings', id: NODE, registry, transport });
  let nested: Promise<unknown> = Promise.resolve();
  service.handle(Ending, {
    S: {
      Who: () => NODE,
      Kept: () => ++kept,
      Throw({ which }) {
        throw STRANGE[which];
      },
      // biome-ignore lint/correctness/useYield: it fails before its first reply
      async *ThrowLate() {
        throw STRANGE[0];
      },
      async Hang(_, { signal }) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        return '';
      },
      async Late(_, { signal }) {
        await once(signal, 'abort').catch(() => {});
        nested = service.call('test.no-such-service', 'A.B').catch((error) => error.code);
        return 'late';
      },
      async Count(numbers) {
        let sum = 0;
        for await (const _ of numbers) sum++;
        return sum;
      },
      async *Echo(lines) {
        for await (const line of lines) {
          yield line;
          if (line === 'end') return;
        }
      },
      async *Ticks(_, { signal }) {
        for (let tick = 0; !signal.aborted; tick++) {
          yield tick;
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      },
    },
  });
  await service.start();
  const opened = openClient({ ...own, registry, transport, ...options });
  return {
    registry,
    service,
    client: opened.client,
    S: opened.client.of(Ending).S,
    nested: () => nested,
    async [Symbol.asyncDispose]() {
      await opened.close();
      await service.stop();
    },
  };
}

const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 20));

for (const transport of ['local', 'tcp', 'grpc', 'http', 'ws']) {
  test(`whatever a handler throws fails its call and nothing else (${transport})`, async () => {
    await using w = await world(transport);
    for (let which = 0; which < STRANGE.length; which++) {
      const error = await w.S.Throw({ which }, { timeoutMs: 5000 }).catch((thrown) => thrown);
      assert.ok(error instanceof ServiceError, String(which));
      assert.notEqual(error.code, 'TIMEOUT', `what was thrown has no answer: ${which}`);
    }
    if (transport !== 'http') {
      await assert.rejects(w.S.ThrowLate(undefined, { timeoutMs: 5000 }).next(), (error) => {
        return error instanceof ServiceError && error.code !== 'TIMEOUT';
      });
    }
    await turn();
    assert.deepEqual(unhandled, []);
  });
}

test('whatever a responder of a broker throws fails its request and nothing else', async () => {
  const broker = await openBroker('memory://endings');
  const responder = await broker.respond('strange', async () => {
    throw STRANGE[0];
  });
  await assert.rejects(broker.request('strange', { body: 'x' }, { timeoutMs: 5000 }), {
    code: 'RESPONDER_FAILED',
  });
  await responder.unsubscribe();
  await broker.disconnect();
  await turn();
  assert.deepEqual(unhandled, []);
});

test('a call without time left leaves no look-up and no dial whose failure nothing awaits', async () => {
  await using w = await world('local');
  await assert.rejects(w.S.Late(undefined, { timeoutMs: 20 }), { code: 'TIMEOUT' });
  await turn();
  assert.equal(await w.nested(), 'TIMEOUT');
  // Its time is up between the look-up and the dial, which is refused.
  const caller = openClient({ ...own, registry: new MemoryRegistry(), transport: 'tcp' });
  for (let call = 1; call <= 100; call++) {
    const timeoutMs = call / 100;
    const options = { address: '127.0.0.1:1', timeoutMs };
    await assert.rejects(caller.call('test.endings', 'S.Who', undefined, options));
  }
  await turn();
  await caller.close();
  assert.deepEqual(unhandled, []);
});

for (const transport of ['local', 'tcp', 'grpc', 'ws']) {
  test(`a stream marks its node when it ends, read or not (${transport})`, async () => {
    const breaker = { failures: 1, openMs: 20 };
    await using w = await world(transport, { breaker, retries: 0 });
    const circuit = w.client.policies.breaker;
    assert.ok(circuit !== null);
    const key = `test.endings\n${NODE}`;
    const fail = async () => {
      circuit.end(key, true);
      await until(() => circuit.state(key) === 'half-open');
    };
    await fail();
    assert.equal(await w.S.Count([1, 2, 3]), 3);
    assert.equal(circuit.state(key), 'closed', 'one reply is an answer');
    await fail();
    for await (const _ of w.S.Ticks()) break;
    assert.equal(circuit.state(key), 'closed', 'so is the first of many');
    await fail();
    const unread = w.S.Echo(['a']);
    await turn();
    unread.cancel();
    await turn();
    assert.equal(await w.S.Who(), NODE, 'a probe that its caller left is over');
  });

  test(`the caller's iterable is returned when the call ends, also while it is waited for (${transport})`, async () => {
    await using w = await world(transport);
    let returned = 0;
    let given = 0;
    const requests: AsyncIterableIterator<string> = {
      next: () =>
        given++ === 0
          ? Promise.resolve({ done: false, value: 'end' })
          : new Promise<never>(() => {}),
      return() {
        returned++;
        return Promise.resolve({ done: true, value: undefined });
      },
      [Symbol.asyncIterator]: () => requests,
    };
    const echoed: string[] = [];
    for await (const line of w.S.Echo(requests)) echoed.push(line);
    await turn();
    assert.deepEqual(echoed, ['end']);
    assert.equal(returned, 1);
  });
}

test('a caller whose iterable throws what has no text, or is none, receives an error that says so', async () => {
  await using w = await world('tcp');
  const strange = (async function* () {
    yield 1;
    throw STRANGE[0];
  })();
  await assert.rejects(w.S.Count(strange, { timeoutMs: 5000 }), { code: 'ABORTED' });
  await assert.rejects(w.S.Count(5 as never, { timeoutMs: 5000 }), { code: 'INVALID_ARGUMENT' });
  await turn();
  assert.deepEqual(unhandled, []);
});

test('a stream that is cancelled while no registry answers ends at once', async () => {
  class Silent extends MemoryRegistry {
    override getService(): Promise<ServiceRecord[]> {
      return new Promise(() => {});
    }
  }
  const opened = openClient({ ...own, registry: new Silent(), transport: 'tcp' });
  const stream = opened.client.of(Ending).S.Echo(['a']);
  const next = assert.rejects(stream.next(), { code: 'ABORTED', sent: 'no' });
  stream.cancel();
  await next;
  assert.deepEqual(await stream.return?.(), { done: true, value: undefined });
  await opened.close();
});

test('a node that takes connections and says nothing is passed over like one that is late', async () => {
  await using w = await world('tcp');
  const hole = createServer(() => {});
  hole.listen(0, '127.0.0.1');
  await once(hole, 'listening');
  const address = `127.0.0.1:${(hole.address() as { port: number }).port}`;
  const [record] = await w.registry.getService('test.endings');
  assert.ok(record !== undefined);
  const metadata = {
    ...record.nodes[0]?.metadata,
    'rivulet.tcp': address,
    'rivulet.token': 'other',
  };
  const nodes = [{ id: 'hole', address, metadata }];
  await w.registry.register({ ...record, nodes }, { ttlMs: 60_000 });
  const options = { requestTimeoutMs: 50, selector: 'round-robin' };
  const caller = openClient({ ...own, registry: w.registry, transport: 'tcp', ...options });
  let failed = 0;
  for (let call = 0; call < 20; call++) {
    await caller.call('test.endings', 'S.Who').catch(() => failed++);
  }
  await caller.close();
  hole.close();
  assert.ok(failed <= 5, `${failed} of 20 calls went to it`);
});

for (const transport of ['tcp', 'grpc', 'ws']) {
  test(`a client that closes waits for no peer that says nothing (${transport})`, async () => {
    let isLeft = false;
    const hole = createServer((socket) => {
      socket.resume();
      socket.once('close', () => {
        isLeft = true;
        hole.close();
      });
    });
    const closed = once(hole, 'close');
    const connected = once(hole, 'connection');
    hole.listen(0, '127.0.0.1');
    await once(hole, 'listening');
    const address = `127.0.0.1:${(hole.address() as { port: number }).port}`;
    // Longer than the test may take.
    const options = { dialTimeoutMs: 3_600_000, requestTimeoutMs: 50 };
    const caller = openClient({ ...own, registry: new MemoryRegistry(), transport, ...options });
    const call = caller.call('test.endings', 'S.Who', undefined, { address });
    await assert.rejects(call, { code: 'TIMEOUT' });
    // The dial goes on without its call.
    await connected;
    assert.equal(isLeft, false);
    await caller.close();
    // Nor is the connection kept until the dial would have ended.
    await closed;
    assert.equal(isLeft, true);
  });
}

test('a wrapper that throws rejects the call, and a timeout that is no number is refused', async () => {
  const denied = () => {
    throw new Error('denied');
  };
  await using w = await world('local', { wrap: { client: [denied] } });
  await assert.rejects(w.client.call('test.endings', 'S.Who'), /denied/);
  await using plain = await world('local');
  const timeoutMs = '5000' as never;
  await assert.rejects(plain.S.Who(undefined, { timeoutMs }), { code: 'INVALID_ARGUMENT' });
});

test('many calls under one signal leave one listener while they wait, and none afterwards', async () => {
  class Slow extends MemoryRegistry {
    override async getService(name: string): Promise<ServiceRecord[]> {
      await turn();
      return super.getService(name);
    }
  }
  const registry = new Slow();
  const service = createService({ ...own, name: 'test.endings', registry, transport: 'tcp' });
  service.server.add('S.Who', unary(), () => turn());
  await service.start();
  const bulkhead = { maxConcurrent: 2 };
  const caller = openClient({ ...own, registry, transport: 'tcp', bulkhead });
  const { signal } = new AbortController();
  let most = 0;
  const calls = Array.from({ length: 20 }, () =>
    caller.call('test.endings', 'S.Who', undefined, { signal }).then(() => {
      most = Math.max(most, getEventListeners(signal, 'abort').length);
    }),
  );
  await new Promise(setImmediate);
  most = Math.max(most, getEventListeners(signal, 'abort').length);
  await Promise.all(calls);
  assert.ok(most <= 2, `${most} listeners`);
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  await caller.close();
  await service.stop();
});

test('a follower of the log has one listener, and a log takes whatever it is given', async () => {
  const log = new LogRing(systemScheduler, null);
  const { Debug } = debugHandlers({
    ailments: () => [],
    log,
    spans: () => [],
    stats: () => assert.fail('not asked for'),
  });
  const controller = new AbortController();
  const { signal } = controller;
  const records = (await Debug.Log({ stream: true }, {
    signal,
  } as never)) as AsyncIterable<unknown>;
  const following = records[Symbol.asyncIterator]();
  for (let record = 0; record < 20; record++) {
    const next = following.next();
    await new Promise(setImmediate);
    log.info('text');
    await next;
  }
  assert.equal(getEventListeners(signal, 'abort').length, 1);
  controller.abort();
  assert.equal((await following.next()).done, true);
  const circular: Record<string, unknown> = Object.create(null);
  circular.self = circular;
  for (const given of [...STRANGE, 5, { circular }]) {
    log.error(given as never);
    log.child({ call: '1' }).error(given as never);
  }
  log.child({ call: '1' }).error(new Error('boom') as never);
  const [last] = log.records(1);
  assert.equal(last?.message, 'boom');
  assert.deepEqual({ ...last?.fields }, { call: '1', error: 'boom' });
});

test('a call of one node is not answered with what another node said', async () => {
  await using w = await world('tcp');
  const [record] = await w.registry.getService('test.endings');
  const address = record?.nodes[0]?.address ?? '';
  const first = await w.S.Kept();
  assert.equal(await w.S.Kept(), first);
  assert.notEqual(await w.S.Kept(undefined, { address }), first);
  assert.notEqual(await w.S.Kept(undefined, { filters: [(services) => services] }), first);
  assert.equal(await w.S.Kept(), first, 'nor is the kept answer replaced by theirs');
});

for (const transport of ['local', 'tcp', 'grpc', 'http', 'ws', 'udp']) {
  test(`calls in flight under one signal share its listener (${transport})`, async () => {
    await using w = await world(transport);
    const controller = new AbortController();
    const { signal } = controller;
    const calls = Array.from({ length: 20 }, () =>
      w.S.Hang(undefined, { signal, timeoutMs: 60_000 }).catch((error) => error.code),
    );
    await until(() => w.service.server.running >= 20);
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    controller.abort();
    assert.deepEqual(new Set(await Promise.all(calls)), new Set(['ABORTED']));
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });
}

const Leaving = contract('test.leaving', { S: { Watch: serverStream<undefined, number>() } });

for (const transport of ['local', 'tcp', 'grpc', 'ws', 'broker']) {
  test(`what a handler waits for is returned when its caller leaves (${transport})`, async () => {
    const registry = new MemoryRegistry();
    const broker = await openBroker('memory:');
    const nouns = { ...own, registry, transport, broker };
    const service = createService({ ...nouns, name: 'test.leaving' });
    let leave = () => {};
    const left = new Promise<void>((resolve) => {
      leave = resolve;
    });
    let given = 0;
    service.handle(Leaving, {
      S: {
        // A source of events that has one, and waits for the next.
        Watch: () => ({
          [Symbol.asyncIterator]: () => ({
            next: () =>
              given++ === 0
                ? Promise.resolve({ done: false as const, value: 1 })
                : new Promise<never>(() => {}),
            return() {
              leave();
              return Promise.resolve({ done: true as const, value: undefined });
            },
          }),
        }),
      },
    });
    await service.start();
    const caller = createService({ ...nouns, name: 'test.leaver' });
    try {
      for await (const _ of caller.client(Leaving).S.Watch()) break;
      await left;
    } finally {
      await caller.stop();
      await service.stop();
      await broker.disconnect();
    }
  });
}

test('the reply of a client stream counts when its status has come, and no stream is reset before', async () => {
  const { createServer: createHttp2 } = await import('node:http2');
  let resets = 0;
  const server = createHttp2();
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    stream.on('aborted', () => resets++);
    stream.resume();
    const status = String(headers['x-status']);
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
    const reply = Buffer.from('{"n":1}');
    const head = Buffer.from([0, 0, 0, 0, reply.length]);
    stream.write(Buffer.concat([head, reply]));
    // The reply is on its way for a while before the status.
    setTimeout(() => stream.end(), 50);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const { client, close } = openClient({
    ...own,
    transport: 'grpc',
    registry: new MemoryRegistry(),
  });
  const { S } = client.of(
    contract('s', { S: { Sum: clientStream<number, { readonly n: number }>() } }),
  );
  const ask = (status: string) =>
    S.Sum([1], { address: `127.0.0.1:${port}`, metadata: { 'x-status': status } });
  try {
    assert.deepEqual(await ask('0'), { n: 1 });
    await assert.rejects(ask('7'), { code: 'PERMISSION_DENIED' });
    assert.equal(resets, 0);
  } finally {
    await close();
    server.close();
  }
});
