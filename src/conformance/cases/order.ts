/** Order: per key with parallelism across keys, and strict. */
import assert from 'node:assert/strict';
import { type Case, message, need, numbers, quiet, Seen, text } from '../world.ts';

const FAST = { minMs: 20, maxMs: 50, jitter: false };

export const order: readonly Case[] = [
  {
    name: 'one subscriber, one at a time, gets messages in the order they were published',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<string>();
      await broker.subscribe(topic, (each) => seen.add(text(each)), { group: 'g' });
      for (const each of numbers(0, 200)) await broker.publish(topic, message(each));
      assert.deepEqual([...(await seen.count(200))], numbers(0, 200));
    },
  },
  {
    name: 'by key: each of 16 keys in order with several subscribers, retries included, keys in parallel',
    needs: need('orderPerKey'),
    async run(world) {
      const brokers = await Promise.all([world.open(), world.open(), world.open()]);
      const topic = world.topic();
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
            ordered: 'by-key',
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
    name: 'strictly: one at a time, nothing passes a message that is retried',
    needs: need('strictOrder'),
    async run(world) {
      const brokers = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
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
          { group: 'g', ordered: 'strictly', retry: { attempts: 5, backoff: FAST } },
        );
      }
      for (const each of numbers(0, 30)) await brokers[0].publish(topic, message(each));
      assert.deepEqual([...(await seen.count(30))], numbers(0, 30));
    },
  },
  {
    name: 'strictly: a second message waits for the acknowledgement of the first',
    needs: need('strictOrder'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const seen = new Seen<() => Promise<void>>();
      await broker.subscribe(topic, (delivery) => seen.add(() => delivery.ack()), {
        group: 'g',
        ack: 'manual',
        ordered: 'strictly',
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
    name: 'an ordered group with wildcards and two members: each topic has a leader, and is read in order',
    needs: need('strictOrder', 'wildcards', 'persistent'),
    async run(world) {
      const brokers = await Promise.all([world.open(), world.open()]);
      const base = world.topic();
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
            { group: 'g', ordered: 'strictly', from: 'earliest' },
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
    async run(world) {
      const behind = await world.backing.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = world.topic();
        const direct = await world.open();
        const publisher = world.keep(await behind.open({ publishTimeoutMs: 30_000 }));
        const seen = new Seen<string>();
        const options = { group: 'g', ordered: 'strictly' } as const;
        await direct.subscribe(topic, (each) => seen.add(text(each)), options);
        await publisher.publish(topic, message('0', 'k'));
        const publishes: Promise<unknown>[] = [];
        const publish = (from: number, to: number) => {
          for (const each of numbers(from, to)) {
            publishes.push(publisher.publish(topic, message(each, 'k')));
          }
        };
        // Some are on their way when the connection is cut, some come while there is none.
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
        // A publish whose acknowledgement was lost may be there twice where ids are not checked.
        const firsts = [...new Set(seen.items)];
        assert.deepEqual(firsts, numbers(0, 80));
      } finally {
        proxy.mode = 'pass';
        await world.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'in order, another subscriber takes over where the first left, in order',
    needs: need('strictOrder', 'persistent'),
    async run(world) {
      const [first, second] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const seen = new Seen<string>();
      const options = { group: 'g', ordered: 'strictly', maxInFlight: 5 } as const;
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
];
