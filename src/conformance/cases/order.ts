/** Order: per key with parallelism across keys, and strict. */
import assert from 'node:assert/strict';
import { type Case, message, need, numbers, quiet, Seen, text } from '../world.ts';

const FAST = { minMs: 20, maxMs: 50, jitter: false };

export const order: readonly Case[] = [
  {
    name: 'one subscriber, one at a time, gets messages in the order they were published',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<string>();
      await broker.subscribe(topic, (each) => seen.add(text(each)), { group: 'g' });
      for (const each of numbers(0, 200)) await broker.publish(topic, message(each));
      assert.deepEqual([...(await seen.count(200))], numbers(0, 200));
    },
  },
  {
    name: 'by key: each of 16 keys in order with several subscribers, retries included, keys in parallel',
    needs: need('orderPerKey'),
    async run(world) {
      const brokers = await Promise.all([world.open(), world.open(), world.open()]);
      const topic = world.topic();
      const byKey = new Map<string, number[]>();
      const done = new Seen<string>();
      let running = 0;
      let most = 0;
      for (const broker of brokers) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            const number = Number(text(delivery));
            const key = delivery.message.key as string;
            most = Math.max(most, ++running);
            await quiet(1);
            running--;
            if (number % 25 === 0 && delivery.attempt === 1) throw new Error('once');
            byKey.set(key, [...(byKey.get(key) ?? []), number]);
            done.add(String(number));
          },
          {
            group: 'g',
            ordered: 'by-key',
            concurrency: 8,
            maxInFlight: 50,
            retry: { attempts: 5, backoff: FAST },
          },
        );
      }
      for (const each of numbers(0, 200)) {
        await brokers[0].publish(topic, message(each, `key-${Number(each) % 16}`));
      }
      await done.count(200);
      for (const [key, seen] of byKey) {
        assert.deepEqual(
          seen,
          [...seen].sort((a, b) => a - b),
          key,
        );
      }
      assert.ok(most > 1, 'keys run beside each other');
    },
  },
  {
    name: 'strictly: one at a time, nothing passes a message that is retried',
    needs: need('strictOrder'),
    async run(world) {
      const brokers = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const seen = new Seen<string>();
      let running = 0;
      for (const broker of brokers) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            assert.equal(++running, 1);
            await quiet(1);
            running--;
            if (text(delivery) === '7' && delivery.attempt < 3) throw new Error('wait');
            seen.add(text(delivery));
          },
          { group: 'g', ordered: 'strictly', retry: { attempts: 5, backoff: FAST } },
        );
      }
      for (const each of numbers(0, 30)) await brokers[0].publish(topic, message(each));
      assert.deepEqual([...(await seen.count(30))], numbers(0, 30));
    },
  },
  {
    name: 'strictly: a second message waits for the acknowledgement of the first',
    needs: need('strictOrder'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<() => Promise<void>>();
      await broker.subscribe(topic, (delivery) => seen.add(() => delivery.ack()), {
        group: 'g',
        ack: 'manual',
        ordered: 'strictly',
      });
      await broker.publish(topic, message('1'));
      await broker.publish(topic, message('2'));
      const [ack] = await seen.count(1);
      await quiet(200);
      assert.equal(seen.length, 1);
      await ack?.();
      await seen.count(2);
    },
  },
  {
    name: 'in order, another subscriber takes over where the first left, in order',
    needs: need('strictOrder', 'persistent'),
    async run(world) {
      const [first, second] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const seen = new Seen<string>();
      const options = { group: 'g', ordered: 'strictly', maxInFlight: 5 } as const;
      const handle = (delivery: Parameters<typeof text>[0]) => seen.add(text(delivery));
      await first.subscribe(topic, handle, options);
      await second.subscribe(topic, handle, options);
      for (const each of numbers(0, 10)) await first.publish(topic, message(each));
      await seen.count(5);
      await first.disconnect();
      for (const each of numbers(10, 20)) await second.publish(topic, message(each));
      assert.deepEqual([...(await seen.count(20))], numbers(0, 20));
    },
  },
];
