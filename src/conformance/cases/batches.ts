/** Batch handlers: how many messages one call gets, and what happens when it fails. */
import assert from 'node:assert/strict';
import { type Case, message, numbers, publishAll, Seen, sorted, text } from '../case-context.ts';

export const batches: readonly Case[] = [
  {
    name: 'a batch handler gets up to `size` messages, or those that have arrived after `waitMs`',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const sizes = new Seen<number>();
      const seen = new Seen<string>();
      await broker.subscribe(
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
    name: 'a batch that is not full waits for waitMs, and one that fills does not',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const batches = new Seen<{ size: number; at: number }>();
      await broker.subscribe(
        topic,
        (deliveries) => batches.add({ size: deliveries.length, at: performance.now() }),
        { group: 'g', batch: { size: 5, waitMs: 2000 }, maxInFlight: 20 },
      );
      const began = performance.now();
      await publishAll(broker, topic, numbers(0, 3));
      const [partial] = await batches.count(1);
      assert.equal(partial?.size, 3);
      const waited = (partial?.at as number) - began;
      assert.ok(waited >= 1990, `a partial batch came after ${waited} ms`);
      const again = performance.now();
      await publishAll(broker, topic, numbers(0, 5));
      const [, full] = await batches.count(2);
      assert.equal(full?.size, 5);
      assert.ok((full?.at as number) - again < 1900, 'a full batch does not wait');
    },
  },
  {
    name: 'a batch handler that throws gets the messages that it had not settled again',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const attempts = new Map<string, number>();
      const done = new Seen<string>();
      await broker.subscribe(
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
