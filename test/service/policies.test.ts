/** Calls under policies, between services on the virtual clock: each counted at the handler. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CallContext, quietLog } from '../../src/rpc/context.ts';
import { bidi, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import type { ServiceOptions } from '../../src/service/options/options.ts';
import type { Service } from '../../src/service/service.ts';
import { createTestService, type TestService } from '../../src/service/testing.ts';

const Users = contract('users', {
  UserSrv: {
    Get: unary<{ id: number }, string>({ idempotent: true, timeoutMs: 1000 }),
    Once: unary<{ id: number }, string>({ timeoutMs: 1000 }),
    Hedged: unary<{ id: number }, string>({ idempotent: true, hedge: { afterMs: 50 } }),
    Cached: unary<{ id: number }, { id: number; call: number }>({
      idempotent: true,
      cache: { ttlMs: 1000, maxEntries: 2 },
    }),
    Limited: unary<undefined, string>({ rateLimit: { perSecond: 2 } }),
    Watch: serverStream<undefined, number>({ idleTimeoutMs: 1000 }),
    Chat: bidi<string, string>(),
  },
});

interface Node {
  readonly service: Service;
  readonly calls: CallContext[];
}

type Behave = (id: number, context: CallContext, call: number) => unknown;

async function nodes(t: TestService, count: number, behave: Behave): Promise<Node[]> {
  const made: Node[] = [];
  for (let index = 0; index < count; index++) {
    const calls: CallContext[] = [];
    const run = (request: { id: number }, context: CallContext) => {
      calls.push(context);
      return behave(request?.id, context, calls.length) as never;
    };
    const service = t.open({ name: 'users' });
    service.handle(Users, {
      UserSrv: {
        Get: run,
        Once: run,
        Hedged: run,
        Cached: run,
        Limited: run as never,
        async *Watch() {
          yield 1;
          await t.pause(3000);
          yield 2;
        },
        async *Chat(lines) {
          for await (const line of lines) yield line;
        },
      },
    });
    await service.start();
    made.push({ service, calls });
  }
  return made;
}

function world(options: ServiceOptions = {}) {
  return createTestService({ seed: 5, name: 'caller', ...(options as object) });
}

const total = (all: readonly Node[]) => all.reduce((sum, { calls }) => sum + calls.length, 0);

test('a call is repeated when the method is idempotent or nothing was sent, and only then', async () => {
  await using t = await world();
  const all = await nodes(t, 2, () => t.pause(300));
  const users = t.service.client(Users);
  for (const name of ['Get', 'Once'] as const) {
    const before = total(all);
    const call = users.UserSrv[name]({ id: 1 });
    await t.settle();
    assert.equal(total(all), before + 1);
    const serving = all.find(({ calls }) => calls.at(-1)?.endpoint === `UserSrv.${name}`)!;
    t.kill(serving.service);
    if (name === 'Once') {
      await assert.rejects(t.finish(call), { code: 'RESPONDER_LOST', sent: 'maybe' });
      assert.equal(total(all), before + 1);
    } else {
      await t.finish(call);
      assert.equal(total(all), before + 2);
      const second = all.find((node) => node !== serving)!.calls.at(-1)!;
      assert.equal(second.attempt, 2);
      assert.equal(second.idempotencyKey, serving.calls.at(-1)!.idempotencyKey);
      assert.ok(second.idempotencyKey);
    }
  }
});

test('a dead node fails no call while another one lives, whatever the method', async () => {
  await using t = await world();
  const all = await nodes(t, 2, () => 'ok');
  const users = t.service.client(Users);
  t.kill(all[0]!.service);
  for (let call = 0; call < 50; call++) {
    assert.equal(await t.finish(users.UserSrv.Once({ id: call })), 'ok');
  }
});

test('repetitions stay within the budget: no storm', async () => {
  await using t = await world({ breaker: false });
  await nodes(t, 2, () => 'ok');
  const counts = { calls: 0 };
  const storm = t.open({ name: 'down', breaker: false });
  const Down = contract('down', { A: { B: unary<undefined, string>({ idempotent: true }) } });
  storm.handle(Down, {
    A: {
      B: () => {
        counts.calls++;
        throw Object.assign(new Error('busy'), {});
      },
    },
  });
  await storm.start();
  t.freeze(storm);
  const client = t.client(Down, { retries: 5, breaker: false, bulkhead: false });
  const calls = Array.from({ length: 500 }, () => client.A.B(undefined, { timeoutMs: 1000 }));
  const outcomes = Promise.allSettled(calls);
  await t.settle();
  t.kill(storm);
  const settled = await t.finish(outcomes);
  assert.ok(settled.every(({ status }) => status === 'rejected'));
  const errors = settled.map((each) => String((each as PromiseRejectedResult).reason.message));
  const exhausted = errors.filter((message) => message.includes('retry budget')).length;
  // 500 calls earn 50; each of at most two seconds gives ten.
  assert.ok(exhausted >= 500 - 70, `${exhausted} of 500 calls met an empty budget`);
});

test('the circuit of a node that does not answer opens, the others go on, and a probe closes it', async () => {
  await using t = await world({ retries: 0 });
  const [slow, quick] = await nodes(t, 2, () => 'ok');
  const users = t.service.client(Users);
  t.freeze(slow!.service);
  let timeouts = 0;
  for (let call = 0; call < 200 && timeouts < 5; call++) {
    await t
      .finish(users.UserSrv.Once({ id: call }, { timeoutMs: 100 }))
      .catch((error: { code: string }) => {
        assert.equal(error.code, 'TIMEOUT');
        timeouts++;
      });
    // Past the time for which the selector passes it over.
    if (timeouts >= 3) await t.advance(1001);
  }
  assert.ok(timeouts >= 3);
  t.thaw(slow!.service);
  await t.advance(40_000);
  const before = quick!.calls.length;
  for (let call = 0; call < 50; call++) await t.finish(users.UserSrv.Once({ id: call }));
  assert.ok(quick!.calls.length > before);
  assert.ok(slow!.calls.length > 5, 'it is back');
});

test('when the only node does not answer, calls fail at once until it is probed', async () => {
  await using t = await world({ retries: 0, breaker: { openMs: 4000 } });
  const [node] = await nodes(t, 1, () => 'ok');
  const users = t.service.client(Users);
  t.freeze(node!.service);
  const call = () => t.finish(users.UserSrv.Once({ id: 1 }, { timeoutMs: 100 }));
  for (let count = 0; count < 5; count++) await assert.rejects(call(), { code: 'TIMEOUT' });
  const before = t.now().getTime();
  await assert.rejects(call(), { code: 'CIRCUIT_OPEN', sent: 'no', status: 503 });
  assert.equal(t.now().getTime(), before);
  t.thaw(node!.service);
  await t.advance(4000);
  assert.equal(await call(), 'ok');
  assert.equal(await call(), 'ok');
});

test('errors of handlers open no circuit', async () => {
  await using t = await world();
  await nodes(t, 1, () => {
    throw new Error('no such user');
  });
  const users = t.service.client(Users);
  for (let call = 0; call < 50; call++) {
    await assert.rejects(t.finish(users.UserSrv.Get({ id: 1 })), { code: 'RESPONDER_FAILED' });
  }
});

test('a hedge goes to another node, its answer wins, and the slow handler is cancelled', async () => {
  await using t = await world();
  const served: number[] = [];
  const all = await nodes(t, 2, async (_id, context) => {
    const isFirst = total(all) === 1;
    served.push(context.attempt);
    if (isFirst) await t.pause(5000);
    return `attempt ${context.attempt}`;
  });
  const reply = await t.finish(t.service.client(Users).UserSrv.Hedged({ id: 1 }));
  assert.equal(reply, 'attempt 2');
  assert.deepEqual(served, [1, 2]);
  assert.deepEqual(
    all.map(({ calls }) => calls.length),
    [1, 1],
  );
  await t.settle();
  const slow = all.flatMap(({ calls }) => calls).find(({ attempt }) => attempt === 1)!;
  assert.equal(slow.signal.aborted, true);
});

test('an answer is kept for equal calls of an idempotent method, for its time and no caller else', async () => {
  await using t = await world();
  let calls = 0;
  await nodes(t, 1, (id) => ({ id, call: ++calls }));
  const users = t.service.client(Users).UserSrv;
  const get = (id: number, tenant = 'a') =>
    t.finish(users.Cached({ id }, { metadata: { 'X-Tenant': tenant } }));
  const first = await get(1);
  (first as { call: number }).call = 99;
  assert.deepEqual(await get(1), { id: 1, call: 1 });
  assert.deepEqual(await get(1, 'b'), { id: 1, call: 2 });
  assert.deepEqual(await get(2), { id: 2, call: 3 });
  assert.deepEqual(await get(1), { id: 1, call: 4 }, 'two entries are kept');
  await t.advance(1000);
  assert.deepEqual(await get(1), { id: 1, call: 5 });
});

test('a rate limit refuses at the client and at the server', async () => {
  await using t = await world();
  const all = await nodes(t, 1, () => 'ok');
  const refused = { code: 'LIMIT_EXCEEDED', sent: 'no', status: 429 };
  const limited = t.service.client(Users).UserSrv.Limited;
  await t.finish(limited());
  await t.finish(limited());
  await assert.rejects(t.finish(limited()), refused);
  await t.advance(500);
  await t.finish(limited());
  // An untyped caller knows of no limit: the server does.
  await t.advance(10_000);
  const call = () => t.finish(t.service.call('users', 'UserSrv.Limited'));
  await call();
  await call();
  const before = total(all);
  await assert.rejects(call(), refused);
  assert.equal(total(all), before);
});

test('a deadline shrinks over three hops, and a cancelled caller cancels them all', async () => {
  await using t = await world();
  const remaining: number[] = [];
  const signals: AbortSignal[] = [];
  const hop = (name: string, next: string | null) => {
    const service = t.open({ name });
    const One = contract(name, { Hop: { Go: unary<undefined, string>() } });
    service.handle(One, {
      Hop: {
        async Go(_request, context) {
          remaining.push(context.remainingMs());
          signals.push(context.signal);
          await t.pause(10);
          if (next !== null) return service.call<string>(next, 'Hop.Go');
          await t.pause(2000);
          return 'too late';
        },
      },
    });
    return service.start();
  };
  await hop('one', 'two');
  await hop('two', 'three');
  await hop('three', null);
  const before = t.now().getTime();
  await assert.rejects(t.finish(t.service.call('one', 'Hop.Go', undefined, { timeoutMs: 500 })), {
    code: 'TIMEOUT',
  });
  assert.ok(t.now().getTime() - before <= 500);
  const [first, second, third] = remaining as [number, number, number];
  assert.ok(first <= 500 && second <= first - 15 && third <= second - 15, remaining.join(' '));
  await t.settle();
  assert.equal(signals[2]?.aborted, true);
  const controller = new AbortController();
  const call = t.service.call('one', 'Hop.Go', undefined, { signal: controller.signal });
  const rejected = assert.rejects(call, { code: 'ABORTED' });
  await t.advance(100);
  controller.abort();
  await rejected;
  await t.settle();
  assert.deepEqual(
    signals.slice(3).map(({ aborted }) => aborted),
    [true, true, true],
  );
});

test('a call ends by its deadline though the registry does not answer', async () => {
  await using t = await world();
  const stuck = {
    ...t.registry,
    name: 'stuck',
    getService: () => new Promise<never>(() => {}),
    watch: async function* () {},
    close: async () => {},
  };
  const { createService } = await import('../../src/service/service.ts');
  const service = createService({
    name: 'x',
    registry: stuck as never,
    scheduler: t.scheduler,
    environment: false,
    args: false,
    log: quietLog,
  });
  const call = service.call('users', 'A.B', {}, { timeoutMs: 200 });
  await assert.rejects(t.finish(call), {
    code: 'TIMEOUT',
    sent: 'no',
    message: /no node was found/,
  });
  const controller = new AbortController();
  const aborted = assert.rejects(service.call('users', 'A.B', {}, { signal: controller.signal }), {
    code: 'ABORTED',
    sent: 'no',
  });
  await t.settle();
  controller.abort();
  await aborted;
});

test('a stream whose peer says nothing ends at its idle limit', async () => {
  await using t = await world();
  await nodes(t, 1, () => 'ok');
  const users = t.service.client(Users);
  const seen: number[] = [];
  const reading = (async () => {
    for await (const n of users.UserSrv.Watch()) seen.push(n);
  })();
  await assert.rejects(t.finish(reading), { code: 'TIMEOUT', message: /idleTimeoutMs/ });
  assert.deepEqual(seen, [1]);
  // A reader that takes its time is no silent peer.
  const stream = users.UserSrv.Watch();
  await t.finish(stream.next());
  await t.advance(2900);
  assert.deepEqual(await t.finish(stream.next()), { done: false, value: 2 });
  await stream.return?.();
});

test('more calls than the bulkhead runs wait for their turn', async () => {
  await using t = await world({ bulkhead: { maxConcurrent: 10, maxQueue: 1000 } });
  let running = 0;
  let most = 0;
  await nodes(t, 1, async () => {
    most = Math.max(most, ++running);
    await t.pause(1);
    running--;
    return 'ok';
  });
  const users = t.service.client(Users);
  const calls = Array.from({ length: 500 }, (_, id) => users.UserSrv.Once({ id }));
  const replies = await t.finish(Promise.all(calls));
  assert.equal(replies.length, 500);
  assert.equal(most, 10);
});

test('a connection without calls is closed after its time, and opened again when it is needed', async () => {
  const { Connections } = await import('../../src/rpc/connections.ts');
  const { VirtualScheduler } = await import('../../src/util/time/virtual-scheduler.ts');
  const scheduler = new VirtualScheduler();
  let dials = 0;
  let closed = 0;
  const channel = { load: 0, close: async () => void closed++ };
  const dial = async () => {
    dials++;
    return channel;
  };
  const transport = { name: 'x', canDial: () => true, dial };
  const connections = new Connections({
    transports: [transport as never],
    scheduler,
    dialTimeoutMs: 1000,
    maxChannels: 10,
    idleMs: 1000,
  });
  const node = { id: 'n', address: 'a:1', metadata: {} };
  await connections.to(node);
  for (let second = 0; second < 5; second++) {
    await scheduler.advance(999);
    await connections.to(node);
  }
  assert.deepEqual([dials, closed], [1, 0]);
  channel.load = 1;
  await scheduler.advance(10_000);
  assert.equal(closed, 0, 'a call runs');
  channel.load = 0;
  await scheduler.advance(2000);
  assert.equal(closed, 1);
  await connections.to(node);
  assert.equal(dials, 2);
  await connections.close();
  assert.equal(scheduler.pendingTimers, 0);
});
