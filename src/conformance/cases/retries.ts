/** Retries: what is not settled comes again, when it should and not before. */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import {
  type Case,
  collect,
  eventually,
  message,
  need,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../world.ts';

const FAST = { attempts: 10, backoff: { minMs: 20, maxMs: 50, jitter: false } };

export const retries: readonly Case[] = [
  {
    name: 'handlers that fail twice get everything in the end, with attempts counted',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const attempts = new Map<string, number[]>();
      const done = new Seen<string>();
      await broker.subscribe(
        topic,
        ({ message, attempt }) => {
          const name = text(message);
          attempts.set(name, [...(attempts.get(name) ?? []), attempt]);
          if (attempt <= 2) throw new Error('not yet');
          done.add(name);
        },
        { group: 'g', retry: FAST, concurrency: 5 },
      );
      await publishAll(broker, topic, numbers(0, 100));
      assert.deepEqual(sorted(await done.count(100)), numbers(0, 100));
      for (const [name, each] of attempts) assert.deepEqual(each, [1, 2, 3], name);
    },
  },
  {
    name: 'a nack with a delay comes again no sooner, and soon after',
    needs: need('delayedNack'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const times = new Seen<number>();
      const delays = [0, 300, 1200];
      await broker.subscribe(
        topic,
        async (delivery) => {
          times.add(performance.now());
          const delayMs = delays[delivery.attempt - 1];
          if (delayMs !== undefined) await delivery.nack({ delayMs });
        },
        // The longest delay is beyond ackWaitMs: the deadline must not bring it back earlier.
        { group: 'g', ack: 'manual', ackWaitMs: 1000 },
      );
      await broker.publish(topic, message('x'));
      const at = await times.count(4);
      delays.forEach((delay, index) => {
        const waited = (at[index + 1] as number) - (at[index] as number);
        assert.ok(waited >= delay - 2, `${waited} ms instead of at least ${delay}`);
        assert.ok(waited < delay + 2000, `${waited} ms instead of soon after ${delay}`);
      });
    },
  },
  {
    name: 'a delayed nack holds up nobody else',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        ({ message }) => {
          if (text(message) === '0') throw new Error('poison');
          seen.add(text(message));
        },
        { group: 'g', retry: { attempts: 3, backoff: { minMs: 30_000 } } },
      );
      await publishAll(broker, topic, numbers(0, 50));
      assert.deepEqual(sorted(await seen.count(49)), numbers(1, 50));
    },
  },
  {
    name: 'what its consumer gave back before it went is taken by another, in its time',
    needs: need('delayedNack', 'persistent'),
    async run(world) {
      const topic = world.topic();
      const [first, second] = await Promise.all([world.open(), world.open()]);
      const given = new Seen<number>();
      await first.subscribe(
        topic,
        async (delivery) => {
          const began = performance.now();
          await delivery.nack({ delayMs: 800 });
          given.add(began);
        },
        { group: 'g', ack: 'manual' },
      );
      await first.publish(topic, message('x'));
      const [at] = await given.count(1);
      await first.disconnect();
      const taken = new Seen<Delivery>();
      await second.subscribe(topic, (delivery) => taken.add(delivery), { group: 'g' });
      const [delivery] = await taken.count(1);
      assert.ok(performance.now() - (at as number) >= 795);
      assert.equal(delivery?.attempt, 2);
    },
  },
  {
    name: 'what is neither settled nor extended by its deadline comes again; its late ack is refused',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery), {
        group: 'g',
        ack: 'manual',
        ackWaitMs: 500,
        concurrency: 2,
      });
      await broker.publish(topic, message('x'));
      const [first, second] = (await seen.count(2)) as [Delivery, Delivery];
      assert.deepEqual([first.attempt, second.attempt, second.id === first.id], [1, 2, true]);
      assert.equal(first.signal.aborted, true);
      await assert.rejects(first.ack(), { code: 'DELIVERY_LOST' });
      await assert.rejects(first.nack(), { code: 'DELIVERY_LOST' });
      await second.ack();
      await quiet(1200);
      assert.equal(seen.length, 2);
    },
  },
  {
    name: 'extend gives long work its time',
    needs: need('extend'),
    async run(world) {
      const [one, two] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const seen = new Seen<number>();
      const done = new Seen<string>();
      for (const broker of [one, two]) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            seen.add(delivery.attempt);
            await delivery.extend(300);
            await delivery.extend(3000);
            await quiet(1800);
            await delivery.ack();
            done.add('done');
          },
          { group: 'g', ack: 'manual', ackWaitMs: 600 },
        );
      }
      await one.publish(topic, message('x'));
      await done.count(1);
      await quiet(800);
      assert.deepEqual(seen.items, [1]);
    },
  },
  {
    name: 'settling twice is ALREADY_SETTLED, whatever the second is',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const codes = new Seen<string>();
      await broker.subscribe(
        topic,
        async (delivery) => {
          await delivery.ack();
          const settlements = [
            delivery.ack(),
            delivery.nack(),
            delivery.deadLetter('x'),
            delivery.extend(1000),
          ];
          for (const each of settlements) await each.catch(({ code }) => codes.add(code));
        },
        { group: 'g' },
      );
      await broker.publish(topic, message('x'));
      assert.deepEqual([...(await codes.count(4))], Array(4).fill('ALREADY_SETTLED'));
    },
  },
  {
    name: 'a handler that never returns keeps its messages from nobody',
    async run(world) {
      const [stuck, sound] = await Promise.all([world.open({ drainTimeoutMs: 100 }), world.open()]);
      const topic = world.topic();
      const began = new Seen<string>();
      await stuck.subscribe(
        topic,
        ({ message }) => {
          began.add(text(message));
          return new Promise(() => {});
        },
        { group: 'g', ackWaitMs: 500, maxInFlight: 2 },
      );
      await publishAll(stuck, topic, numbers(0, 4));
      await began.count(1);
      const { seen } = await collect(sound, topic, { group: 'g', ackWaitMs: 500 });
      await seen.until((items) => items.includes(began.items[0] as string), 'the stuck one');
      // The one that waited behind the stuck handler is given back when that consumer goes.
      await stuck.disconnect();
      await seen.until((items) => new Set(items).size === 4, 'all four');
    },
  },
  {
    name: 'errors reported, a failed group member does not stop the others',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const errors = new Seen<unknown>();
      broker.on('handlerError', ({ error }) => errors.add((error as Error).message));
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        () => {
          throw new Error('always');
        },
        { group: 'bad', retry: { attempts: 2, backoff: { minMs: 10, jitter: false } } },
      );
      await broker.subscribe(topic, (each) => seen.add(text(each)), {
        group: 'good',
      });
      await publishAll(broker, topic, numbers(0, 10));
      assert.deepEqual(sorted(await seen.count(10)), numbers(0, 10));
      await errors.count(20);
    },
  },
  {
    name: 'pending() lists who holds what, for how long, how often',
    needs: need('pendingList'),
    async run(world) {
      const broker = await world.open({ clientName: 'worker-7' });
      const topic = world.topic();
      const seen = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery), {
        group: 'g',
        ack: 'manual',
        concurrency: 5,
      });
      const receipts = await publishAll(broker, topic, numbers(0, 5));
      const deliveries = await seen.count(5);
      await deliveries[0]?.ack();
      await deliveries[1]?.nack({ delayMs: 60_000 });
      const entries = await broker.pending(topic, 'g');
      assert.deepEqual(
        entries.map(({ id }) => id),
        receipts.slice(1).map(({ id }) => id),
      );
      assert.equal(entries[0]?.consumer, '', 'nobody holds what waits for its retry');
      assert.match(entries[1]?.consumer ?? '', /^worker-7/);
      assert.ok(entries.every(({ attempts, idleMs }) => attempts === 1 && idleMs < 10_000));
      const page = await broker.pending(topic, 'g', { limit: 2, after: entries[0]?.id ?? '' });
      assert.deepEqual(
        page.map(({ id }) => id),
        receipts.slice(2, 4).map(({ id }) => id),
      );
      assert.deepEqual(await broker.pending(topic, 'g', { minIdleMs: 60_000 }), []);
      await assert.rejects(broker.pending(topic, 'nobody'), { code: 'NOT_FOUND' });
    },
  },
  {
    name: 'what is trimmed away while pending is reported and does not stay for ever',
    needs: need('persistent', 'pendingList'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery), {
        group: 'g',
        ack: 'manual',
        ackWaitMs: 500,
        concurrency: 2,
      });
      await broker.publish(topic, message('old'));
      await seen.count(1);
      for (const each of numbers(0, 300)) {
        await broker.publish(topic, message(each), { maxLength: 1 });
      }
      await eventually('the trimmed one is no longer pending', async () => {
        for (const delivery of seen.items) await delivery.ack().catch(() => {});
        const entries = await broker.pending(topic, 'g');
        return entries.every(({ id }) => id !== seen.items[0]?.id);
      });
    },
  },
];
