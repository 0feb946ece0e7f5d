/** Groups: who gets what. */
import assert from 'node:assert/strict';
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
  text,
} from '../world.ts';

export const groups: readonly Case[] = [
  {
    name: 'two groups each get everything, their members share it',
    async run(world) {
      const brokers = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
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
    name: 'without a group every subscriber gets every message, with retries of its own',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      await publishAll(broker, topic, numbers(0, 5));
      const late = await collect(broker, topic, { group: 'late' });
      const all = await collect(broker, topic, { group: 'all', from: 'earliest' });
      await publishAll(broker, topic, numbers(5, 10));
      assert.deepEqual(sorted(await late.seen.count(5)), numbers(5, 10));
      assert.deepEqual(sorted(await all.seen.count(10)), numbers(0, 10));
    },
  },
  {
    name: 'a group keeps its place while nobody of it is there',
    needs: need('persistent'),
    async run(world) {
      const topic = world.topic();
      const first = await world.open();
      const before = await collect(first, topic, { group: 'g' });
      await publishAll(first, topic, numbers(0, 5));
      await before.seen.count(5);
      await first.disconnect();
      const second = await world.open();
      await publishAll(second, topic, numbers(5, 10));
      const after = await collect(second, topic, { group: 'g', from: 'earliest' });
      assert.deepEqual(sorted(await after.seen.count(5)), numbers(5, 10));
    },
  },
  {
    name: 'subscribers that come and go lose nothing',
    needs: need('persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'ten that open and close at once leave the group whole',
    needs: need('persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'wildcards match words, topics that are made later included',
    needs: need('wildcards'),
    async run(world) {
      const broker = await world.open();
      const base = world.topic();
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
    name: 'topics() tells length, groups and what is pending',
    needs: need('persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'a deleted topic is gone with its groups, its dead letters stay',
    needs: need('persistent', 'deadLetter'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
];
