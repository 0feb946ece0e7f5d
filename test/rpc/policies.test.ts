/** The policies by themselves, on the virtual clock: budget, breaker, bulkhead, rate limit, hedge. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { Breaker } from '../../src/rpc/policies/breaker.ts';
import { RetryBudget } from '../../src/rpc/policies/budget.ts';
import { Bulkhead } from '../../src/rpc/policies/bulkhead.ts';
import { hedged } from '../../src/rpc/policies/hedge.ts';
import { RateLimits } from '../../src/rpc/policies/rate-limit.ts';
import { createTestService } from '../../src/service/testing.ts';
import { Random } from '../../src/util/random.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { seedOf } from '../helpers/seed.ts';

test('the budget gives ten repetitions a second, or a tenth of the calls of ten seconds', async () => {
  const clock = new VirtualScheduler();
  const budget = new RetryBudget(clock);
  const takeAll = () => {
    let taken = 0;
    while (budget.take()) taken++;
    return taken;
  };
  assert.equal(takeAll(), 10);
  await clock.advance(1000);
  assert.equal(takeAll(), 10);
  for (let call = 0; call < 1000; call++) budget.earn();
  assert.equal(takeAll(), 80, 'twenty of the hundred were taken before');
  await clock.advance(1000);
  assert.equal(takeAll(), 10);
  await clock.advance(60_000);
  assert.equal(takeAll(), 10);
});

test('the budget equals a naive one that remembers every call, by seed', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  const clock = new VirtualScheduler();
  const budget = new RetryBudget(clock, { ratio: 0.2, minPerSecond: 3 });
  const calls: number[] = [];
  const repeats: number[] = [];
  const second = () => Math.floor(clock.monotonic() / 1000);
  const within = (times: number[]) => times.filter((time) => time > second() - 10).length;
  for (let step = 0; step < 3000; step++) {
    const dice = random.fraction();
    if (dice < 0.6) {
      budget.earn();
      calls.push(second());
    } else if (dice < 0.95) {
      const now = repeats.filter((time) => time === second()).length;
      const expected = now < 3 || within(repeats) + 1 <= within(calls) * 0.2;
      assert.equal(budget.take(), expected, `seed ${seed}, step ${step}`);
      if (expected) repeats.push(second());
    } else clock.elapse(Math.floor(random.fraction() * 4000));
  }
});

test('a budget without a minimum and a ratio of zero repeats nothing', () => {
  const budget = new RetryBudget(new VirtualScheduler(), { ratio: 0, minPerSecond: 0 });
  for (let call = 0; call < 1000; call++) budget.earn();
  assert.equal(budget.take(), false);
});

test('five failures in ten seconds open the circuit, and one probe closes it', async () => {
  const clock = new VirtualScheduler();
  const breaker = new Breaker(clock);
  for (let call = 0; call < 4; call++) breaker.end('n', true);
  await clock.advance(11_000);
  breaker.end('n', true);
  assert.equal(breaker.state('n'), 'closed', 'the four are older than the window');
  for (let call = 0; call < 4; call++) breaker.end('n', true);
  assert.equal(breaker.state('n'), 'open');
  assert.equal(breaker.admit('n'), false);
  assert.equal(breaker.retryAfterMs('n'), 5000);
  await clock.advance(5000);
  assert.equal(breaker.state('n'), 'half-open');
  assert.deepEqual([breaker.admit('n'), breaker.admit('n')], [true, false], 'one probe at a time');
  breaker.end('n', null);
  assert.equal(breaker.admit('n'), true, 'a probe that was cancelled leaves its place');
  breaker.end('n', true);
  assert.equal(breaker.admit('n'), false);
  await clock.advance(5000);
  assert.equal(breaker.admit('n'), true);
  breaker.end('n', false);
  assert.deepEqual([breaker.state('n'), breaker.size], ['closed', 0]);
});

test('few failures among many answers open no circuit, half of twenty do', () => {
  const breaker = new Breaker(new VirtualScheduler());
  breaker.end('busy', true);
  for (let call = 0; call < 1000; call++) breaker.end('busy', false);
  for (let call = 0; call < 100; call++) breaker.end('busy', true);
  assert.equal(breaker.state('busy'), 'closed');
  for (let call = 0; call < 20; call++) breaker.end('half', call % 2 === 0);
  assert.equal(breaker.state('half'), 'open');
  assert.equal(breaker.admit('other'), true);
});

test('the breaker holds no more nodes than its limit', () => {
  const breaker = new Breaker(new VirtualScheduler());
  for (let node = 0; node < 10_100; node++) breaker.end(`n${node}`, true);
  assert.equal(breaker.size, 10_000);
});

test('the bulkhead runs so many, queues in order, and refuses the rest', async () => {
  const clock = new VirtualScheduler();
  const bulkhead = new Bulkhead(clock, { maxConcurrent: 2, maxQueue: 3 });
  const never = Number.POSITIVE_INFINITY;
  assert.equal(bulkhead.enter('s', never, undefined), null);
  assert.equal(bulkhead.enter('s', never, undefined), null);
  assert.equal(bulkhead.enter('other', never, undefined), null, 'services do not share places');
  const order: string[] = [];
  const late = bulkhead.enter('s', clock.monotonic() + 100, undefined) as Promise<void>;
  const controller = new AbortController();
  const left = bulkhead.enter('s', never, controller.signal) as Promise<void>;
  const last = bulkhead.enter('s', never, undefined)!.then(() => order.push('last'));
  await assert.rejects(bulkhead.enter('s', never, undefined)!, {
    code: 'LIMIT_EXCEEDED',
    sent: 'no',
    message: /2 calls to s run and 3 wait/,
  });
  const timedOut = assert.rejects(late, { code: 'TIMEOUT', sent: 'no' });
  await clock.advance(100);
  await timedOut;
  const aborted = assert.rejects(left, { code: 'ABORTED', sent: 'no' });
  controller.abort();
  await aborted;
  bulkhead.leave('s');
  await last;
  assert.deepEqual(order, ['last']);
  bulkhead.leave('s');
  bulkhead.leave('s');
  bulkhead.leave('other');
  assert.deepEqual([bulkhead.size, clock.pendingTimers], [0, 0]);
});

test('the rate limit lets through what its clock allows', async () => {
  const clock = new VirtualScheduler();
  const limits = new RateLimits(clock);
  const { A } = contract('s', { A: { B: unary({ rateLimit: { perSecond: 10, burst: 2 } }) } });
  const pass = () => limits.pass('A.B', A.B);
  pass();
  pass();
  assert.throws(pass, { code: 'LIMIT_EXCEEDED', sent: 'no', message: /next one in 100 ms/ });
  await clock.advance(100);
  pass();
  assert.throws(pass, { code: 'LIMIT_EXCEEDED' });
  await clock.advance(60_000);
  pass();
  pass();
  assert.throws(pass, { code: 'LIMIT_EXCEEDED' }, 'no more than the burst is saved up');
});

test('a hedge starts in time, the first answer wins, and the loser is cancelled', async () => {
  const clock = new VirtualScheduler();
  const signals: AbortSignal[] = [];
  const race = (answers: (number | Error | null)[], mayHedge = () => true) =>
    hedged(clock, 50, undefined, mayHedge, (signal) => {
      signals.push(signal);
      const answer = answers.shift();
      return new Promise<number>((resolve, reject) => {
        if (answer instanceof Error) clock.after(10, () => reject(answer));
        else if (typeof answer === 'number') clock.after(answer, () => resolve(answer));
      });
    });
  const quick = race([20]);
  await clock.advance(100);
  assert.deepEqual([await quick, signals.length, clock.pendingTimers], [20, 1, 0]);
  signals.length = 0;
  const slow = race([null, 30]);
  await clock.advance(80);
  assert.equal(await slow, 30);
  assert.deepEqual(
    signals.map(({ aborted }) => aborted),
    [true, true],
  );
  const failed = assert.rejects(race([new Error('first')]), /first/);
  await clock.advance(10);
  await failed;
  const saved = race([200, new Error('second')]);
  await clock.advance(200);
  assert.equal(await saved, 200, 'the failure of one leaves the other to decide');
  signals.length = 0;
  const poor = race([200], () => false);
  await clock.advance(200);
  assert.deepEqual([await poor, signals.length], [200, 1]);
});

test('every number of a policy is checked', () => {
  const clock = new VirtualScheduler();
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -1, 2 ** 53, '1' as never]) {
    const wrong = { code: 'INVALID_ARGUMENT' };
    assert.throws(() => new RetryBudget(clock, { ratio: value }), wrong);
    assert.throws(() => new RetryBudget(clock, { minPerSecond: value }), wrong);
    assert.throws(() => new Breaker(clock, { failures: value }), wrong);
    assert.throws(() => new Breaker(clock, { windowMs: value }), wrong);
    assert.throws(() => new Bulkhead(clock, { maxConcurrent: value }), wrong);
    assert.throws(() => new Bulkhead(clock, { maxQueue: value }), wrong);
    const method = (spec: object) =>
      contract('s', { A: { B: unary({ idempotent: true, ...spec }) } });
    assert.throws(() => method({ timeoutMs: value }), wrong);
    assert.throws(() => method({ retry: { attempts: value } }), wrong);
    assert.throws(() => method({ retry: { minMs: value } }), wrong);
    assert.throws(() => method({ hedge: { afterMs: value } }), wrong);
    assert.throws(() => method({ cache: { ttlMs: value } }), wrong);
    assert.throws(() => method({ cache: { ttlMs: 1, maxEntries: value } }), wrong);
    assert.throws(() => method({ rateLimit: { perSecond: value } }), wrong);
    assert.throws(() => method({ rateLimit: { perSecond: 1, burst: value } }), wrong);
  }
  assert.throws(() => contract('s', { A: { B: unary({ hedge: { afterMs: 5 } }) } }), /idempotent/);
  assert.throws(() => contract('s', { A: { B: unary({ timoutMs: 5 } as never) } }), /did you mean/);
});

test('a call from before the circuit opened does not decide for the probe', async () => {
  const clock = new VirtualScheduler();
  const breaker = new Breaker(clock, { failures: 2, openMs: 1000 });
  for (let call = 0; call < 3; call++) {
    assert.equal(breaker.isProbe('n'), false);
    assert.equal(breaker.admit('n'), true);
  }
  breaker.end('n', true, false);
  breaker.end('n', true, false);
  await clock.advance(1000);
  assert.equal(breaker.isProbe('n'), true);
  assert.equal(breaker.admit('n'), true);
  breaker.end('n', true, false);
  assert.equal(breaker.admit('n'), false, 'the probe still runs');
  breaker.end('n', false, true);
  assert.equal(breaker.state('n'), 'closed');
});

test('a probe that takes long keeps others away no longer than an open circuit does', async () => {
  const clock = new VirtualScheduler();
  const breaker = new Breaker(clock, { failures: 1 });
  breaker.end('n', true);
  await clock.advance(5000);
  assert.deepEqual([breaker.admit('n'), breaker.admit('n')], [true, false]);
  assert.equal(breaker.retryAfterMs('n'), 5000);
  await clock.advance(5000);
  assert.deepEqual([breaker.admit('n'), breaker.admit('n')], [true, false], 'the next probe');
  breaker.end('n', false);
  assert.equal(breaker.state('n'), 'closed');
  // The first probe ends at last: one failure among those of the window.
  breaker.end('n', null);
  assert.equal(breaker.state('n'), 'closed');
});

test('a stream that probes a node closes the circuit with its first message', async () => {
  const Probed = contract('probed', {
    S: {
      Hang: unary(),
      Ping: unary<undefined, string>(),
      Watch: serverStream<undefined, number>(),
    },
  });
  await using t = await createTestService({ name: 'probed' });
  t.service.handle(Probed, {
    S: {
      Hang: () => new Promise<never>(() => {}),
      Ping: () => 'pong',
      async *Watch(_, { signal }) {
        yield 1;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    },
  });
  await t.service.start();
  const { S } = t.client(Probed, { breaker: { failures: 1, openMs: 5000 }, retries: 0 });
  await assert.rejects(t.finish(S.Hang(undefined, { timeoutMs: 100 })), { code: 'TIMEOUT' });
  await assert.rejects(t.finish(S.Ping()), { code: 'CIRCUIT_OPEN' });
  await t.advance(5000);
  const stream = S.Watch();
  assert.equal((await t.finish(stream.next())).value, 1);
  assert.equal(await t.finish(S.Ping()), 'pong', 'while the stream goes on');
  stream.cancel();
});
