/** Loops over deliveries, on a virtual clock: what they hold, what they give back, and at random. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Delivery, IterableSubscriber } from '../../src/broker/broker.ts';
import { createTestBroker } from '../../src/broker/testing.ts';
import { Random } from '../../src/util/random.ts';
import { seedOf } from '../helpers/seed.ts';

const bodies = (count: number) => Array.from({ length: count }, (_, i) => ({ body: String(i) }));

test('a subscriber that no loop reads takes nothing from the others', async () => {
  await using t = await createTestBroker();
  const options = { group: 'g', maxInFlight: 50, ackWaitMs: 1000 };
  const unread = await t.broker.subscribe('t', options);
  await t.broker.publishBatch('t', bodies(20));
  const seen: string[] = [];
  await t.broker.subscribe('t', (delivery) => seen.push(delivery.text()), options);
  await t.advance(1);
  assert.equal(unread.inFlight, 0);
  assert.equal(seen.length, 20);
});

test('what was fetched for a loop that asks no more is given back after ackWaitMs, uncounted', async () => {
  await using t = await createTestBroker();
  const options = { group: 'g', maxInFlight: 30, ackWaitMs: 1000 };
  const subscriber = await t.broker.subscribe('t', options);
  const loop = subscriber[Symbol.asyncIterator]();
  await t.broker.publishBatch('t', bodies(100));
  for (let n = 0; n < 60; n++) {
    const { value } = await loop.next();
    await value?.ack();
  }
  await t.settle();
  assert.ok(subscriber.inFlight > 5, 'it fetches ahead by now');
  const seen: string[] = [];
  await t.broker.subscribe('t', (each) => seen.push(`${each.text()} ${each.attempt}`), options);
  await t.advance(500);
  assert.ok(seen.length < 40);
  await t.advance(2000);
  assert.equal(subscriber.inFlight, 0);
  assert.deepEqual(
    seen.map((each) => each.split(' ')[1]),
    Array.from({ length: 40 }, () => '1'),
    'none of them counts as an attempt',
  );
  // When it asks again, it has its share again.
  await t.broker.publish('t', { body: 'later' });
  await t.broker.publish('t', { body: 'later' });
  const next = loop.next();
  await t.advance(1);
  await loop.return?.();
  await next;
});

test('a loop that asks now and then keeps what was fetched for it', async () => {
  await using t = await createTestBroker();
  const subscriber = await t.broker.subscribe('t', {
    group: 'g',
    maxInFlight: 30,
    ackWaitMs: 1000,
  });
  const loop = subscriber[Symbol.asyncIterator]();
  await t.broker.publishBatch('t', bodies(100));
  for (let n = 0; n < 10; n++) {
    await loop.next();
    await t.advance(700);
    assert.ok(subscriber.inFlight > 20, `${subscriber.inFlight} after ${n} bodies of 700 ms`);
  }
  await loop.return?.();
});

test('a body that takes longer than ackWaitMs loses its message, and the loop goes on', async () => {
  await using t = await createTestBroker();
  const subscriber = await t.broker.subscribe('t', { group: 'g', ackWaitMs: 1000 });
  const loop = subscriber[Symbol.asyncIterator]();
  await t.broker.publish('t', { body: 'x' });
  const first = (await loop.next()).value as Delivery;
  await t.advance(1500);
  assert.ok(first.signal.aborted);
  await assert.rejects(first.ack(), { code: 'DELIVERY_LOST' });
  const next = loop.next();
  await t.advance(10);
  const second = (await next).value as Delivery;
  assert.equal(second.attempt, 2);
  await second.ack();
  const last = loop.next();
  await subscriber.unsubscribe();
  assert.equal((await last).done, true);
});

test('next, return and the end in any order leave nothing waiting', async () => {
  await using t = await createTestBroker();
  const subscriber = await t.broker.subscribe('t', { group: 'g' });
  const loop = subscriber[Symbol.asyncIterator]();
  const pending = [loop.next(), loop.next()];
  await loop.return?.();
  for (const step of await Promise.all(pending)) assert.equal(step.done, true);
  assert.equal((await loop.next()).done, true);
  assert.equal((await loop.return?.())?.done, true);
  assert.equal((await subscriber[Symbol.asyncIterator]().next()).done, true);
  await t.broker.publish('t', { body: 'x' });
  const other = await t.broker.subscribe('t', { group: 'g' });
  const both = other[Symbol.asyncIterator]();
  const steps = [both.next(), both.next()];
  await t.broker.publish('t', { body: 'y' });
  const texts = (await Promise.all(steps)).map(({ value }) => value?.text());
  assert.deepEqual(texts, ['x', 'y'], 'the second step acknowledges the first');
  await both.return?.();
});

/** What the twin knows of a message. */
interface Known {
  attempts: number;
  isSettled: boolean;
}

test('loops at random lose nothing, settle once, and count each hand-over once', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  for (let round = 0; round < 30; round++) {
    const at = `seed ${seed}, round ${round}`;
    await using t = await createTestBroker({ seed: seed + round });
    const count = 1 + random.below(40);
    const known = new Map<string, Known>();
    const group = { group: 'g', retry: { attempts: 1000, backoff: { minMs: 1, maxMs: 1 } } };
    await (await t.broker.subscribe('t', group)).unsubscribe();
    await t.broker.publishBatch('t', bodies(count));
    const isOpen = () => [...known.values()].filter((each) => each.isSettled).length < count;
    for (let loops = 0; isOpen(); loops++) {
      assert.ok(loops < 500, `${at}: it does not end`);
      const isManual = random.chance(0.5);
      const inBatches = random.chance(0.5);
      const subscriber = (await t.broker.subscribe('t', {
        ...group,
        ack: isManual ? 'manual' : 'auto',
        ordered: random.pick(['none', 'strict'] as const),
        ...(inBatches ? { batch: { size: 1 + random.below(5), waitMs: 0 } } : {}),
      } as object)) as IterableSubscriber<Delivery | readonly Delivery[]>;
      const steps = 1 + random.below(10);
      let before: Delivery[] = [];
      const body = async (item: Delivery | readonly Delivery[]) => {
        // Asking for this one has acknowledged what the body before had left open.
        if (!isManual) for (const each of before) settle(each);
        before = [];
        for (const delivery of [item].flat() as Delivery[]) {
          const id = delivery.text();
          const twin = known.get(id) ?? { attempts: 0, isSettled: false };
          known.set(id, twin);
          assert.ok(!twin.isSettled, `${at}: ${id} came after it was acknowledged`);
          assert.equal(delivery.attempt, ++twin.attempts, `${at}: attempt of ${id}`);
          const chosen = random.below(4);
          if (chosen === 0) await delivery.ack().then(() => settle(delivery));
          else if (chosen === 1) await delivery.nack({ delayMs: 1 });
          else before.push(delivery);
          if (isManual && chosen > 1) await delivery.ack().then(() => settle(delivery));
        }
      };
      const settle = (delivery: Delivery) => {
        const twin = known.get(delivery.text());
        if (twin !== undefined) twin.isSettled = true;
      };
      let isOver = false;
      const running = (async () => {
        let step = 0;
        for await (const item of subscriber) {
          await body(item);
          if (++step >= steps) break;
        }
        isOver = true;
      })();
      await t.advance(10);
      if (!isOver) {
        // It waits for what does not come; what its last body had left open is acknowledged by then.
        if (!isManual) for (const each of before) settle(each);
        await subscriber.unsubscribe();
      }
      await running;
      assert.equal(subscriber.inFlight, 0, at);
    }
    const seen: string[] = [];
    await t.broker.subscribe('t', (delivery) => seen.push(delivery.text()), group);
    await t.advance(100);
    assert.deepEqual(seen, [], `${at}: what is acknowledged does not come again`);
  }
});
