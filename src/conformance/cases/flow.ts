/** Bounds: messages in flight, and the effect of a slow consumer on others. */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import {
  type Case,
  collect,
  eventually,
  need,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../case-context.ts';

export const flow: readonly Case[] = [
  {
    name: 'maxInFlight is a hard bound, and other consumers get the rest',
    needs: need('maxInFlight'),
    async run(context) {
      const [one, two] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const held = new Seen<Delivery>();
      const subscriber = await one.subscribe(topic, (delivery) => held.add(delivery), {
        group: 'g',
        ack: 'manual',
        concurrency: 50,
        maxInFlight: 7,
      });
      await publishAll(one, topic, numbers(0, 50));
      await held.count(7);
      await quiet(200);
      assert.deepEqual([held.length, subscriber.inFlight], [7, 7]);
      const { seen } = await collect(two, topic, { group: 'g' });
      await seen.count(43);
      for (const delivery of held.items) await delivery.ack();
      assert.equal(subscriber.inFlight, 0);
      await publishAll(one, topic, numbers(50, 60));
      // Either of the two may get the last one.
      await eventually('the rest comes', () => seen.length + held.length >= 60);
      assert.deepEqual(sorted([...seen.items, ...held.items.map(text)]), numbers(0, 60));
    },
  },
  {
    name: 'maxInFlight bounds a subscriber with wildcards over all its topics together',
    needs: need('maxInFlight', 'wildcards', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      const topics = numbers(0, 12).map((each) => `${base}.t${each}`);
      for (const topic of topics) await publishAll(broker, topic, ['1', '2', '3']);
      const held: Delivery[] = [];
      let most = 0;
      const seen = new Seen<string>();
      await broker.subscribe(
        `${base}.*`,
        (delivery) => {
          held.push(delivery);
          most = Math.max(most, held.length);
          seen.add(text(delivery));
        },
        { group: 'g', from: 'earliest', ack: 'manual', concurrency: 40, maxInFlight: 2 },
      );
      for (let settled = 0; settled < 36; ) {
        await eventually('the next one comes', () => held.length > 0);
        await quiet(20);
        for (const delivery of held.splice(0)) {
          await delivery.ack();
          settled++;
        }
      }
      assert.equal(seen.length, 36);
      assert.ok(most <= 2, `${most} were in flight`);
    },
  },
  {
    name: 'as many handlers run at once as `concurrency` says, and no more',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      let running = 0;
      let most = 0;
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        async (delivery) => {
          most = Math.max(most, ++running);
          await quiet(5);
          running--;
          seen.add(text(delivery));
        },
        { group: 'g', concurrency: 6, maxInFlight: 20 },
      );
      await publishAll(broker, topic, numbers(0, 60));
      await seen.count(60);
      assert.equal(most, 6);
    },
  },
  {
    name: 'a slow consumer slows neither the publisher nor another group',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const slow = new Seen<string>();
      await broker.subscribe(
        topic,
        async (delivery) => {
          await quiet(100);
          slow.add(text(delivery));
        },
        { group: 'slow' },
      );
      const fast = await collect(broker, topic, { group: 'fast', concurrency: 10 });
      await publishAll(broker, topic, numbers(0, 100));
      await fast.seen.count(100);
      // The slow one takes ten seconds for all.
      assert.ok(slow.length < 100, `${slow.length}`);
    },
  },
];
