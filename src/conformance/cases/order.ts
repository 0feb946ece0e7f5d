/** Order: per key with parallelism across keys, and strict. */
import assert from 'node:assert/strict';
import type { Broker } from '../../broker/broker.ts';
import {
  type Case,
  message,
  need,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../case-context.ts';

const FAST = { minMs: 20, maxMs: 50, jitter: false };

export const order: readonly Case[] = [
  {
    name: 'one subscriber, one at a time, gets messages in the order they were published',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<string>();
      await broker.subscribe(topic, (each) => seen.add(text(each)), { group: 'g' });
      for (const each of numbers(0, 200)) await broker.publish(topic, message(each));
      assert.deepEqual([...(await seen.count(200))], numbers(0, 200));
    },
  },
  {
    name: 'by key: each of 16 keys in order with several subscribers, retries included, keys in parallel',
    needs: need('orderPerKey'),
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open(), context.open()]);
      const topic = context.topic();
      const byKey = new Map<string, number[]>();
      const done = new Seen<string>();
      let running = 0;
      let most = 0;
      for (const broker of brokers) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            const number = Number(text(delivery));
            const key = delivery.message.key as string;
            most = Math.max(most, ++running);
            await quiet(1);
            running--;
            if (number % 25 === 0 && delivery.attempt === 1) throw new Error('once');
            byKey.set(key, [...(byKey.get(key) ?? []), number]);
            done.add(String(number));
          },
          {
            group: 'g',
            ordered: 'key',
            concurrency: 8,
            maxInFlight: 50,
            retry: { attempts: 5, backoff: FAST },
          },
        );
      }
      for (const each of numbers(0, 200)) {
        await brokers[0].publish(topic, message(each, `key-${Number(each) % 16}`));
      }
      await done.count(200);
      for (const [key, seen] of byKey) {
        assert.deepEqual(
          seen,
          [...seen].sort((a, b) => a - b),
          key,
        );
      }
      assert.ok(most > 1, 'keys run beside each other');
    },
  },
  {
    name: 'by key: what waits behind a handler that holds its process up keeps its place',
    needs: need('orderPerKey'),
    alone: true,
    async run(context) {
      const broker = await context.open();
      for (let round = 0; round < 4; round++) {
        const topic = context.topic();
        const seen = new Seen<string>();
        await broker.subscribe(
          topic,
          async (delivery) => {
            seen.add(text(delivery));
            if (delivery.attempt > 1) return;
            const holdMs = { 0: 525, 2: 210 }[text(delivery)] ?? 0;
            if (text(delivery) === '2') await quiet(65);
            for (const end = performance.now() + holdMs; performance.now() < end; );
            if (text(delivery) === '3') await quiet(450);
          },
          {
            group: 'g',
            ordered: 'key',
            concurrency: 2,
            maxInFlight: 6,
            ackWaitMs: 200,
            retry: { attempts: 50, backoff: FAST },
          },
        );
        for (const each of numbers(0, 6)) await broker.publish(topic, message(each, 'k'));
        await seen.until((items) => new Set(items).size === 6, 'all of them', 30_000);
        await quiet(900);
        assert.deepEqual(seen.items, sorted(seen.items));
      }
    },
  },
  {
    name: 'strict: one at a time, no message overtakes one that is retried',
    needs: need('strictOrder'),
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<string>();
      let running = 0;
      for (const broker of brokers) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            assert.equal(++running, 1);
            await quiet(1);
            running--;
            if (text(delivery) === '7' && delivery.attempt < 3) throw new Error('wait');
            seen.add(text(delivery));
          },
          { group: 'g', ordered: 'strict', retry: { attempts: 5, backoff: FAST } },
        );
      }
      for (const each of numbers(0, 30)) await brokers[0].publish(topic, message(each));
      assert.deepEqual([...(await seen.count(30))], numbers(0, 30));
    },
  },
  {
    name: 'strict: a second message waits for the acknowledgement of the first',
    needs: need('strictOrder'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<() => Promise<void>>();
      await broker.subscribe(topic, (delivery) => seen.add(() => delivery.ack()), {
        group: 'g',
        ack: 'manual',
        ordered: 'strict',
      });
      await broker.publish(topic, message('1'));
      await broker.publish(topic, message('2'));
      const [ack] = await seen.count(1);
      await quiet(200);
      assert.equal(seen.length, 1);
      await ack?.();
      await seen.count(2);
    },
  },
  {
    name: 'strict: members whose handlers are all past their deadlines wait, and go on when one returns',
    needs: need('strictOrder'),
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<string>();
      let open = () => {};
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      for (const broker of brokers) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            seen.add(text(delivery));
            if (text(delivery) === 'held') await gate;
          },
          {
            group: 'g',
            ordered: 'strict',
            ackWaitMs: 300,
            retry: { attempts: 100, backoff: FAST },
          },
        );
      }
      await brokers[0].publish(topic, message('held'));
      await seen.count(1);
      await quiet(1500);
      open();
      await brokers[1].publish(topic, message('next'));
      await seen.until((items) => items.includes('next'), 'next', 30_000);
    },
  },
  {
    name: 'strict: a message whose handler holds its process up has each hand-over counted when another member leads',
    needs: (claimed) =>
      need('strictOrder')(claimed) ??
      (claimed.attempts === 'hand-overs' ? null : `attempts: ${claimed.attempts}`),
    alone: true,
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<string>();
      for (const broker of brokers) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            seen.add(`${text(delivery)}${delivery.attempt}`);
            if (delivery.attempt > 1 || text(delivery) === 'last') return;
            for (const end = performance.now() + 450; performance.now() < end; );
            await quiet(450);
          },
          {
            group: 'g',
            ordered: 'strict',
            maxInFlight: 5,
            ackWaitMs: 200,
            retry: { attempts: 50, backoff: FAST },
          },
        );
      }
      await publishAll(brokers[0], topic, ['a', 'b', 'c', 'last']);
      await seen.until((items) => items.some((each) => each.startsWith('last')), 'last', 30_000);
      await quiet(600);
      for (const each of ['a', 'b', 'c', 'last']) {
        const got = seen.items.filter((item) => item.startsWith(each));
        assert.deepEqual(
          got,
          got.map((_, at) => `${each}${at + 1}`),
        );
      }
    },
  },
  {
    name: 'an ordered group with wildcards and two members: each topic has a leader, and is read in order',
    needs: need('strictOrder', 'wildcards', 'persistent'),
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open()]);
      const base = context.topic();
      const topics = ['a', 'b', 'c', 'd'].map((each) => `${base}.${each}`);
      for (const topic of topics) await brokers[0].publish(topic, message('0'));
      const seen = new Map<string, string[]>(topics.map((topic) => [topic, []]));
      const all = new Seen<string>();
      await Promise.all(
        brokers.map((broker) =>
          broker.subscribe(
            `${base}.*`,
            (delivery) => {
              seen.get(delivery.topic)?.push(text(delivery));
              all.add(text(delivery));
            },
            { group: 'g', ordered: 'strict', from: 'earliest' },
          ),
        ),
      );
      for (const each of numbers(1, 10)) {
        for (const topic of topics) await brokers[1].publish(topic, message(each));
      }
      await all.count(40, 30_000);
      for (const [topic, texts] of seen) assert.deepEqual(texts, numbers(0, 10), topic);
    },
  },
  {
    name: 'publishes of one topic that wait through an outage are stored in the order of the calls',
    needs: need('strictOrder', 'persistent'),
    uses: ['behindProxy'],
    alone: true,
    timeoutMs: 90_000,
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = context.topic();
        const direct = await context.open();
        const publisher = context.keep(await behind.open({ publishTimeoutMs: 30_000 }));
        const seen = new Seen<string>();
        const options = { group: 'g', ordered: 'strict' } as const;
        await direct.subscribe(topic, (each) => seen.add(text(each)), options);
        await publisher.publish(topic, message('0', 'k'));
        const publishes: Promise<unknown>[] = [];
        const publish = (from: number, to: number) => {
          for (const each of numbers(from, to)) {
            publishes.push(publisher.publish(topic, message(each, 'k')));
          }
        };
        // Some are sent when the connection is cut, others are published without a connection.
        publish(1, 20);
        proxy.mode = 'refuse';
        proxy.cut();
        publish(20, 40);
        await quiet(300);
        publish(40, 60);
        await quiet(700);
        proxy.mode = 'pass';
        await quiet(50);
        publish(60, 80);
        await Promise.all(publishes);
        await seen.until((items) => new Set(items).size === 80, 'all of them', 30_000);
        // Without deduplication, a publish whose acknowledgement was lost may be stored twice.
        const firsts = [...new Set(seen.items)];
        assert.deepEqual(firsts, numbers(0, 80));
      } finally {
        proxy.mode = 'pass';
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'publishes of every form to one topic, none awaited, are stored in the order of the calls',
    needs: need('strictOrder', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const reader = await context.open();
      // New topics, which in a cluster belong to several nodes, of which some were not reached before.
      const topics = Array.from({ length: 5 }, () => context.topic());
      const counts = await Promise.all(topics.map((topic) => publishInEveryForm(broker, topic)));
      for (const [index, topic] of topics.entries()) {
        const seen = new Seen<string>();
        await reader.subscribe(topic, (each) => seen.add(text(each)), {
          group: 'g',
          ordered: 'strict',
          from: 'earliest',
        });
        const count = counts[index] as number;
        assert.deepEqual([...(await seen.count(count))], numbers(0, count));
      }
    },
  },
  {
    name: 'in an ordered group another subscriber continues where the first one stopped',
    needs: need('strictOrder', 'persistent'),
    async run(context) {
      const [first, second] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<string>();
      const options = { group: 'g', ordered: 'strict', maxInFlight: 5 } as const;
      const handle = (delivery: Parameters<typeof text>[0]) => seen.add(text(delivery));
      await first.subscribe(topic, handle, options);
      await second.subscribe(topic, handle, options);
      for (const each of numbers(0, 10)) await first.publish(topic, message(each));
      await seen.count(5);
      await first.disconnect();
      for (const each of numbers(10, 20)) await second.publish(topic, message(each));
      assert.deepEqual([...(await seen.count(20))], numbers(0, 20));
    },
  },
  {
    name: 'strict: a topic that another member deletes and makes again has each new message handed over',
    needs: need('strictOrder', 'persistent'),
    timeoutMs: 120_000,
    async run(context) {
      const [leader, member] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const options = { group: 'g', ordered: 'strict', from: 'earliest', maxInFlight: 5 } as const;
      const seen = new Seen<string>();
      let open = () => {};
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      await member.publish(topic, message('old'));
      await leader.subscribe(
        topic,
        async (delivery) => {
          seen.add(text(delivery));
          if (text(delivery) === 'old') await gate;
        },
        options,
      );
      await seen.count(1);
      await member.subscribe(topic, (delivery) => seen.add(text(delivery)), options);
      await member.deleteTopic(topic);
      for (const each of ['1', '2', '3']) await member.publish(topic, message(each));
      // The leader is sent the new messages while its handler has the old one.
      await quiet(2500);
      open();
      await seen.until(
        (items) => ['1', '2', '3'].every((each) => items.includes(each)),
        'all',
        30_000,
      );
    },
  },
  {
    name: 'strict: a replay by another process hands everything over again in order, also what is in flight',
    needs: need('strictOrder', 'persistent', 'replayById'),
    timeoutMs: 120_000,
    async run(context) {
      const [leader, other] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const options = { group: 'g', ordered: 'strict', from: 'earliest', maxInFlight: 10 } as const;
      const seen = new Seen<string>();
      let isHeld = false;
      let open = () => {};
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      await leader.subscribe(
        topic,
        async (delivery) => {
          seen.add(text(delivery));
          if (text(delivery) !== '5' || isHeld) return;
          isHeld = true;
          await gate;
        },
        options,
      );
      const all = numbers(1, 9);
      await publishAll(other, topic, all);
      await seen.until((items) => items.includes('5'), '5');
      await other.replay(topic, 'g', 'earliest');
      await quiet(2000);
      open();
      await seen.until((items) => items.filter((each) => each === '8').length >= 1, '8', 30_000);
      await quiet(1000);
      assert.deepEqual(seen.items.slice(-8), all);
    },
  },
];

/** Publishes the numbers from 0 on in the order of the calls, few of them awaited; resolves to how many. */
async function publishInEveryForm(broker: Broker, topic: string): Promise<number> {
  const stored: Promise<unknown>[] = [];
  const headers = { large: 'x'.repeat(2000) };
  let next = 0;
  const one = () => message(`${next++}`, 'k');
  // In the first round the topic is new.
  for (let round = 0; round < 3; round++) {
    stored.push(
      broker.publish(topic, one()),
      broker.publishBatch(topic, [one(), one(), one()]),
      broker.publish(topic, one()),
      broker.publish(topic, one(), { maxLength: 1000 + round }),
      broker.publish(topic, { ...one(), headers }),
    );
    if (broker.capabilities.dedup !== null) {
      stored.push(broker.publish(topic, one(), { dedupId: `round-${round}` }));
    }
    stored.push(
      broker.publish(topic, one()),
      broker.publishBatch(topic, [one(), one()], { maxLength: 2000 + round }),
      broker.publish(topic, one()),
    );
    if (round === 1) await Promise.all(stored);
  }
  await Promise.all(stored);
  return next;
}
