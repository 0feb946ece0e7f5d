/** Isolation: failures, deletions and names of one group or topic affect no other. */
import assert from 'node:assert/strict';
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
  text,
} from '../case-context.ts';

export const neighbours: readonly Case[] = [
  {
    name: 'groups and topics whose joined names are equal stay apart',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      // In each pair, joining group and topic by the separator gives the same text.
      const pairs = [':', '.', '-', '_', '/', '|', '=', '%'].flatMap((separator) => {
        const end = separator === '.' ? 'c' : `${separator}c`;
        return [
          { group: `a${separator}b`, topic: `${base}.x${end}` },
          { group: 'a', topic: `${base}.b${separator}x${end}` },
          { group: `a${separator}b${separator}x`, topic: `${base}.c` },
        ];
      });
      const all = [
        ...pairs,
        { group: 'A', topic: `${base}.c` },
        { group: 'a', topic: `${base}.C` },
      ];
      const seen = new Map<string, string[]>();
      const key = (group: string, topic: string) => JSON.stringify([group, topic]);
      const arrived = new Seen<string>();
      for (const { group, topic } of all) {
        if (seen.has(key(group, topic))) continue;
        seen.set(key(group, topic), []);
        await broker.subscribe(
          topic,
          (delivery) => {
            seen.get(key(group, topic))?.push(text(delivery));
            arrived.add(text(delivery));
          },
          { group },
        );
      }
      const topics = [...new Set(all.map(({ topic }) => topic))];
      for (const topic of topics) await broker.publish(topic, message(topic));
      await arrived.count(seen.size);
      await quiet(100);
      for (const [name, texts] of seen) {
        const [, topic] = JSON.parse(name) as [string, string];
        assert.deepEqual(texts, [topic], name);
      }
    },
  },
  {
    name: 'ordered groups whose joined names are equal each have their own leader',
    needs: need('strictOrder', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      const pairs = [
        { group: 'a:b', topic: `${base}.c` },
        { group: 'a', topic: `${base}.b:c` },
        { group: `a:b:${base}`, topic: `${base}.d` },
        { group: 'b', topic: `${base}.a:${base}:d` },
      ];
      const arrived = new Seen<string>();
      for (const { group, topic } of pairs) {
        const options = { group, ordered: 'strict' } as const;
        await broker.subscribe(topic, (each) => arrived.add(`${group} ${text(each)}`), options);
      }
      for (const { topic } of pairs) await publishAll(broker, topic, numbers(0, 3));
      await arrived.count(pairs.length * 3);
      for (const { group } of pairs) {
        const own = arrived.items.filter((each) => each.startsWith(`${group} `));
        assert.deepEqual(
          own.map((each) => each.slice(group.length + 1)),
          numbers(0, 3),
          group,
        );
      }
    },
  },
  {
    name: 'retries and delays without their group or topic delay no other messages',
    needs: need('delayedNack', 'delayedPublish', 'persistent'),
    timeoutMs: 90_000,
    async run(context) {
      const broker = await context.open();
      const [gone, kept] = [context.topic(), context.topic()];
      const retry = { attempts: 5, backoff: { minMs: 400, maxMs: 400, jitter: false } };
      const failing = await broker.subscribe(
        gone,
        () => {
          throw new Error('no');
        },
        { retry, concurrency: 50, maxInFlight: 100 },
      );
      await publishAll(broker, gone, numbers(0, 80));
      for (const each of numbers(0, 40)) {
        await broker.publish(gone, message(each), { delayMs: 900 });
      }
      await quiet(200);
      await failing.unsubscribe();
      await broker.deleteTopic(gone);
      const attempts = new Seen<number>();
      await broker.subscribe(
        kept,
        ({ attempt }) => {
          attempts.add(attempt);
          if (attempt < 3) throw new Error('not yet');
        },
        { group: 'g', retry },
      );
      await broker.publish(kept, message('x'));
      await attempts.count(3, 20_000);
      assert.deepEqual(attempts.items, [1, 2, 3]);
    },
  },
  {
    name: 'a topic deleted under a subscriber with wildcards stays deleted, and is found when it is created again',
    needs: need('wildcards', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      const { seen } = await collect(broker, `${base}.>`, { group: 'g', from: 'earliest' });
      for (const each of ['a', 'b', 'c']) await broker.publish(`${base}.${each}`, message(each));
      await seen.count(3);
      await broker.deleteTopic(`${base}.b`);
      await broker.publish(`${base}.a`, message('a2'));
      await seen.until((items) => items.includes('a2'), 'message of a topic that is still there');
      await quiet(1500);
      const names: string[] = [];
      for await (const { topic } of broker.topics()) names.push(topic);
      const own = names.filter((topic) => topic.startsWith(`${base}.`));
      assert.deepEqual(own.sort(), [`${base}.a`, `${base}.c`]);
      await broker.publish(`${base}.b`, message('b2'));
      await seen.until((items) => items.includes('b2'), 'message of the new topic');
    },
  },
  {
    name: 'after the server has lost all data, delays, dedupIds and wildcards work again',
    needs: need('wildcards', 'persistent', 'delayedPublish'),
    uses: ['flush'],
    timeoutMs: 90_000,
    alone: true,
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      const { seen } = await collect(broker, `${base}.>`, { group: 'g', from: 'earliest' });
      for (const round of ['1', '2', '3']) {
        await broker.publish(`${base}.x`, message(`now${round}`));
        await broker.publish(`${base}.y`, message(`later${round}`), { delayMs: 200 });
        await seen.until(
          (items) => items.includes(`now${round}`) && items.includes(`later${round}`),
          `both messages of round ${round}`,
          20_000,
        );
        if (round === '3') break;
        await context.fixture.flush?.();
        // A flush also deletes messages that are not handled yet.
        await quiet(300);
      }
    },
  },
  {
    name: 'one group with an exact and a wildcard subscriber handles each message once',
    needs: need('wildcards', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const base = context.topic();
      const seen = new Seen<string>();
      const handle = (delivery: Parameters<typeof text>[0]) => seen.add(text(delivery));
      await broker.publish(`${base}.x`, message('first'));
      await broker.subscribe(`${base}.x`, handle, { group: 'g', from: 'earliest' });
      await broker.subscribe(`${base}.*`, handle, { group: 'g', from: 'earliest' });
      await publishAll(broker, `${base}.x`, numbers(0, 40));
      await seen.count(41);
      await quiet(300);
      assert.deepEqual([...seen.items].sort(), ['first', ...numbers(0, 40)].sort());
    },
  },
  {
    name: 'a dedupId is new again after its topic was deleted',
    needs: need('dedup', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const publish = () => broker.publish(topic, message('x'), { dedupId: 'order-1' });
      assert.equal((await publish()).duplicate, false);
      assert.equal((await publish()).duplicate, true);
      await broker.deleteTopic(topic);
      assert.equal((await publish()).duplicate, false);
      const { seen } = await collect(broker, topic, { group: 'g', from: 'earliest' });
      await seen.count(1);
      await quiet(100);
      assert.deepEqual(seen.items, ['x']);
    },
  },
  {
    name: 'replay drops retries that are waiting',
    needs: need('replayById', 'delayedNack', 'pendingList'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const attempts = new Seen<number>();
      await broker.subscribe(
        topic,
        async (delivery) => {
          attempts.add(delivery.attempt);
          if (attempts.length === 1) await delivery.nack({ delayMs: 700 });
        },
        { group: 'g' },
      );
      await broker.publish(topic, message('x'));
      await attempts.count(1);
      await eventually('it waits for its retry', async () => {
        const [first] = await broker.pending(topic, 'g');
        return first?.consumer === '';
      });
      await broker.replay(topic, 'g', 'new');
      await quiet(1200);
      assert.deepEqual(attempts.items, [1]);
    },
  },
];
