/** Replay: a group starts at, or moves to, a given position. */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import {
  type Case,
  collect,
  message,
  need,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
} from '../case-context.ts';

export const replaying: readonly Case[] = [
  {
    name: 'a group begins after an id, or at a time',
    needs: need('replayById', 'replayByTime'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const receipts = await publishAll(broker, topic, numbers(0, 5));
      await quiet(20);
      const time = new Date();
      await quiet(20);
      await publishAll(broker, topic, numbers(5, 10));
      const byId = await collect(broker, topic, {
        group: 'id',
        from: { id: receipts[2]?.id as string },
      });
      const byTime = await collect(broker, topic, { group: 'time', from: { time } });
      assert.deepEqual(sorted(await byId.seen.count(7)), numbers(3, 10));
      assert.deepEqual(sorted(await byTime.seen.count(5)), numbers(5, 10));
      assert.deepEqual([byId.seen.length, byTime.seen.length], [7, 5]);
    },
  },
  {
    name: 'replay from the earliest, an id, a time and new, while a subscriber reads',
    needs: need('replayById', 'replayByTime'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const { seen } = await collect(broker, topic, { group: 'g' });
      const receipts = await publishAll(broker, topic, numbers(0, 5));
      await seen.count(5);
      await broker.replay(topic, 'g', 'earliest');
      await seen.count(10);
      await broker.replay(topic, 'g', { id: receipts[3]?.id as string });
      await seen.count(11);
      await broker.replay(topic, 'g', { time: new Date(Date.now() - 60_000) });
      await seen.count(16);
      await broker.replay(topic, 'g', 'new');
      await broker.publish(topic, message('5'));
      await seen.count(17);
      assert.deepEqual(seen.items.slice(5, 10), numbers(0, 5));
      assert.deepEqual(seen.items.slice(10, 11), ['4']);
      assert.equal(seen.items.at(-1), '5');
    },
  },
  {
    name: 'replay drops what is pending: its acknowledgement is refused',
    needs: need('replayById', 'pendingList'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const held = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => held.add(delivery), {
        group: 'g',
        ack: 'manual',
      });
      await broker.publish(topic, message('x'));
      const [delivery] = await held.count(1);
      await broker.replay(topic, 'g', 'new');
      await assert.rejects((delivery as Delivery).ack(), { code: 'DELIVERY_LOST' });
      assert.deepEqual(await broker.pending(topic, 'g'), []);
      await assert.rejects(broker.replay(topic, 'no-group', 'earliest'), { code: 'NOT_FOUND' });
    },
  },
];
