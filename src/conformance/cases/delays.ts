/** Delayed and scheduled publishing. */
import assert from 'node:assert/strict';
import type { RawMessage } from '../../broker/message/message.ts';
import {
  assertPassed,
  assertWithin,
  type Case,
  collect,
  type Moment,
  message,
  need,
  now,
  quiet,
  Seen,
  text,
} from '../case-context.ts';

/** What a machine that does other work may add. */
const LATE_MS = 10_000;

const needs = need('delayedPublish');

export const delays: readonly Case[] = [
  {
    name: 'delayed messages are delivered at their times, not earlier, in order of time',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<{ name: string; at: Moment }>();
      await broker.subscribe(topic, (delivery) => seen.add({ name: text(delivery), at: now() }), {
        group: 'g',
      });
      // The first publish creates the topic and, on some servers, what delays need, which takes time.
      const began = new Map<string, Moment>();
      for (const delayMs of [0, 1600, 400]) {
        began.set(String(delayMs), now());
        const options = delayMs === 0 ? {} : { delayMs };
        await broker.publish(topic, message(String(delayMs)), options);
      }
      const got = await seen.count(3);
      assert.deepEqual(
        got.map(({ name }) => name),
        ['0', '400', '1600'],
      );
      for (const { name, at } of got) {
        const from = began.get(name) as Moment;
        assertPassed(from, at, Number(name), name);
        assertWithin(from, at, Number(name) + LATE_MS, name);
      }
    },
  },
  {
    name: 'of many delayed messages with different delays none is delivered early',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<{ name: string; at: Moment }>();
      await broker.subscribe(topic, (delivery) => seen.add({ name: text(delivery), at: now() }), {
        group: 'g',
      });
      await broker.publish(topic, message('first'));
      await seen.count(1);
      const began = new Map<string, Moment>();
      for (let delayMs = 250; delayMs < 1000; delayMs += 11) {
        began.set(String(delayMs), now());
        await broker.publish(topic, message(String(delayMs)), { delayMs });
      }
      const [, ...delayed] = await seen.count(1 + began.size);
      for (const { name, at } of delayed) {
        assertPassed(began.get(name) as Moment, at, Number(name), name);
      }
    },
  },
  {
    name: 'a message for a past time is delivered at once, one for a future time at that time',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const times = new Map<string, Moment>();
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        (delivery) => {
          times.set(text(delivery), now());
          seen.add(text(delivery));
        },
        { group: 'g' },
      );
      const began = now();
      await broker.publish(topic, message('past'), { deliverAt: new Date(began.date - 60_000) });
      await seen.count(1);
      const again = now();
      const deliverAt = new Date(again.date + 500);
      await broker.publish(topic, message('later'), { deliverAt });
      await seen.count(2);
      assertWithin(began, times.get('past') as Moment, LATE_MS, 'past');
      assertPassed(again, times.get('later') as Moment, 500, 'later');
      assertWithin(again, times.get('later') as Moment, 500 + LATE_MS, 'later');
    },
  },
  {
    name: 'a delayed message outlives its publisher',
    needs: need('delayedPublish', 'persistent'),
    async run(context) {
      const [publisher, subscriber] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<RawMessage>();
      await subscriber.subscribe(topic, (each) => seen.add(each.message), { group: 'g' });
      await publisher.publish(topic, message('x', 'k', { a: 'ü' }), { delayMs: 600 });
      await publisher.disconnect();
      const [got] = await seen.count(1);
      assert.deepEqual(
        [text(got as RawMessage), got?.key, { ...got?.headers }],
        ['x', 'k', { a: 'ü' }],
      );
    },
  },
  {
    name: 'a delayed message with a dedupId is stored once',
    needs: need('delayedPublish', 'dedup'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const { seen } = await collect(broker, topic, { group: 'g' });
      const options = { delayMs: 200, dedupId: 'reminder' };
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
  {
    name: 'a delayed message of a deleted topic does not reach a new topic of its name',
    needs: need('delayedPublish', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.publish(topic, message('late'), { delayMs: 1000 });
      await broker.deleteTopic(topic);
      const { seen } = await collect(broker, topic, { group: 'g' });
      await broker.publish(topic, message('new'));
      await seen.count(1);
      // Published later and due later than the one that must not come.
      await broker.publish(topic, message('later'), { delayMs: 1500 });
      await seen.count(2);
      assert.deepEqual(seen.items, ['new', 'later']);
    },
  },
  {
    name: 'for a group that begins at a time, a delayed message counts from when it is due',
    needs: need('delayedPublish', 'replayByTime'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.publish(topic, message('before'));
      const first = await collect(broker, topic, { group: 'first' });
      await broker.publish(topic, message('late'), { delayMs: 2500 });
      await quiet(700);
      const time = new Date();
      await quiet(10);
      await broker.publish(topic, message('now'));
      // What has reached a group that was there before is stored.
      await first.seen.count(2);
      assert.deepEqual(first.seen.items, ['now', 'late']);
      const { seen } = await collect(broker, topic, { group: 'g', from: { time } });
      await seen.count(2);
      assert.deepEqual(seen.items.toSorted(), ['late', 'now']);
    },
  },
];
