/** Closing: handlers finish, nothing is lost, nothing is left behind. */
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

export const closing: readonly Case[] = [
  {
    name: 'disconnect lets running handlers finish and settles them',
    needs: need('persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const began = new Seen<string>();
      let finished = 0;
      await broker.subscribe(
        topic,
        async (delivery) => {
          began.add(text(delivery));
          await quiet(200);
          finished++;
        },
        { group: 'g', concurrency: 3, maxInFlight: 10 },
      );
      await publishAll(broker, topic, numbers(0, 10));
      await began.count(3);
      await broker.disconnect();
      assert.equal(finished, began.length);
      const next = await world.open();
      const { seen } = await collect(next, topic, { group: 'g' });
      await seen.count(10 - finished);
      await quiet(100);
      assert.deepEqual(sorted([...seen.items, ...began.items]), numbers(0, 10));
      assert.equal(seen.length, 10 - finished, 'what was settled does not come again');
    },
  },
  {
    name: 'after disconnect everything is CLOSED, disconnecting again is nothing',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      await broker.disconnect();
      await broker.disconnect();
      const closed = { code: 'CLOSED' };
      await assert.rejects(broker.publish(topic, message('x')), closed);
      await assert.rejects(
        broker.subscribe(topic, () => {}),
        closed,
      );
      await assert.rejects(broker.request(topic, message('x')), closed);
      await assert.rejects(broker.connect(), closed);
    },
  },
  {
    name: 'publishes under way are stored before disconnect ends',
    needs: need('persistent'),
    async run(world) {
      const [publisher, reader] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const { seen } = await collect(reader, topic, { group: 'g' });
      const publishes = numbers(0, 100).map((each) => publisher.publish(topic, message(each)));
      await publisher.disconnect();
      await Promise.all(publishes);
      assert.deepEqual(sorted(await seen.count(100)), numbers(0, 100));
    },
  },
  {
    name: 'aborting the signal of a subscription ends it; its messages go to others',
    needs: need('persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const controller = new AbortController();
      const held = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => held.add(delivery), {
        group: 'g',
        ack: 'manual',
        concurrency: 3,
        maxInFlight: 5,
        signal: controller.signal,
      });
      await publishAll(broker, topic, numbers(0, 20));
      await held.count(3);
      controller.abort();
      const { seen } = await collect(broker, topic, { group: 'g' });
      assert.deepEqual(sorted(await seen.count(20)), numbers(0, 20));
    },
  },
  {
    name: 'the signal of a delivery fires when its subscriber is gone, not when it is settled',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const deliveries = new Seen<Delivery>();
      const subscriber = await broker.subscribe(topic, (delivery) => deliveries.add(delivery), {
        group: 'g',
        ack: 'manual',
        concurrency: 2,
      });
      await publishAll(broker, topic, ['1', '2']);
      const [first, second] = (await deliveries.count(2)) as [Delivery, Delivery];
      await first.ack();
      assert.deepEqual([first.signal.aborted, second.signal.aborted], [false, false]);
      await subscriber.unsubscribe();
      assert.equal(second.signal.aborted, true);
      await assert.rejects(second.ack(), { code: /CLOSED|DELIVERY_LOST/ });
    },
  },
  {
    name: 'await using ends brokers and subscribers',
    async run(world) {
      const topic = world.topic();
      const outer = await world.open();
      {
        await using broker = await world.backing.open();
        await using subscriber = await broker.subscribe(topic, () => {}, { group: 'g' });
        assert.equal(subscriber.inFlight, 0);
      }
      const { seen } = await collect(outer, topic, { group: 'g' });
      await outer.publish(topic, message('x'));
      await seen.count(1);
    },
  },
  {
    name: 'opening and closing leaves no connection and no timer',
    uses: ['connections'],
    async run(world) {
      const topic = world.topic();
      const { connections } = world.backing as { connections(): Promise<number> };
      const round = async () => {
        await using broker = await world.backing.open();
        await broker.subscribe(topic, () => {}, { group: 'g' });
        await broker.subscribe(topic, () => {});
        if (broker.capabilities.requestReply) {
          await broker.respond(topic, (request) => request);
          await broker.request(topic, message('x'));
        }
        await broker.publish(topic, message('x'));
      };
      await round();
      const timers = () => process.getActiveResourcesInfo().filter((each) => each === 'Timeout');
      await eventually('calm', async () => (await connections()) === 0);
      const before = timers().length;
      for (let index = 0; index < 5; index++) await round();
      await eventually('no connection is left', async () => (await connections()) === 0);
      await eventually('no timer is left', () => timers().length <= before, 5000);
    },
  },
];
