/** Closing: handlers finish, no message is lost, no connection or timer stays open. */
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
} from '../case-context.ts';

export const closing: readonly Case[] = [
  {
    name: 'disconnect lets running handlers finish and settles them',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
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
      const next = await context.open();
      const { seen } = await collect(next, topic, { group: 'g' });
      await seen.count(10 - finished);
      await quiet(100);
      assert.deepEqual(sorted([...seen.items, ...began.items]), numbers(0, 10));
      assert.equal(seen.length, 10 - finished, 'what was settled does not come again');
    },
  },
  {
    name: 'after disconnect every call rejects with CLOSED, and disconnecting again has no effect',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
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
    name: 'publishes that have begun are stored before disconnect resolves',
    needs: need('persistent'),
    async run(context) {
      const [publisher, reader] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const { seen } = await collect(reader, topic, { group: 'g' });
      const publishes = numbers(0, 100).map((each) => publisher.publish(topic, message(each)));
      await publisher.disconnect();
      await Promise.all(publishes);
      assert.deepEqual(sorted(await seen.count(100)), numbers(0, 100));
    },
  },
  {
    name: 'aborting the signal of a subscription closes it; other members get its messages',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
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
    name: 'the signal of a delivery aborts when its subscriber closes, not when it is settled',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
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
    async run(context) {
      const topic = context.topic();
      const outer = await context.open();
      {
        await using broker = await context.fixture.open();
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
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
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
      assert.ok((ms as number) < 15_000, `${ms}`);
      const next = await collect(broker, topic, { group: 'g' });
      await next.seen.count(1);
      await quiet(2500);
      assert.deepEqual([seen.items, next.seen.items], [['1'], ['2']]);
    },
  },
  {
    name: 'disconnect inside a handler that then throws: the message is delivered again as the next attempt',
    needs: need('persistent'),
    async run(context) {
      const [broker, other] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
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
      assert.ok((ms as number) < 15_000, `${ms}`);
      const attempts = new Seen<number>();
      await other.subscribe(topic, ({ attempt }) => attempts.add(attempt), { group: 'g' });
      assert.deepEqual([...(await attempts.count(1))], [2]);
    },
  },
  {
    name: 'what a handler leaves behind waits for a close as any other code does',
    needs: need('persistent'),
    async run(context) {
      for (const end of ['unsubscribe', 'disconnect'] as const) {
        const broker = await context.open();
        const topic = context.topic();
        const began = new Seen<string>();
        const finished = new Seen<string>();
        const closed = new Seen<number>();
        let release = () => {};
        const released = new Promise<void>((resolve) => {
          release = resolve;
        });
        const subscriber = await broker.subscribe(
          topic,
          async (delivery) => {
            began.add(text(delivery));
            if (text(delivery) === 'slow') {
              await released;
              await quiet(300);
              finished.add('slow');
            } else {
              setTimeout(async () => {
                release();
                await (end === 'unsubscribe' ? subscriber.unsubscribe() : broker.disconnect());
                closed.add(finished.length);
              }, 200);
            }
          },
          { group: 'g', concurrency: 2, maxInFlight: 4 },
        );
        await publishAll(broker, topic, ['slow', 'quick']);
        assert.deepEqual([...(await closed.count(1))], [1], end);
        assert.deepEqual(new Set(began.items), new Set(['quick', 'slow']));
      }
    },
  },
  {
    name: 'disconnect inside a responder, or the stream that it returns, does not wait for itself',
    needs: need('requestReply'),
    async run(context) {
      for (const form of ['one', 'many'] as const) {
        const [broker, caller] = await Promise.all([
          context.open({ drainTimeoutMs: 20_000 }),
          context.open(),
        ]);
        const topic = context.topic();
        const took = new Seen<number>();
        const timed = async () => {
          const began = performance.now();
          await broker.disconnect();
          took.add(performance.now() - began);
        };
        await broker.respond(topic, (request) => {
          if (form === 'one') return timed().then(() => request);
          return (async function* () {
            yield request;
            await quiet(10);
            await timed();
            yield request;
          })();
        });
        const replies = new Seen<string>();
        for await (const reply of caller.requestMany(topic, message('x'), { timeoutMs: 10_000 })) {
          replies.add(text(reply));
        }
        assert.ok((took.items[0] as number) < 15_000, `${form}: ${took.items}`);
        assert.deepEqual(replies.items, form === 'one' ? ['x'] : ['x', 'x']);
      }
    },
  },
  {
    name: 'closing takes drainTimeoutMs and no longer, whatever its handlers do',
    async run(context) {
      const topic = context.topic();
      for (const end of ['unsubscribe', 'disconnect'] as const) {
        const broker = await context.open({ drainTimeoutMs: 1000 });
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
        assert.ok(took >= 990 && took < 10_000, `${end}: ${took}`);
      }
    },
  },
  {
    name: 'handlers that disconnect waits for may still publish and request',
    needs: need('persistent'),
    async run(context) {
      const [broker, other] = await Promise.all([context.open(), context.open()]);
      const [topic, next] = [context.topic(), context.topic()];
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
    name: 'after opening and closing, no connection and no timer is left',
    uses: ['connections'],
    async run(context) {
      const topic = context.topic();
      const { connections } = context.fixture as { connections(): Promise<number> };
      const round = async () => {
        await using broker = await context.fixture.open();
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
      await eventually('no timer is left', () => timers().length <= before);
    },
  },
];
