/** Dead letters: stored once, never lost, with their origin and reason. */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import { deadLetterHeaders, type RawMessage } from '../../broker/message/message.ts';
import {
  type Case,
  collect,
  message,
  need,
  nextEvent,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../case-context.ts';

const FAST = { minMs: 10, maxMs: 50, jitter: false };
const needs = need('deadLetter');

export const deadLetters: readonly Case[] = [
  {
    name: 'after the last attempt a message is dead-lettered, with origin, group, reason and attempts',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const dead = new Seen<RawMessage>();
      await broker.subscribe(`${topic}.dead`, ({ message }) => dead.add(message), { group: 'd' });
      let attempts = 0;
      await broker.subscribe(
        topic,
        () => {
          attempts++;
          throw new Error('cannot parse größe');
        },
        { group: 'billing', retry: { attempts: 3, backoff: FAST } },
      );
      const { id } = await broker.publish(topic, message('poison', 'k', { own: 'header' }));
      const [letter] = await dead.count(1);
      assert.equal(attempts, 3);
      assert.equal(text(letter as RawMessage), 'poison');
      assert.equal(letter?.key, 'k');
      const { [deadLetterHeaders.time]: time, ...headers } = letter?.headers ?? {};
      assert.ok(Math.abs(Date.parse(time ?? '') - Date.now()) < 60_000);
      assert.deepEqual(headers, {
        own: 'header',
        [deadLetterHeaders.topic]: topic,
        [deadLetterHeaders.group]: 'billing',
        [deadLetterHeaders.id]: id,
        [deadLetterHeaders.reason]: 'cannot parse größe',
        [deadLetterHeaders.attempts]: '3',
      });
    },
  },
  {
    name: 'failing messages among others: the others are handled, each failing one is dead-lettered once, none is pending',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const dead = await collect(broker, `${topic}.dead`, { group: 'd' });
      const good = new Seen<string>();
      await broker.subscribe(
        topic,
        (delivery) => {
          if (Number(text(delivery)) % 10 === 0) throw new Error('poison');
          good.add(text(delivery));
        },
        { group: 'g', retry: { attempts: 2, backoff: FAST }, concurrency: 4 },
      );
      await publishAll(broker, topic, numbers(0, 100));
      await Promise.all([good.count(90), dead.seen.count(10)]);
      await quiet(200);
      assert.deepEqual(
        sorted(dead.seen.items),
        numbers(0, 100).filter((each) => Number(each) % 10 === 0),
      );
      assert.deepEqual([dead.seen.length, good.length], [10, 90]);
      if (broker.capabilities.pendingList === 'entries') {
        assert.deepEqual(await broker.pending(topic, 'g'), []);
      }
    },
  },
  {
    name: 'a handler can dead-letter a message at once, to a topic that the subscription names',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const events = new Seen<string>();
      broker.on('deadLettered', ({ reason }) => events.add(reason));
      const own = context.topic('morgue');
      const dead = await collect(broker, own, { group: 'd' });
      const usual = await collect(broker, `${topic}.dead`, { group: 'd' });
      const subscribed = await mayChooseTheName(
        broker.subscribe(topic, (delivery) => delivery.deadLetter('of no use'), {
          group: 'g',
          deadLetter: own,
        }),
      );
      if (!subscribed) return;
      await broker.publish(topic, message('x'));
      await dead.seen.count(1);
      assert.deepEqual([...(await events.count(1))], ['of no use']);
      await quiet(200);
      assert.deepEqual([dead.seen.items, usual.seen.items], [['x'], []]);
    },
  },
  {
    name: "what has used up its attempts goes to the topic of the subscription's choice and to no other",
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const own = context.topic('morgue');
      const dead = await collect(broker, own, { group: 'd' });
      const usual = await collect(broker, `${topic}.dead`, { group: 'd' });
      const subscribed = await mayChooseTheName(
        broker.subscribe(
          topic,
          () => {
            throw new Error('no');
          },
          { group: 'g', deadLetter: own, retry: { attempts: 2, backoff: FAST } },
        ),
      );
      if (!subscribed) return;
      await broker.publish(topic, message('x'));
      await dead.seen.count(1);
      await quiet(200);
      assert.deepEqual([dead.seen.items, usual.seen.items], [['x'], []]);
    },
  },
  {
    name: 'a delivery that was lost cannot be dead-lettered: the message is never both',
    needs,
    alone: true,
    async run(context) {
      const [slow, other] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const dead = await collect(other, `${topic}.dead`, { group: 'd' });
      const outcome = new Seen<string>();
      const handled = new Seen<number>();
      await slow.subscribe(
        topic,
        async (delivery) => {
          if (delivery.attempt > 1) return handled.add(delivery.attempt);
          // Blocks the event loop, so that this process does not notice the passed deadline.
          const end = performance.now() + 700;
          while (performance.now() < end);
          await delivery.deadLetter('late').catch(({ code }) => outcome.add(code));
        },
        { group: 'g', ackWaitMs: 500, concurrency: 2 },
      );
      await slow.publish(topic, message('x'));
      await Promise.all([outcome.count(1), handled.count(1)]);
      assert.deepEqual(outcome.items, ['DELIVERY_LOST']);
      await quiet(200);
      assert.equal(dead.seen.length, 0);
    },
  },
  {
    name: 'with deadLetter: false a message without attempts left is dropped, and reported',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const warnings = new Seen<string>();
      broker.on('warning', ({ error }) => warnings.add(error.message));
      const dead = await collect(broker, `${topic}.dead`, { group: 'd' });
      await broker.subscribe(
        topic,
        () => {
          throw new Error('no');
        },
        { group: 'g', deadLetter: false, retry: { attempts: 1 } },
      );
      await broker.publish(topic, message('x'));
      assert.match(String(await warnings.count(1)), /dropped/);
      await quiet(300);
      assert.deepEqual(dead.seen.items, []);
    },
  },
  {
    name: 'what a handler writes into its message changes neither its retry nor its dead letter',
    needs: need('deadLetter'),
    async run(context) {
      const broker = await context.open();
      for (const ordered of ['none', 'key'] as const) {
        if (ordered === 'key' && !broker.capabilities.orderPerKey) continue;
        const topic = context.topic();
        const facts = ({ message }: Delivery) =>
          `${Buffer.from(message.body)} ${message.headers.kind}`;
        const letters = new Seen<string>();
        await broker.subscribe(`${topic}.dead`, (each) => letters.add(facts(each)), { group: 'd' });
        const seen = new Seen<string>();
        await broker.subscribe(
          topic,
          (delivery) => {
            const { message } = delivery;
            seen.add(facts(delivery));
            message.body.fill(48);
            (message.headers as Record<string, string>).kind = 'changed';
            throw new Error('no');
          },
          { group: 'g', ordered, retry: { attempts: 2, backoff: { minMs: 20, maxMs: 20 } } },
        );
        await broker.publish(topic, message('bytes', 'k', { kind: 'sent' }));
        assert.deepEqual([...(await letters.count(1))], ['bytes sent'], ordered);
        assert.deepEqual(seen.items, ['bytes sent', 'bytes sent'], ordered);
      }
    },
  },
  {
    name: 'redrive publishes dead letters again, only for the group that could not handle them',
    needs: need('deadLetter', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      let broken = true;
      const dead = await collect(broker, `${topic}.dead`, { group: 'd' });
      const repaired = new Seen<string>();
      const handle = (delivery: Parameters<typeof text>[0]) => {
        if (broken) throw new Error('down');
        repaired.add(text(delivery));
      };
      await broker.subscribe(topic, handle, { group: 'g', retry: { attempts: 1 } });
      const other = await collect(broker, topic, { group: 'other' });
      await publishAll(broker, topic, numbers(0, 5));
      await Promise.all([dead.seen.count(5), other.seen.count(5)]);
      broken = false;
      assert.equal(await broker.redrive(topic, { limit: 2 }), 2);
      await repaired.count(2);
      assert.equal(await broker.redrive(topic), 3);
      assert.deepEqual(sorted(await repaired.count(5)), numbers(0, 5));
      assert.equal(await broker.redrive(topic), 0);
      await quiet(200);
      assert.equal(other.seen.length, 5);
    },
  },
  {
    name: 'two redrives at the same time publish each dead letter once, and neither fails',
    needs: need('deadLetter', 'persistent'),
    async run(context) {
      const [one, other] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const dead = new Seen<string>();
      one.on('deadLettered', ({ id }) => dead.add(id));
      const failing = await one.subscribe(
        topic,
        () => {
          throw new Error('no');
        },
        { group: 'g', retry: { attempts: 1 } },
      );
      await publishAll(one, topic, numbers(0, 30));
      await dead.count(30);
      await failing.unsubscribe();
      const counts = await Promise.all([one.redrive(topic), other.redrive(topic)]);
      assert.equal(counts[0] + counts[1], 30);
      const { seen } = await collect(one, topic, { group: 'g' });
      await seen.count(30);
      await quiet(200);
      assert.deepEqual(sorted(seen.items), numbers(0, 30));
    },
  },
  {
    name: 'redrive makes a topic again that another client has deleted',
    needs: need('deadLetter', 'persistent'),
    async run(context) {
      const [broker, other] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const dead = nextEvent(broker, 'deadLettered');
      const failing = await broker.subscribe(
        topic,
        () => {
          throw new Error('no');
        },
        { group: 'g', retry: { attempts: 1 } },
      );
      await broker.publish(topic, message('x'));
      await dead;
      await failing.unsubscribe();
      await other.deleteTopic(topic);
      assert.equal(await broker.redrive(topic), 1);
      const { seen } = await collect(broker, topic, { group: 'g', from: 'earliest' });
      assert.deepEqual([...(await seen.count(1))], ['x']);
    },
  },
  {
    name: 'redrive finds nothing where there are no dead letters, or where they were deleted',
    needs: need('deadLetter', 'persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.publish(topic, message('good'));
      assert.equal(await broker.redrive(topic), 0);
      const dead = nextEvent(broker, 'deadLettered');
      const subscriber = await broker.subscribe(
        topic,
        () => {
          throw new Error('no');
        },
        { group: 'g', from: 'earliest', retry: { attempts: 1 } },
      );
      await dead;
      await subscriber.unsubscribe();
      await broker.deleteTopic(`${topic}.dead`);
      assert.equal(await broker.redrive(topic), 0);
    },
  },
  {
    name: 'redrive loses no dead letter where its topic takes no message',
    needs: need('deadLetter', 'persistent'),
    uses: ['occupy'],
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const dead = new Seen<string>();
      broker.on('deadLettered', ({ id }) => dead.add(id));
      const subscriber = await broker.subscribe(
        topic,
        () => {
          throw new Error('no');
        },
        { group: 'g', retry: { attempts: 1 } },
      );
      await publishAll(broker, topic, numbers(0, 3));
      await dead.count(3);
      await subscriber.unsubscribe();
      await broker.deleteTopic(topic);
      const free = await context.fixture.occupy?.(topic);
      await assert.rejects(broker.redrive(topic));
      await free?.();
      assert.equal(await broker.redrive(topic), 3);
      const again = await collect(broker, topic, { group: 'g', from: 'earliest' });
      assert.deepEqual(sorted(await again.seen.count(3)), numbers(0, 3));
    },
  },
  {
    name: 'a dead letter that was redriven before its consumer could settle the message is not stored again',
    needs: need('deadLetter', 'persistent', 'dedup'),
    uses: ['behindProxy'],
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const direct = await context.open();
        const topic = context.topic();
        const letters = new Seen<string>();
        await direct.subscribe(`${topic}.dead`, (each) => letters.add(text(each)), { group: 'd' });
        const options = { group: 'g', ackWaitMs: 700, retry: { attempts: 1 } };
        const failing = context.keep(await behind.open({ drainTimeoutMs: 0 }));
        const began = new Seen<string>();
        let fail = () => {};
        await failing.subscribe(
          topic,
          (delivery) => {
            began.add(text(delivery));
            return new Promise<void>((_, reject) => {
              fail = () => reject(new Error('no'));
            });
          },
          options,
        );
        await direct.publish(topic, message('x'));
        await began.count(1);
        // The server has read what the hand-over has written before this.
        await failing.publish(`${topic}.other`, message('y'));
        // The letter is stored, and the consumer is gone before it has the answer.
        proxy.latencyMs = 200;
        fail();
        await letters.count(1);
        proxy.mode = 'refuse';
        proxy.cut();
        assert.equal(await direct.redrive(topic), 1);
        const handled = new Seen<string>();
        await direct.subscribe(topic, (each) => handled.add(text(each)), options);
        await handled.count(1);
        // The first message comes again once the server gives it to another consumer.
        await quiet(2500);
        assert.deepEqual([handled.items, letters.items], [['x'], ['x']]);
        assert.equal(await direct.redrive(topic), 0);
      } finally {
        proxy.latencyMs = 0;
        proxy.mode = 'pass';
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'a redriven message that fails again after a replay is dead-lettered again',
    needs: need('deadLetter', 'replayById'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const attempted = new Seen<string>();
      const dead = new Seen<string>();
      let isFailing = true;
      broker.on('deadLettered', ({ id }) => dead.add(id));
      await broker.subscribe(
        topic,
        (delivery) => {
          attempted.add(text(delivery));
          if (isFailing) throw new Error('no');
        },
        { group: 'g', retry: { attempts: 1 } },
      );
      await broker.publish(topic, message('x'));
      await dead.count(1);
      isFailing = false;
      assert.equal(await broker.redrive(topic), 1);
      await attempted.count(2);
      isFailing = true;
      await broker.replay(topic, 'g', 'earliest');
      // The message itself, and the one that the redrive has stored.
      await dead.count(3);
      assert.equal(await broker.redrive(topic), 2);
    },
  },
];

/** False in a Redis Cluster, where another topic may be on another node: then the option is refused. */
async function mayChooseTheName(subscribing: Promise<unknown>): Promise<boolean> {
  try {
    await subscribing;
    return true;
  } catch (error) {
    const { code, message: text } = error as { code?: string; message: string };
    if (code !== 'UNSUPPORTED') throw error;
    assert.match(text, /^in Redis Cluster .* can only be .*\.dead/);
    return false;
  }
}
