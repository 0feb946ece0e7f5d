/** Retrying calls through an outage: which call waits for which, and for how long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveBrokerOptions } from '../../src/broker/options/options.ts';
import { OutageRetry, type RetryableCall } from '../../src/broker/publish/outage-retry.ts';
import { RivuletError } from '../../src/errors.ts';
import { Timeouts } from '../../src/util/time/timeouts.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

type Step = 'outage' | 'silence' | 'refusal' | 'success';

/** A queue of calls, each with what becomes of its attempts in turn. */
function world() {
  const scheduler = new VirtualScheduler(1);
  const options = resolveBrokerOptions({ addresses: [], scheduler });
  const retry = new OutageRetry(
    new Timeouts(scheduler),
    () => options,
    () => null,
  );
  const attempts: string[] = [];
  const call = (
    what: string,
    steps: readonly Step[],
    more: Partial<RetryableCall<string, string>> = {},
  ) => {
    const left = [...steps];
    return retry.wait<string, string>({
      what,
      queue: 't',
      timeoutMs: 10_000,
      signal: null,
      attempt(done, failed) {
        attempts.push(what);
        const step = left.shift();
        if (step === 'success') queueMicrotask(() => done(what));
        else if (step === 'refusal') failed(new RivuletError('WRITES_REFUSED', 'no'));
        else if (step === 'outage') failed(new RivuletError('NOT_CONNECTED', 'away'));
      },
      resultOf: (value) => value,
      ...more,
    });
  };
  return { scheduler, attempts, call };
}

for (const end of ['abort', 'timeout'] as const) {
  test(`a call that ends by ${end} while its attempt has no answer does not hold up the next ones`, async () => {
    const { scheduler, attempts, call } = world();
    const controller = new AbortController();
    const first = call('first', ['outage', 'silence'], {
      signal: controller.signal,
      timeoutMs: 3000,
    });
    const failing = assert.rejects(first, { code: end === 'abort' ? 'ABORTED' : 'NOT_CONNECTED' });
    const second = call('second', ['success']);
    await scheduler.advance(1000);
    assert.deepEqual(attempts, ['first', 'first'], 'the first one is tried alone');
    if (end === 'abort') controller.abort();
    await scheduler.advance(4000);
    await failing;
    assert.equal(await second, 'second');
    const third = call('third', ['outage', 'success']);
    await scheduler.advance(1000);
    assert.equal(await third, 'third', 'the queue is as before');
  });
}

test('one of the calls that follow the first ends without an answer: later outages are waited for', async () => {
  const { scheduler, call } = world();
  const controller = new AbortController();
  const first = call('first', ['outage', 'success']);
  const silent = call('silent', ['silence'], { signal: controller.signal });
  const aborted = assert.rejects(silent, { code: 'ABORTED' });
  await scheduler.advance(1000);
  assert.equal(await first, 'first');
  controller.abort();
  await aborted;
  const later = call('later', ['outage', 'outage', 'success']);
  await scheduler.advance(2000);
  assert.equal(await later, 'later');
});

test('while the first attempt of an earlier call has no answer, no later call is tried again', async () => {
  const { scheduler, attempts, call } = world();
  let failFirst: (error: unknown) => void = () => {};
  let isFirstTry = true;
  const first = call('first', [], {
    attempt(done, failed) {
      attempts.push('first');
      if (isFirstTry) failFirst = failed;
      else queueMicrotask(() => done('first'));
      isFirstTry = false;
    },
  });
  const second = call('second', ['outage', 'success']);
  const third = call('third', ['success']);
  await scheduler.advance(2000);
  assert.deepEqual(attempts, ['first', 'second']);
  failFirst(new RivuletError('NOT_CONNECTED', 'it was lost'));
  await scheduler.advance(2000);
  await Promise.all([first, second, third]);
  assert.deepEqual(attempts, ['first', 'second', 'first', 'second', 'third']);
});

test('of the calls that wait, those behind an unanswered one wait for it, and those before do not', async () => {
  const { scheduler, attempts, call } = world();
  let answer: (value: string) => void = () => {};
  const before = call('before', ['outage', 'success']);
  const waiting = call('waiting', ['success']);
  await scheduler.advance(1000);
  await Promise.all([before, waiting]);
  const failing = ['outage', 'success'] as const;
  const a = call('a', [], {
    attempt(done, failed) {
      attempts.push('a');
      if (attempts.filter((each) => each === 'a').length > 1) queueMicrotask(() => done('a'));
      else queueMicrotask(() => failed(new RivuletError('NOT_CONNECTED', 'away')));
    },
  });
  const unanswered = call('unanswered', [], {
    attempt(done) {
      attempts.push('unanswered');
      answer = done;
    },
  });
  const b = call('b', failing);
  await scheduler.advance(2000);
  assert.equal(await a, 'a');
  assert.equal(attempts.at(-1), 'a', 'b waits for the one before it');
  answer('unanswered');
  await scheduler.advance(2000);
  assert.deepEqual(await Promise.all([unanswered, b]), ['unanswered', 'b']);
  assert.equal(attempts.at(-1), 'b');
});

test('a first call that the broker refuses shows that it answers: all others are tried at once', async () => {
  const { scheduler, attempts, call } = world();
  const refused = assert.rejects(call('refused', ['outage', 'refusal']), {
    code: 'WRITES_REFUSED',
  });
  const others = ['a', 'b', 'c'].map((what) => call(what, ['success']));
  await scheduler.advance(1000);
  await refused;
  assert.deepEqual(await Promise.all(others), ['a', 'b', 'c']);
  assert.deepEqual(attempts, ['refused', 'refused', 'a', 'b', 'c']);
});

test('a call whose result cannot be made rejects, and what called back goes on', async () => {
  const { call } = world();
  let hasReturned = false;
  const failed = call('broken', [], {
    attempt(done) {
      queueMicrotask(() => {
        done('broken');
        hasReturned = true;
      });
    },
    resultOf() {
      throw new Error('the observer is broken');
    },
  });
  await assert.rejects(failed, /the observer is broken/);
  assert.ok(hasReturned);
  assert.equal(await call('next', ['success']), 'next');
});

test('a call that is given up says whether the broker was away or did not answer', async () => {
  const { scheduler, call } = world();
  const slow = assert.rejects(call('slow', ['silence'], { queue: null }), {
    message: 'slow could not be done within 10000 ms: the broker has not answered',
  });
  const away = assert.rejects(call('away', Array<Step>(99).fill('outage'), { queue: null }), {
    message: 'away could not be done within 10000 ms: the broker cannot be reached',
  });
  await scheduler.advance(11_000);
  await Promise.all([slow, away]);
});
