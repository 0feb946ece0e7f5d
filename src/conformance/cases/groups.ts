/** Groups: which subscriber gets which message. */
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
} from '../case-context.ts';

export const groups: readonly Case[] = [
  {
    name: 'each of two groups gets every message, and its members share them',
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = { a: new Seen<string>(), b: new Seen<string>() };
      for (const group of ['a', 'b'] as const) {
        for (const broker of brokers) {
          await broker.subscribe(topic, (each) => seen[group].add(text(each)), {
            group,
          });
        }
      }
      for (const each of numbers(0, 50)) await brokers[0].publish(topic, message(each));
      for (const group of ['a', 'b'] as const) {
        assert.deepEqual(sorted(await seen[group].count(50)), numbers(0, 50));
        assert.equal(seen[group].length, 50);
      }
    },
  },
  {
    name: 'without a group every subscriber gets every message, with its own retries',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const one = await collect(broker, topic, {});
      const attempts = new Seen<number>();
      await broker.subscribe(
        topic,
        ({ attempt }) => {
          attempts.add(attempt);
          if (attempt === 1) throw new Error('once');
        },
        { retry: { attempts: 3, backoff: { minMs: 20, jitter: false } } },
      );
      await broker.publish(topic, message('x'));
      await attempts.count(2);
      assert.deepEqual([attempts.items, await one.seen.count(1)], [[1, 2], ['x']]);
    },
  },
  {
    name: 'a new group begins with new messages, or with the earliest',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await publishAll(broker, topic, numbers(0, 5));
      const late = await collect(broker, topic, { group: 'late' });
      const all = await collect(broker, topic, { group: 'all', from: 'earliest' });
      await publishAll(broker, topic, numbers(5, 10));
      assert.deepEqual(sorted(await late.seen.count(5)), numbers(5, 10));
      assert.deepEqual(sorted(await all.seen.count(10)), numbers(0, 10));
    },
  },
  {
    name: 'a group keeps its position while it has no member',
    needs: need('persistent'),
    async run(context) {
      const topic = context.topic();
      const first = await context.open();
      const before = await collect(first, topic, { group: 'g' });
      await publishAll(first, topic, numbers(0, 5));
      await before.seen.count(5);
      await first.disconnect();
      const second = await context.open();
      await publishAll(second, topic, numbers(5, 10));
      const after = await collect(second, topic, { group: 'g', from: 'earliest' });
      assert.deepEqual(sorted(await after.seen.count(5)), numbers(5, 10));
    },
  },
  {
    name: 'no message is lost while subscribers open and close',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await publishAll(broker, topic, numbers(0, 50));
      const seen = new Seen<string>();
      while (new Set(seen.items).size < 50) {
        const before = seen.length;
        const subscriber = await broker.subscribe(topic, (each) => seen.add(text(each)), {
          group: 'g',
          from: 'earliest',
          maxInFlight: 7,
        });
        await seen.until((items) => items.length > before, 'message');
        await subscriber.unsubscribe();
      }
      assert.deepEqual(sorted(seen.items), numbers(0, 50));
    },
  },
  {
    name: 'ten subscribers that open and close at once do not damage the group',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await publishAll(broker, topic, numbers(0, 50));
      const handled = new Set<string>();
      await Promise.all(
        numbers(0, 10).map(async () => {
          const subscriber = await broker.subscribe(topic, (each) => handled.add(text(each)), {
            group: 'g',
            from: 'earliest',
          });
          await subscriber.unsubscribe();
        }),
      );
      const { seen } = await collect(broker, topic, { group: 'g', from: 'earliest' });
      await seen.until(
        (items) => new Set([...items, ...handled]).size === 50,
        'all that the others had not handled',
      );
    },
  },
  {
    name: 'wildcards match words, also of topics that are created later',
    needs: need('wildcards'),
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      await broker.publish(`${base}.eu.orders`, message('before'));
      const star = await collect(broker, `${base}.*.orders`, { group: 'star', from: 'earliest' });
      const rest = await collect(broker, `${base}.>`, { group: 'rest', from: 'earliest' });
      await broker.publish(`${base}.us.orders`, message('later'));
      await broker.publish(`${base}.us.refunds`, message('other'));
      await broker.publish(`${base}.us.orders.big`, message('deep'));
      assert.deepEqual([...(await star.seen.count(2))].sort(), ['before', 'later']);
      assert.deepEqual([...(await rest.seen.count(4))].sort(), [
        'before',
        'deep',
        'later',
        'other',
      ]);
      await quiet(100);
      assert.equal(star.seen.length, 2);
    },
  },
  {
    name: 'topics() lists length, groups and their pending entries',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await publishAll(broker, topic, numbers(0, 3));
      const { seen } = await collect(broker, topic, {
        group: 'g',
        from: 'earliest',
        ack: 'manual',
        maxInFlight: 3,
        concurrency: 3,
      });
      await seen.count(3);
      let found = null;
      for await (const info of broker.topics()) if (info.topic === topic) found = info;
      assert.equal(found?.length, 3);
      assert.deepEqual(
        found?.groups.map(({ name, pending }) => ({ name, pending })),
        [{ name: 'g', pending: 3 }],
      );
    },
  },
  {
    name: 'deleteTopic deletes a topic and its groups, and keeps its dead letters',
    needs: need('persistent', 'deadLetter'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const dead = await collect(broker, `${topic}.dead`, { group: 'd', from: 'earliest' });
      const subscriber = await broker.subscribe(topic, (each) => each.deadLetter('bad'), {
        group: 'g',
      });
      await broker.publish(topic, message('x'));
      await dead.seen.count(1);
      await subscriber.unsubscribe();
      await publishAll(broker, topic, ['left 1', 'left 2']);
      await broker.deleteTopic(topic);
      const again = await collect(broker, topic, { group: 'g', from: 'earliest' });
      const other = await collect(broker, topic, { group: 'other', from: 'earliest' });
      await broker.publish(topic, message('new'));
      await Promise.all([again.seen.count(1), other.seen.count(1)]);
      await quiet(100);
      assert.deepEqual([again.seen.items, other.seen.items], [['new'], ['new']]);
      const deadAgain = await collect(broker, `${topic}.dead`, { group: 'e', from: 'earliest' });
      await deadAgain.seen.count(1);
    },
  },
  {
    name: 'a topic that another client deletes and makes again, with its group: old deliveries settle no new message, and hide no dead letter',
    needs: need('persistent', 'deadLetter'),
    async run(context) {
      const [one, other, third] = await Promise.all([
        context.open(),
        context.open(),
        context.open({ drainTimeoutMs: 0 }),
      ]);
      const topic = context.topic();
      const dead = await collect(one, `${topic}.dead`, { group: 'd' });
      const options = {
        group: 'g',
        from: 'earliest',
        concurrency: 2,
        ackWaitMs: 30_000,
        retry: { attempts: 2, backoff: { minMs: 10, maxMs: 10 } },
      } as const;
      const seen = new Seen<string>();
      let open = () => {};
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      await one.subscribe(
        topic,
        async (delivery) => {
          seen.add(text(delivery));
          if (text(delivery).startsWith('poison')) throw new Error('no');
          if (text(delivery) === 'old') await gate;
        },
        options,
      );
      await publishAll(other, topic, ['poison old', 'old']);
      await Promise.all([dead.seen.count(1), seen.until((items) => items.includes('old'), 'old')]);
      await other.deleteTopic(topic);
      // Before the first member has noticed it, the topic and its group are there again.
      const held = new Seen<string>();
      const hold = (delivery: Delivery) => held.add(text(delivery));
      await publishAll(other, topic, ['poison new', 'new']);
      await third.subscribe(topic, hold, { ...options, ack: 'manual' });
      const all = () => [...held.items, ...seen.items];
      await eventually('the new messages', () =>
        ['poison new', 'new'].every((each) => all().includes(each)),
      );
      await quiet(2500);
      open();
      await quiet(300);
      await third.disconnect();
      await Promise.all([
        seen.until((items) => items.includes('new'), 'the new message, after its consumer left'),
        dead.seen.count(2),
      ]);
      assert.deepEqual([...dead.seen.items], ['poison old', 'poison new']);
    },
  },
  {
    name: 'a group by a topic and by a pattern: after the last member by the topic, the other continues',
    needs: need('wildcards', 'persistent'),
    async run(context) {
      const [one, two] = [await context.open(), await context.open()];
      const base = context.topic();
      const topic = `${base}.one`;
      const byPattern = await collect(one, `${base}.*`, { group: 'g' });
      const byTopic = await collect(two, topic, { group: 'g' });
      await two.publish(topic, message('1'));
      const both = () => [...byPattern.seen.items, ...byTopic.seen.items];
      await eventually('the first message', () => both().length === 1);
      await byTopic.subscriber.unsubscribe();
      await two.publish(topic, message('2'));
      await eventually('the second message', () => both().length === 2);
      assert.deepEqual(both().toSorted(), ['1', '2']);
    },
  },
];
