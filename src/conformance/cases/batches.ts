/** Handlers of many at once. */
import assert from 'node:assert/strict';
import { type Case, message, numbers, publishAll, Seen, sorted, text } from '../world.ts';

export const batches: readonly Case[] = [
  {
    name: 'a batch handler gets up to size, and what there is after waitMs',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const sizes = new Seen<number>();
      const seen = new Seen<string>();
      await broker.subscribeBatch(
        topic,
        (deliveries) => {
          sizes.add(deliveries.length);
          for (const delivery of deliveries) seen.add(text(delivery));
        },
        { group: 'g', batch: { size: 20, waitMs: 50 } },
      );
      await publishAll(broker, topic, numbers(0, 90));
      assert.deepEqual(sorted(await seen.count(90)), numbers(0, 90));
      assert.ok(sizes.items.every((size) => size <= 20));
      assert.ok(sizes.length < 45, `${sizes.length} batches`);
      await broker.publish(topic, message('last'));
      await seen.count(91);
      assert.equal(sizes.items.at(-1), 1);
    },
  },
  {
    name: 'a batch handler that throws gets back what it had not settled',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const attempts = new Map<string, number>();
      const done = new Seen<string>();
      await broker.subscribeBatch(
        topic,
        async (deliveries) => {
          for (const delivery of deliveries) {
            attempts.set(text(delivery), delivery.attempt);
            if (Number(text(delivery)) % 2 === 0) {
              await delivery.ack();
              done.add(text(delivery));
            } else if (delivery.attempt > 1) {
              done.add(text(delivery));
            }
          }
          if (deliveries.some(({ attempt }) => attempt === 1)) throw new Error('odd ones again');
        },
        {
          group: 'g',
          batch: { size: 10, waitMs: 20 },
          retry: { attempts: 5, backoff: { minMs: 20, maxMs: 20, jitter: false } },
        },
      );
      await publishAll(broker, topic, numbers(0, 20));
      await done.until((items) => new Set(items).size === 20, 'all twenty');
      for (const [name, attempt] of attempts) {
        if (Number(name) % 2 === 0) assert.equal(attempt, 1, name);
        else assert.ok(attempt >= 2, name);
      }
    },
  },
];
