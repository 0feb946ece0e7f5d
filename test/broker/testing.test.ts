/** The broker on a virtual clock: days in milliseconds, and one seed one run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import type { RawMessage } from '../../src/broker/message/message.ts';
import { createTestBroker, type TestBroker } from '../../src/broker/testing.ts';
import type { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const HOUR = 3_600_000;

function message(text: string, key?: string): RawMessage {
  return { headers: {}, body: Buffer.from(text), ...(key === undefined ? {} : { key }) };
}

function text({ body }: RawMessage): string {
  return Buffer.from(body).toString();
}

test('a backoff of 24 hours is over in milliseconds, and not a moment early', async () => {
  await using t = await createTestBroker();
  const times: number[] = [];
  await t.broker.subscribe(
    'orders',
    () => {
      times.push(t.now().getTime());
      throw new Error('still closed');
    },
    {
      group: 'billing',
      retry: {
        attempts: 4,
        backoff: { minMs: 24 * HOUR, maxMs: 72 * HOUR, factor: 2, jitter: false },
      },
    },
  );
  const dead: string[] = [];
  await t.broker.subscribe('orders.dead', ({ message }) => dead.push(text(message)), {
    group: 'd',
  });
  await t.broker.publish('orders', message('1'));
  await t.settle();
  await t.advance(24 * HOUR - 1);
  assert.equal(times.length, 1);
  const began = performance.now();
  await t.advance(1);
  assert.equal(times.length, 2);
  await t.advance(30 * 24 * HOUR);
  assert.ok(performance.now() - began < 2000);
  const [first = 0] = times;
  assert.deepEqual(
    times.map((time) => (time - first) / HOUR),
    [0, 24, 24 + 48, 24 + 48 + 72],
  );
  assert.deepEqual(dead, ['1']);
});

test('a message for next week comes next week, to a service that was not there before', async () => {
  await using t = await createTestBroker({ now: new Date('2030-01-01T00:00:00Z') });
  await t.broker.publish('reminders', message('pay'), {
    deliverAt: new Date('2030-01-08T09:00:00Z'),
  });
  await t.advance(6 * 24 * HOUR);
  const late = await t.open();
  const got: string[] = [];
  await late.subscribe('reminders', () => got.push(t.now().toISOString()), { group: 'g' });
  await t.advance(2 * 24 * HOUR);
  assert.deepEqual(got, ['2030-01-08T09:00:00.000Z']);
});

test('work that never ends is taken over by another after ackWaitMs of virtual time', async () => {
  await using t = await createTestBroker({ options: { drainTimeoutMs: 100 } });
  const other = await t.open();
  const attempts: [string, number, number][] = [];
  const handle = (name: string, stuck: boolean) => (delivery: { attempt: number }) => {
    attempts.push([name, delivery.attempt, t.now().getTime() % 1_000_000]);
    return stuck ? new Promise(() => {}) : undefined;
  };
  const options = { group: 'g', ackWaitMs: 60_000 };
  await t.broker.subscribe('jobs', handle('stuck', true), options);
  await t.broker.publish('jobs', message('x'));
  await t.settle();
  await other.subscribe('jobs', handle('sound', false), options);
  await t.advance(59_999);
  assert.equal(attempts.length, 1);
  await t.advance(1);
  assert.deepEqual(
    attempts.map(([name, attempt]) => [name, attempt]),
    [
      ['stuck', 1],
      ['sound', 2],
    ],
  );
});

/** What happens in a little world with everything that draws numbers. */
async function history(seed: number): Promise<string[]> {
  await using t = await createTestBroker({ seed });
  const brokers: Broker[] = [t.broker, await t.open(), await t.open()];
  const lines: string[] = [];
  for (const [index, broker] of brokers.entries()) {
    await broker.subscribe(
      'work',
      async ({ message, attempt }) => {
        await t.pause(5 + index);
        lines.push(`${t.now().getTime()} ${index} ${text(message)} ${attempt}`);
        if (Number(text(message)) % 3 === 0 && attempt < 4) throw new Error('again');
      },
      { group: 'g', concurrency: 2, retry: { attempts: 5, backoff: { minMs: 100 } } },
    );
  }
  for (let i = 0; i < 30; i++) {
    await brokers[i % 3]?.publish('work', message(String(i)), { delayMs: (i * 37) % 50 });
  }
  await t.advance(HOUR);
  assert.ok(lines.length >= 60);
  return lines;
}

test('equal seeds give one history to the millisecond, other seeds another', async () => {
  const first = await history(1);
  assert.deepEqual(await history(1), first);
  assert.notDeepEqual(await history(2), first);
});

test('request and reply, with timeouts in virtual time', async () => {
  await using t = await createTestBroker();
  await t.broker.respond('slow', async (request) => {
    await t.pause(5000);
    return request;
  });
  const answered = t.broker.request('slow', message('x'), { timeoutMs: 6000 });
  await t.advance(5000);
  assert.equal(text(await answered), 'x');
  const late = assert.rejects(t.broker.request('slow', message('x'), { timeoutMs: 4000 }), {
    code: 'TIMEOUT',
  });
  await t.advance(4000);
  await late;
});

test('nothing is left on the clock when it is disposed of', async () => {
  const { scheduler, broker } = await (async () => {
    await using t: TestBroker = await createTestBroker();
    await t.broker.subscribe('a.*', () => t.pause(1000), { group: 'g' });
    await t.broker.publish('a.b', message('x'));
    await t.broker.publish('a.b', message('y'), { delayMs: 1e9 });
    await t.settle();
    return t;
  })();
  assert.equal((scheduler as VirtualScheduler).pendingTimers, 0);
  await assert.rejects(broker.publish('a.b', message('z')), { code: 'CLOSED' });
});
