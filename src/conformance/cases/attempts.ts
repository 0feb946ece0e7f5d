/**
 * Attempts: each hand-over to a handler is one, however it ends, and nothing else is.
 *
 * What ends its process, misses its deadline or is left by its consumer has had an attempt. What was
 * fetched ahead of it has had none.
 */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import { deadLetterHeaders, type Message } from '../../broker/message.ts';
import type { SubscribeOptions } from '../../broker/options.ts';
import { type HandOver, runDoomed } from '../doomed-peer.ts';
import { type Case, message, need, publishAll, quiet, Seen, text, type World } from '../world.ts';

const needs = need('persistent', 'deadLetter');
const FAST = { minMs: 20, maxMs: 50, jitter: false };

interface Plan {
  readonly texts: readonly string[];
  readonly options: SubscribeOptions;
  readonly how: 'kill' | 'exit';
  readonly workMs: number;
}

/** Publishes, lets the process end itself on `poison` until it leaves, and reads the dead letters. */
async function doomed(world: World, { texts, options, how, workMs }: Plan) {
  const topic = world.topic();
  const all = { ...options, group: 'g' };
  await world.briefly(async (broker) => {
    // The group begins before the messages do.
    await broker.subscribe(topic, () => {}, all).then((each) => each.unsubscribe());
    await publishAll(broker, topic, texts);
  });
  const attempts = options.retry?.attempts ?? 3;
  const enough = texts.filter((each) => each !== 'poison').length;
  const doom = { topic, options: all, poison: 'poison', how, workMs, enough, poisonLeft: attempts };
  const seen = await runDoomed(world.processUrl, doom, attempts + 4);
  const dead = new Seen<Message>();
  const broker = await world.open();
  const options2 = { group: 'd', from: 'earliest' } as const;
  await broker.subscribe(`${topic}.dead`, (each) => dead.add(each.message), options2);
  // A last member of the group finds nothing left but what is spent.
  await broker.subscribe(topic, () => {}, all);
  const letters = await dead.count(1);
  await quiet(300);
  return { seen, letters };
}

function attemptsOf(seen: readonly HandOver[], name: string): number[] {
  return seen.filter((each) => each.text === name).map(({ attempt }) => attempt);
}

function onlyPoison(letters: readonly Message[], attempts: number): void {
  assert.deepEqual(letters.map(text), ['poison']);
  assert.equal(letters[0]?.headers[deadLetterHeaders.attempts], String(attempts));
}

export const attempts: readonly Case[] = [
  {
    name: 'a message that kills its process is dead after its attempts, and nothing else is',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(world) {
      const { seen, letters } = await doomed(world, {
        texts: ['poison', 'a', 'b', 'c', 'd'],
        options: { maxInFlight: 5, ackWaitMs: 600, retry: { attempts: 3, backoff: FAST } },
        how: 'kill',
        workMs: 0,
      });
      assert.deepEqual(attemptsOf(seen, 'poison'), [1, 2, 3]);
      for (const each of ['a', 'b', 'c', 'd']) assert.deepEqual(attemptsOf(seen, each), [1], each);
      onlyPoison(letters, 3);
    },
  },
  {
    name: 'a message amid others that makes its process exit is dead after its attempts alone',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(world) {
      const { seen, letters } = await doomed(world, {
        texts: ['a', 'b', 'poison', 'c', 'd', 'e', 'f'],
        options: {
          concurrency: 3,
          maxInFlight: 7,
          ackWaitMs: 600,
          retry: { attempts: 2, backoff: FAST },
        },
        how: 'exit',
        workMs: 40,
      });
      assert.deepEqual(attemptsOf(seen, 'poison'), [1, 2]);
      for (const each of ['a', 'b', 'c', 'd', 'e', 'f']) {
        const got = attemptsOf(seen, each);
        assert.ok(got.length > 0, `${each} was handed over`);
        assert.deepEqual(
          got,
          got.map((_, at) => at + 1),
          each,
        );
      }
      onlyPoison(letters, 2);
    },
  },
  {
    name: 'with one attempt a message that kills its process gets one, and its neighbours theirs',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(world) {
      const { seen, letters } = await doomed(world, {
        texts: ['a', 'poison', 'b', 'c'],
        options: { maxInFlight: 10, ackWaitMs: 600, retry: { attempts: 1 } },
        how: 'kill',
        workMs: 0,
      });
      for (const each of ['poison', 'b', 'c']) assert.deepEqual(attemptsOf(seen, each), [1], each);
      onlyPoison(letters, 1);
    },
  },
  {
    name: 'a message that kills its process takes no attempt from those for handlers beside it',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(world) {
      const { seen, letters } = await doomed(world, {
        texts: ['poison', 'a', 'b', 'c', 'd'],
        options: { concurrency: 5, maxInFlight: 10, ackWaitMs: 600, retry: { attempts: 1 } },
        how: 'kill',
        workMs: 0,
      });
      for (const each of ['poison', 'a', 'b', 'c', 'd']) {
        assert.deepEqual(attemptsOf(seen, each), [1], each);
      }
      onlyPoison(letters, 1);
    },
  },
  {
    name: 'deliveries whose replies are cut off are no attempts: none is dead without its hand-overs',
    needs: need('persistent', 'deadLetter', 'maxInFlight'),
    uses: ['behindProxy'],
    timeoutMs: 90_000,
    async run(world) {
      const behind = await world.backing.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = world.topic();
        const direct = await world.open();
        const broker = world.keep(await behind.open());
        const dead = new Seen<Message>();
        await direct.subscribe(`${topic}.dead`, (each) => dead.add(each.message), { group: 'd' });
        const seen = new Seen<string>();
        const handle = (delivery: Delivery) => seen.add(`${text(delivery)} ${delivery.attempt}`);
        const options = {
          group: 'g',
          ackWaitMs: 900,
          concurrency: 3,
          retry: { attempts: 2, backoff: FAST },
        };
        await broker.subscribe(topic, handle, options);
        for (let round = 0; round < 4; round++) {
          // What the server sends arrives late, so that the cut finds it on its way.
          proxy.latencyMs = 80;
          const texts = Array.from({ length: 6 }, (_, index) => `${round}-${index}`);
          await publishAll(direct, topic, texts);
          await quiet(40);
          proxy.cut();
          await quiet(100);
          proxy.cut();
          proxy.latencyMs = 0;
          await seen.until(
            (items) => texts.every((each) => items.some((item) => item.startsWith(`${each} `))),
            'every message of the round',
          );
        }
        await quiet(1500);
        const handed = new Map<string, number>();
        for (const item of seen.items) {
          const [name = '', attempt] = item.split(' ');
          const count = (handed.get(name) ?? 0) + 1;
          handed.set(name, count);
          assert.ok(Number(attempt) <= count, `${item} is hand-over ${count}`);
        }
        for (const letter of dead.items) assert.equal(handed.get(text(letter)), 2, text(letter));
      } finally {
        proxy.latencyMs = 0;
        await world.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'in strict order a message that kills its process is dead after its attempts, then its successors come',
    needs: need('persistent', 'deadLetter', 'strictOrder'),
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(world) {
      const { seen, letters } = await doomed(world, {
        texts: ['poison', 'a', 'b', 'c'],
        options: {
          ordered: 'strictly',
          maxInFlight: 4,
          ackWaitMs: 600,
          retry: { attempts: 3, backoff: FAST },
        },
        how: 'kill',
        workMs: 0,
      });
      assert.deepEqual(attemptsOf(seen, 'poison'), [1, 2, 3]);
      const others = seen.filter((each) => each.text !== 'poison');
      assert.deepEqual(
        others.map((each) => `${each.text}${each.attempt}`),
        ['a1', 'b1', 'c1'],
      );
      onlyPoison(letters, 3);
    },
  },
  ...(['strictly', 'by-key'] as const).map(
    (ordered): Case => ({
      name: `ordered ${ordered}: a handler slower than ackWaitMs uses up its attempts, then its successors come`,
      needs: need('deadLetter', ordered === 'strictly' ? 'strictOrder' : 'orderPerKey'),
      async run(world) {
        const broker = await world.open();
        const topic = world.topic();
        const dead = new Seen<Message>();
        await broker.subscribe(`${topic}.dead`, (each) => dead.add(each.message), { group: 'd' });
        const seen = new Seen<string>();
        await broker.subscribe(
          topic,
          async (delivery) => {
            seen.add(`${text(delivery)}${delivery.attempt}`);
            if (text(delivery) === 'slow') await quiet(700);
          },
          { group: 'g', ordered, ackWaitMs: 500, retry: { attempts: 2, backoff: FAST } },
        );
        for (const each of ['slow', 'next', 'last']) {
          await broker.publish(topic, message(each, 'k'));
        }
        await seen.count(4);
        await dead.count(1);
        await quiet(700);
        assert.deepEqual(seen.items, ['slow1', 'slow2', 'next1', 'last1']);
        onlyPoisonLike(dead.items, 'slow', 2);
      },
    }),
  ),
  {
    name: 'a missed deadline is an attempt: after the last one the message is dead',
    needs: need('deadLetter'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const dead = new Seen<Message>();
      await broker.subscribe(`${topic}.dead`, (each) => dead.add(each.message), { group: 'd' });
      const seen = new Seen<number>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery.attempt), {
        group: 'g',
        ack: 'manual',
        ackWaitMs: 400,
        concurrency: 3,
        retry: { attempts: 3, backoff: FAST },
      });
      await broker.publish(topic, message('x'));
      await dead.count(1);
      await quiet(700);
      assert.deepEqual(seen.items, [1, 2, 3]);
      onlyPoisonLike(dead.items, 'x', 3);
    },
  },
  {
    name: 'a consumer that leaves counts what its handlers had, and not what it had fetched ahead',
    needs: need('persistent', 'maxInFlight'),
    async run(world) {
      const [first, second] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const held = new Seen<Delivery>();
      const subscriber = await first.subscribe(
        topic,
        async (delivery) => {
          held.add(delivery);
          if (held.length > WARM) return;
          await delivery.ack();
        },
        { group: 'g', ack: 'manual', concurrency: 2, maxInFlight: 6, ackWaitMs: 30_000 },
      );
      // So many are handled that the consumer fetches ahead of its handlers.
      await publishAll(first, topic, Array(WARM).fill('warm'));
      await held.count(WARM);
      await publishAll(first, topic, ['a', 'b', 'c', 'd', 'e', 'f']);
      await held.count(WARM + 6);
      await subscriber.unsubscribe();
      const seen = new Seen<string>();
      await second.subscribe(topic, (each) => seen.add(`${text(each)}${each.attempt}`), {
        group: 'g',
      });
      await seen.count(6);
      assert.deepEqual([...seen.items].sort(), ['a2', 'b2', 'c2', 'd2', 'e2', 'f2']);
    },
  },
  {
    name: 'what waits behind a handler when its consumer leaves comes as the first attempt',
    needs: need('persistent', 'maxInFlight'),
    async run(world) {
      const [first, second] = await Promise.all([world.open({ drainTimeoutMs: 0 }), world.open()]);
      const topic = world.topic();
      const began = new Seen<string>();
      await first.subscribe(
        topic,
        (delivery) => {
          began.add(text(delivery));
          return text(delivery) === 'warm' ? undefined : new Promise(() => {});
        },
        { group: 'g', maxInFlight: 4, ackWaitMs: 700 },
      );
      await publishAll(first, topic, Array(WARM).fill('warm'));
      await began.count(WARM);
      await publishAll(first, topic, ['a', 'b', 'c', 'd']);
      await began.count(WARM + 1);
      await quiet(100);
      await first.disconnect();
      const seen = new Seen<string>();
      await second.subscribe(topic, (each) => seen.add(`${text(each)}${each.attempt}`), {
        group: 'g',
        ackWaitMs: 700,
      });
      const all = [...(await seen.count(4))].sort();
      assert.deepEqual(all, ['a2', 'b1', 'c1', 'd1']);
    },
  },
];

/** Deliveries after which every broker fetches ahead. */
const WARM = 60;

function onlyPoisonLike(letters: readonly Message[], name: string, attempts: number): void {
  assert.deepEqual(letters.map(text), [name]);
  assert.equal(letters[0]?.headers[deadLetterHeaders.attempts], String(attempts));
}
