/** What waits leave behind: durations of timeouts, listeners of signals, credit of early readers. */
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { StreamCall } from '../../src/broker/requests/stream-call.ts';
import { pause } from '../../src/util/time/scheduler.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { Timeouts } from '../../src/util/time/timeouts.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { fc } from '../helpers/property.ts';

test('durations that each differ leave nothing behind while another timeout waits', () => {
  const timeouts = new Timeouts(new VirtualScheduler());
  const stop = timeouts.add(60_000, () => {});
  const run = () => {
    for (let call = 0; call < 100_000; call++) timeouts.add(5000 - call / 1024, () => {})();
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  };
  const before = run();
  const durations = () => {
    for (let call = 0; call < 100_000; call++) timeouts.add(9000 - call / 1000, () => {})();
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  };
  const grown = durations() - before;
  assert.ok(grown < 5_000_000, `${grown} bytes for 100 000 timeouts that were stopped`);
  stop();
});

test('each wait ends once and in its time, or not at all, whatever others do meanwhile', async () => {
  /** What happens, one number after the other: a wait begins, one is stopped, or time passes. */
  const steps = fc.array(fc.tuple(fc.nat(9), fc.double({ min: 0, max: 40, noNaN: true })), {
    maxLength: 100,
  });
  await fc.assert(
    fc.asyncProperty(steps, async (script) => {
      const clock = new VirtualScheduler();
      const timeouts = new Timeouts(clock);
      const running = new Map<number, () => void>();
      let next = 0;
      const begin = (ms: number, atEnd: number) => {
        const id = next++;
        const due = clock.monotonic() + Math.ceil(ms);
        const stop = timeouts.add(ms, () => {
          assert.ok(running.delete(id), 'a wait ended twice, or after it was stopped');
          const late = clock.monotonic() - due;
          assert.ok(late >= -0.5 && late <= 1, `${late} ms late`);
          stop();
          if (atEnd < 3) begin(ms / 2 + 1, 9);
          else if (atEnd < 6) stopOne(atEnd);
        });
        running.set(id, stop);
      };
      const stopOne = (n: number) => {
        const [id, stop] = [...running][n % Math.max(1, running.size)] ?? [];
        stop?.();
        running.delete(id as number);
      };
      for (const [what, ms] of script) {
        if (what < 6) begin(what % 2 === 0 ? 10 : ms, Math.floor(ms) % 10);
        else if (what < 8) stopOne(what + Math.floor(ms));
        else await clock.advance(ms / 5);
      }
      await clock.advance(200);
      assert.equal(running.size, 0, 'a wait never ended');
    }),
  );
});

test('waits end in time, whatever the end of another throws', async ({ mock }) => {
  const thrown: unknown[] = [];
  mock.method(globalThis, 'queueMicrotask', (run: () => void) => {
    try {
      run();
    } catch (error) {
      thrown.push(error);
    }
  });
  const clock = new VirtualScheduler();
  const timeouts = new Timeouts(clock);
  const ended: number[] = [];
  const failure = new Error('of one wait');
  timeouts.add(10, () => {
    throw failure;
  });
  for (const ms of [10, 10, 9.5, 10.5]) timeouts.add(ms, () => void ended.push(ms));
  await clock.advance(11);
  assert.deepEqual(ended, [10, 10, 9.5, 10.5]);
  assert.deepEqual(thrown, [failure]);
});

test('the end of a wait runs in the async context of no other wait', async () => {
  const storage = new AsyncLocalStorage<string>();
  const timeouts = new Timeouts(systemScheduler);
  const seen = new Promise((resolve) => {
    // The first of them sets the timer for all.
    storage.run('of another call', () => timeouts.add(1, () => {}));
    timeouts.add(1, () => resolve(storage.getStore()));
  });
  assert.equal(await seen, undefined);
});

test('a wait of another duration costs the same beside 100 000 that run', {
  timeout: 60_000,
}, () => {
  const timeouts = new Timeouts(new VirtualScheduler());
  const stops = Array.from({ length: 100_000 }, (_, n) => timeouts.add(1000 + n, () => {}));
  for (const stop of stops) stop();
});

test('pauses under one signal share one listener, and the last removes it', async () => {
  const clock = new VirtualScheduler();
  const { signal } = new AbortController();
  const pauses = Array.from({ length: 20 }, () => pause(clock, 10, signal));
  assert.equal(getEventListeners(signal, 'abort').length, 1);
  await clock.advance(10);
  await Promise.all(pauses);
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});

test('a pause under a signal rejects with its reason, at once where it has aborted', async () => {
  const clock = new VirtualScheduler();
  const controller = new AbortController();
  const paused = assert.rejects(pause(clock, 10, controller.signal), /enough/);
  controller.abort(new Error('enough'));
  await paused;
  await assert.rejects(pause(clock, 10, controller.signal), /enough/);
});

test('what was read before a stream was open is granted when it opens', async () => {
  const clock = new VirtualScheduler();
  const granted: number[] = [];
  const carrier = {
    cancel() {},
    more() {},
    end() {},
    forget() {},
    grant: (_: unknown, bytes: number) => void granted.push(bytes),
  };
  const call = new StreamCall(carrier, 'topic', { windowBytes: 1000 });
  for (let item = 0; item < 5; item++) {
    call.receive({ headers: {}, body: new Uint8Array(136) }, 200, false);
  }
  for (let item = 0; item < 5; item++) await call.messages.next();
  const next = call.messages.next();
  call.opened(new Timeouts(clock));
  assert.deepEqual(granted, [1000]);
  call.finished({});
  assert.equal((await next).done, true);
});
