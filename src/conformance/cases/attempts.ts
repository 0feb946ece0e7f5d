/**
 * Attempts: each hand-over to a handler is an attempt, however it ends, and nothing else is.
 *
 * A message that ends its process, misses its deadline, or whose consumer closes, has had an attempt.
 * Messages that were fetched ahead have had none.
 */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import { deadLetterHeaders, type RawMessage } from '../../broker/message/message.ts';
import type { SubscribeOptions } from '../../broker/options/options.ts';
import {
  type Case,
  type CaseContext,
  message,
  need,
  numbers,
  publishAll,
  quiet,
  Seen,
  text,
} from '../case-context.ts';
import { type HandOver, runDoomed } from '../doomed-peer.ts';

const needs = need('persistent', 'deadLetter');
const FAST = { minMs: 20, maxMs: 50, jitter: false };

interface Plan {
  readonly texts: readonly string[];
  readonly options: SubscribeOptions;
  readonly how: 'kill' | 'exit';
  readonly workMs: number;
}

/** Publishes, runs the process that ends itself on `poison` until it leaves, reads the dead letters. */
async function doomed(context: CaseContext, { texts, options, how, workMs }: Plan) {
  const topic = context.topic();
  const all = { ...options, group: 'g' };
  await context.briefly(async (broker) => {
    // The group exists before the messages.
    await broker.subscribe(topic, () => {}, all).then((each) => each.unsubscribe());
    await publishAll(broker, topic, texts);
  });
  const attempts = options.retry?.attempts ?? 3;
  const enough = texts.filter((each) => each !== 'poison').length;
  const doom = { topic, options: all, poison: 'poison', how, workMs, enough, poisonLeft: attempts };
  const seen = await runDoomed(context.processUrl, doom, attempts + 4);
  const dead = new Seen<RawMessage>();
  const broker = await context.open();
  const options2 = { group: 'd', from: 'earliest' } as const;
  await broker.subscribe(`${topic}.dead`, (each) => dead.add(each.message), options2);
  // The last member of the group finds only messages without attempts left.
  await broker.subscribe(topic, () => {}, all);
  const letters = await dead.count(1);
  await quiet(300);
  return { seen, letters };
}

function attemptsOf(seen: readonly HandOver[], name: string): number[] {
  return seen.filter((each) => each.text === name).map(({ attempt }) => attempt);
}

/**
 * Each hand-over is an attempt. A process that ends in the turn of a hand-over may lose its count on the way to a
 * server, once: the server may close the connection with the count unread. `file:` loses none.
 */
function assertCounted({ fixture }: CaseContext, got: readonly number[], name: string): void {
  const exact = got.map((_, at) => at + 1);
  const isRemote = fixture.url !== undefined && !fixture.url.startsWith('file:');
  const lost = got.findIndex((attempt, at) => attempt !== at + 1);
  if (!isRemote || lost < 1) assert.deepEqual(got, exact, name);
  else assert.deepEqual(got, [...exact.slice(0, lost), ...exact.slice(lost - 1, -1)], name);
}

function onlyPoison(letters: readonly RawMessage[], attempts: number): void {
  assert.deepEqual(letters.map(text), ['poison']);
  assert.equal(letters[0]?.headers[deadLetterHeaders.attempts], String(attempts));
}

/** Three handlers at once, of which one ends the process; the others take `workMs`. */
async function exactAmongOthers(context: CaseContext, workMs: number): Promise<void> {
  const others = ['a', 'b', 'c', 'd', 'e', 'f'];
  const { seen, letters } = await doomed(context, {
    texts: ['a', 'b', 'poison', 'c', 'd', 'e', 'f'],
    options: {
      concurrency: 3,
      maxInFlight: 7,
      ackWaitMs: 600,
      retry: { attempts: 2, backoff: FAST },
    },
    how: 'exit',
    workMs,
  });
  for (const each of ['poison', ...others]) {
    const got = attemptsOf(seen, each);
    assert.ok(got.length > 0, `${each} was handed over`);
    assertCounted(context, got, each);
  }
  assert.equal(attemptsOf(seen, 'poison').at(-1), 2);
  onlyPoison(letters, 2);
}

export const attempts: readonly Case[] = [
  {
    name: 'a message that kills its process is dead-lettered after its attempts, and no other message is',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(context) {
      const { seen, letters } = await doomed(context, {
        texts: ['poison', 'a', 'b', 'c', 'd'],
        options: { maxInFlight: 5, ackWaitMs: 600, retry: { attempts: 3, backoff: FAST } },
        how: 'kill',
        workMs: 0,
      });
      assertCounted(context, attemptsOf(seen, 'poison'), 'poison');
      assert.equal(attemptsOf(seen, 'poison').at(-1), 3);
      for (const each of ['a', 'b', 'c', 'd']) assert.deepEqual(attemptsOf(seen, each), [1], each);
      onlyPoison(letters, 3);
    },
  },
  {
    name: 'among other messages, only the one that makes its process exit is dead-lettered after its attempts',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    run: (context) => exactAmongOthers(context, 40),
  },
  {
    name: 'messages on their way to free handlers when another one ends the process have had no attempt',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    run: (context) => exactAmongOthers(context, 0),
  },
  {
    name: 'what a consumer had fetched ahead when its process was killed has had no attempt',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(context) {
      const warm = Array.from({ length: WARM }, (_, index) => `warm${index}`);
      const others = ['a', 'b', 'c', 'd'];
      const { seen, letters } = await doomed(context, {
        texts: [...warm, 'poison', ...others],
        options: { maxInFlight: 8, ackWaitMs: 600, retry: { attempts: 1 } },
        how: 'kill',
        workMs: 5,
      });
      for (const each of others) assert.deepEqual(attemptsOf(seen, each), [1], each);
      // A trusted consumer does not count every hand-over, and an acknowledgement may die with its process.
      const poisoned = attemptsOf(seen, 'poison');
      assert.ok(poisoned.length > 0 && poisoned.length <= 2, `poison: ${poisoned}`);
      assert.ok(letters.map(text).includes('poison'));
      for (const each of others) assert.ok(!letters.map(text).includes(each), each);
    },
  },
  {
    name: 'with one attempt, a message that kills its process has one attempt, and so have the others',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(context) {
      const { seen, letters } = await doomed(context, {
        texts: ['a', 'poison', 'b', 'c'],
        options: { maxInFlight: 10, ackWaitMs: 600, retry: { attempts: 1 } },
        how: 'kill',
        workMs: 0,
      });
      for (const each of ['b', 'c']) assert.deepEqual(attemptsOf(seen, each), [1], each);
      assertCounted(context, attemptsOf(seen, 'poison'), 'poison');
      assert.equal(attemptsOf(seen, 'poison').at(-1), 1);
      onlyPoison(letters, 1);
    },
  },
  {
    name: 'a message that kills its process costs the messages of parallel handlers no attempt',
    needs,
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(context) {
      const { seen, letters } = await doomed(context, {
        texts: ['poison', 'a', 'b', 'c', 'd'],
        options: { concurrency: 5, maxInFlight: 10, ackWaitMs: 600, retry: { attempts: 1 } },
        how: 'kill',
        workMs: 0,
      });
      for (const each of ['poison', 'a', 'b', 'c', 'd']) {
        assertCounted(context, attemptsOf(seen, each), each);
        assert.equal(attemptsOf(seen, each).at(-1), 1, each);
      }
      onlyPoison(letters, 1);
    },
  },
  {
    name: 'deliveries whose replies are lost are no attempts: no message is dead-lettered without its hand-overs',
    needs: (claimed) =>
      need('persistent', 'deadLetter', 'maxInFlight')(claimed) ??
      (claimed.attempts === 'hand-overs' ? null : 'attempts: deliveries'),
    uses: ['behindProxy'],
    timeoutMs: 90_000,
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = context.topic();
        const direct = await context.open();
        const broker = context.keep(await behind.open());
        const dead = new Seen<RawMessage>();
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
          // The server's bytes arrive late, so that the cut loses some of them.
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
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'a consumer with the client name of one that died counts the hand-overs of the dead one',
    needs: need('persistent', 'deadLetter'),
    uses: ['behindProxy'],
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = context.topic();
        const name = { clientName: 'worker-8', drainTimeoutMs: 0 };
        const options = { group: 'g', ackWaitMs: 700, retry: { attempts: 3, backoff: FAST } };
        const first = context.keep(await behind.open(name));
        const began = new Seen<number>();
        const never = (delivery: Delivery) => {
          began.add(delivery.attempt);
          return new Promise<void>(() => {});
        };
        await first.subscribe(topic, never, options);
        const direct = await context.open(name);
        await direct.publish(topic, message('x'));
        await began.count(1);
        // The server has read what the hand-over has written before this.
        await first.publish(`${topic}.other`, message('y'));
        proxy.mode = 'refuse';
        proxy.cut();
        const seen = new Seen<number>();
        await direct.subscribe(topic, (delivery) => seen.add(delivery.attempt), options);
        await seen.count(1);
        assert.deepEqual([...began.items, ...seen.items], [1, 2]);
      } finally {
        proxy.mode = 'pass';
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'a retry whose reply is lost is a second attempt when it comes again',
    needs: need('persistent', 'deadLetter'),
    uses: ['behindProxy'],
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = context.topic();
        const broker = context.keep(await behind.open());
        const seen = new Seen<number>();
        const handle = (delivery: Delivery) => {
          seen.add(delivery.attempt);
          if (delivery.attempt === 1) throw new Error('fails once');
        };
        const backoff = { minMs: 700, maxMs: 700, jitter: false };
        const options = { group: 'g', ackWaitMs: 900, retry: { attempts: 4, backoff } };
        await broker.subscribe(topic, handle, options);
        await broker.publish(topic, message('x'));
        await seen.count(1);
        await quiet(400);
        // What the server sends when the retry is due arrives late, so that the cut loses it.
        proxy.latencyMs = 400;
        await quiet(500);
        proxy.cut();
        proxy.latencyMs = 0;
        await seen.count(2);
        await quiet(1200);
        assert.deepEqual(
          seen.items,
          seen.items.map((_, at) => at + 1),
        );
      } finally {
        proxy.latencyMs = 0;
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'in strict order a message that kills its process is dead-lettered after its attempts, then its successors are delivered',
    needs: need('persistent', 'deadLetter', 'strictOrder'),
    uses: ['processUrl'],
    timeoutMs: 120_000,
    alone: true,
    async run(context) {
      const { seen, letters } = await doomed(context, {
        texts: ['poison', 'a', 'b', 'c'],
        options: {
          ordered: 'strict',
          maxInFlight: 4,
          ackWaitMs: 600,
          retry: { attempts: 3, backoff: FAST },
        },
        how: 'kill',
        workMs: 0,
      });
      assertCounted(context, attemptsOf(seen, 'poison'), 'poison');
      assert.equal(attemptsOf(seen, 'poison').at(-1), 3);
      const others = seen.filter((each) => each.text !== 'poison');
      assert.deepEqual(
        others.map((each) => `${each.text}${each.attempt}`),
        ['a1', 'b1', 'c1'],
      );
      onlyPoison(letters, 3);
    },
  },
  ...(['strict', 'key'] as const).map(
    (ordered): Case => ({
      name: `ordered ${ordered}: a handler slower than ackWaitMs uses up its attempts, then its successors come`,
      needs: need('deadLetter', ordered === 'strict' ? 'strictOrder' : 'orderPerKey'),
      async run(context) {
        const broker = await context.open();
        const topic = context.topic();
        const dead = new Seen<RawMessage>();
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
    name: 'a missed deadline is an attempt: after the last one the message is dead-lettered',
    needs: need('deadLetter'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const dead = new Seen<RawMessage>();
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
  ...(['none', 'strict', 'key'] as const).map(
    (ordered): Case => ({
      name: `ordered ${ordered}: a handler that holds its process up has no message twice as its first attempt`,
      needs:
        ordered === 'none'
          ? need('deadLetter')
          : need('deadLetter', ordered === 'strict' ? 'strictOrder' : 'orderPerKey'),
      alone: true,
      async run(context) {
        const broker = await context.open();
        const topic = context.topic();
        const seen = new Seen<string>();
        await broker.subscribe(
          topic,
          (delivery) => {
            seen.add(`${text(delivery)}${delivery.attempt}`);
            if (delivery.attempt === 1 && text(delivery) !== 'last') holdUp(900);
          },
          {
            group: 'g',
            ordered,
            maxInFlight: 3,
            ackWaitMs: 500,
            retry: { attempts: 3, backoff: FAST },
          },
        );
        await broker.publishBatch(topic, [message('a', 'k'), message('b', 'k')]);
        await seen.until((items) => items.includes('b1'), 'b');
        // The server delivers again what it does not know to be settled.
        await quiet(1200);
        await broker.publish(topic, message('last', 'k'));
        await seen.until((items) => items.includes('last1'), 'last');
        await quiet(700);
        for (const each of ['a', 'b', 'last']) {
          const got = seen.items.filter((item) => item.startsWith(each));
          assert.deepEqual(
            got,
            got.map((_, at) => `${each}${at + 1}`),
          );
        }
        if (ordered === 'none') return;
        const inOrder = [...seen.items].sort((one, other) => rankOf(one) - rankOf(other));
        assert.deepEqual(seen.items, inOrder);
      },
    }),
  ),
  {
    name: 'messages that reach a held-up process twice are not handed over twice as a first attempt',
    needs: need('persistent', 'deadLetter'),
    alone: true,
    async run(context) {
      const [broker, publisher] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        (delivery) => {
          const name = delivery.message.key ?? '';
          seen.add(`${name} ${delivery.attempt}`);
          if (name.startsWith('hold') && delivery.attempt === 1) holdUp(450);
        },
        { group: 'g', concurrency: 20, ackWaitMs: 200, retry: { attempts: 50, backoff: FAST } },
      );
      // Large bodies: a message and its second delivery do not come in one piece.
      const body = Buffer.alloc(Math.min(100_000, publisher.capabilities.maxBodyBytes));
      for (let round = 0; round < 4; round++) {
        const names = ['hold', ...numbers(0, 8)].map((each) => `${each}-${round}`);
        for (const key of names) await publisher.publish(topic, { body, headers: {}, key });
        await seen.until(
          (items) => names.every((each) => items.some((item) => item.startsWith(`${each} `))),
          'every message of the round',
        );
        await quiet(300);
      }
      const handed = new Map<string, number>();
      // A trusted consumer does not count every hand-over.
      for (const item of seen.items.slice(0, UNTRUSTED)) {
        const [name = '', attempt] = item.split(' ');
        const count = (handed.get(name) ?? 0) + 1;
        handed.set(name, count);
        assert.ok(Number(attempt) >= count, `${item} is hand-over ${count}`);
      }
    },
  },
  {
    name: 'a consumer that closes counts what its handlers had, and not what it had fetched ahead',
    needs: need('persistent', 'maxInFlight'),
    async run(context) {
      const [first, second] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
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
      // Enough are handled that the consumer fetches ahead of its handlers.
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
    name: 'a message that waits behind a handler when its consumer closes is delivered as the first attempt',
    needs: need('persistent', 'maxInFlight'),
    async run(context) {
      const [first, second] = await Promise.all([
        context.open({ drainTimeoutMs: 0 }),
        context.open(),
      ]);
      const topic = context.topic();
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

/** The place of a hand-over in order: of a before of b before of last, and in the order of attempts. */
function rankOf(handOver: string): number {
  const [, name = '', attempt = ''] = /^(.+)(\d)$/.exec(handOver) ?? [];
  return 10 * ['a', 'b', 'last'].indexOf(name) + Number(attempt);
}

/** Keeps the event loop, as a long calculation does. */
function holdUp(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

/** So many hand-overs of a consumer are all counted. */
const UNTRUSTED = 50;

/** Deliveries after which every broker fetches ahead. */
const WARM = 60;

function onlyPoisonLike(letters: readonly RawMessage[], name: string, attempts: number): void {
  assert.deepEqual(letters.map(text), [name]);
  assert.equal(letters[0]?.headers[deadLetterHeaders.attempts], String(attempts));
}
