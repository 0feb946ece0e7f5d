/** Delayed and scheduled publishing. */
import assert from 'node:assert/strict';
import type { Message } from '../../broker/message.ts';
import { type Case, collect, message, need, quiet, Seen, text } from '../world.ts';

const needs = need('delayedPublish');

export const delays: readonly Case[] = [
  {
    name: 'a delayed message comes no sooner, and soon after, in order of time',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<{ name: string; at: number }>();
      await broker.subscribe(
        topic,
        (delivery) => seen.add({ name: text(delivery), at: performance.now() }),
        { group: 'g' },
      );
      // The first one makes the topic; making what the delays need takes some servers a while, too.
      const began = new Map<string, number>();
      for (const delayMs of [0, 1600, 400]) {
        began.set(String(delayMs), performance.now());
        const options = delayMs === 0 ? {} : { delayMs };
        await broker.publish(topic, message(String(delayMs)), options);
      }
      const got = await seen.count(3);
      assert.deepEqual(
        got.map(({ name }) => name),
        ['0', '400', '1600'],
      );
      for (const { name, at } of got) {
        const waited = at - (began.get(name) as number);
        assert.ok(waited >= Number(name) - 2 && waited < Number(name) + 2000, `${name}: ${waited}`);
      }
    },
  },
  {
    name: 'a message for a time in the past comes at once, one for a time to come then',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const times = new Map<string, number>();
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        (delivery) => {
          times.set(text(delivery), Date.now());
          seen.add(text(delivery));
        },
        { group: 'g' },
      );
      const now = Date.now();
      await broker.publish(topic, message('past'), { deliverAt: new Date(now - 60_000) });
      await seen.count(1);
      const deliverAt = new Date(Date.now() + 500);
      await broker.publish(topic, message('later'), { deliverAt });
      await seen.count(2);
      assert.ok((times.get('past') as number) - now < 5000);
      const late = (times.get('later') as number) - deliverAt.getTime();
      assert.ok(late >= -2 && late < 2000, `${late}`);
    },
  },
  {
    name: 'a delayed message outlives its publisher',
    needs: need('delayedPublish', 'persistent'),
    async run(world) {
      const [publisher, subscriber] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const seen = new Seen<Message>();
      await subscriber.subscribe(topic, (each) => seen.add(each.message), { group: 'g' });
      await publisher.publish(topic, message('x', 'k', { a: 'ü' }), { delayMs: 600 });
      await publisher.disconnect();
      const [got] = await seen.count(1);
      assert.deepEqual(
        [text(got as Message), got?.key, { ...got?.headers }],
        ['x', 'k', { a: 'ü' }],
      );
    },
  },
  {
    name: 'a delayed message with an id is there once',
    needs: need('delayedPublish', 'dedup'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const { seen } = await collect(broker, topic, { group: 'g' });
      const options = { delayMs: 200, id: 'reminder' };
      const first = await broker.publish(topic, message('x'), options);
      const again = await broker.publish(topic, message('x'), options);
      assert.deepEqual(
        [first.duplicate, again.duplicate, again.id === first.id],
        [false, true, true],
      );
      await seen.count(1);
      await quiet(400);
      assert.equal(seen.length, 1);
    },
  },
];
