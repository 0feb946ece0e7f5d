/** Closing: handlers finish, nothing is lost, nothing is left behind. */
import assert from 'node:assert/strict';
import type { Delivery, Subscriber } from '../../broker/broker.ts';
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
    name: 'unsubscribe inside a handler does not wait for itself, and its message is settled',
    needs: need('persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<string>();
      let subscriber: Subscriber | undefined;
      const took = new Seen<number>();
      subscriber = await broker.subscribe(
        topic,
        async (delivery) => {
          seen.add(text(delivery));
          await quiet(10);
          const began = performance.now();
          await subscriber?.unsubscribe();
          took.add(performance.now() - began);
        },
        { group: 'g', ackWaitMs: 2000 },
      );
      await publishAll(broker, topic, ['1', '2']);
      const [ms] = await took.count(1);
      assert.ok((ms as number) < 5000, `${ms}`);
      const next = await collect(broker, topic, { group: 'g' });
      await next.seen.count(1);
      await quiet(2500);
      assert.deepEqual([seen.items, next.seen.items], [['1'], ['2']]);
    },
  },
  {
    name: 'disconnect inside a handler that throws then: the message comes again as the next attempt',
    needs: need('persistent'),
    async run(world) {
      const [broker, other] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const took = new Seen<number>();
      await broker.subscribe(
        topic,
        async () => {
          const began = performance.now();
          await broker.disconnect();
          took.add(performance.now() - began);
          throw new Error('no');
        },
        { group: 'g', ackWaitMs: 20_000, retry: { attempts: 3, backoff: { minMs: 10 } } },
      );
      await broker.publish(topic, message('x'));
      const [ms] = await took.count(1);
      assert.ok((ms as number) < 5000, `${ms}`);
      const attempts = new Seen<number>();
      await other.subscribe(topic, ({ attempt }) => attempts.add(attempt), { group: 'g' });
      assert.deepEqual([...(await attempts.count(1))], [2]);
    },
  },
  {
    name: 'closing takes drainTimeoutMs and no longer, whatever its handlers do',
    async run(world) {
      const topic = world.topic();
      for (const end of ['unsubscribe', 'disconnect'] as const) {
        const broker = await world.open({ drainTimeoutMs: 1000 });
        const began = new Seen<string>();
        const subscriber = await broker.subscribe(
          topic,
          (delivery) => {
            began.add(text(delivery));
            return new Promise(() => {});
          },
          { group: end, ackWaitMs: 30_000, concurrency: 2 },
        );
        await publishAll(broker, topic, ['1', '2', '3', '4']);
        await began.count(2);
        const start = performance.now();
        await (end === 'unsubscribe' ? subscriber.unsubscribe() : broker.disconnect());
        const took = performance.now() - start;
        assert.ok(took >= 990 && took < 1900, `${end}: ${took}`);
      }
    },
  },
  {
    name: 'handlers that disconnect waits for may still publish and request',
    needs: need('persistent'),
    async run(world) {
      const [broker, other] = await Promise.all([world.open(), world.open()]);
      const [topic, next] = [world.topic(), world.topic()];
      const { requestReply } = broker.capabilities;
      if (requestReply) await other.respond(next, (request) => request);
      const { seen } = await collect(other, next, { group: 'g' });
      const began = new Seen<string>();
      const replies = new Seen<string>();
      await broker.subscribe(
        topic,
        async (delivery) => {
          began.add(text(delivery));
          await quiet(200);
          await broker.publish(next, message('published'));
          if (requestReply) replies.add(text(await broker.request(next, message('asked'))));
        },
        { group: 'g' },
      );
      await broker.publish(topic, message('x'));
      await began.count(1);
      await broker.disconnect();
      await seen.count(1);
      assert.deepEqual(replies.items, requestReply ? ['asked'] : []);
      await assert.rejects(broker.publish(next, message('y')), { code: 'CLOSED' });
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
