/** Dead letters: never lost, never doubled, with where from and why. */
import assert from 'node:assert/strict';
import { deadLetterHeaders, type Message } from '../../broker/message.ts';
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

const FAST = { minMs: 10, maxMs: 50, jitter: false };
const needs = need('deadLetter');

export const deadLetters: readonly Case[] = [
  {
    name: 'after the last attempt a message goes there, with origin, group, reason and attempts',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const dead = new Seen<Message>();
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
      assert.equal(text(letter as Message), 'poison');
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
    name: 'poison among good messages: the good ones pass, the poison is dead once, nothing is pending',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'a handler may send a message there at once, to a topic of its own choice of name',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const events = new Seen<string>();
      broker.on('deadLettered', ({ reason }) => events.add(reason));
      const own = world.topic('morgue');
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
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const own = world.topic('morgue');
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
    name: 'a delivery that is no longer held cannot be made a dead letter: never both',
    needs,
    alone: true,
    async run(world) {
      const [slow, other] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
      const dead = await collect(other, `${topic}.dead`, { group: 'd' });
      const outcome = new Seen<string>();
      const handled = new Seen<number>();
      await slow.subscribe(
        topic,
        async (delivery) => {
          if (delivery.attempt > 1) return handled.add(delivery.attempt);
          // Blocks the loop, so that this process does not notice that the deadline has passed.
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
    name: 'with deadLetter: false what fails to the end is dropped, and reported',
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'redrive sends dead letters back, to the group that could not handle them alone',
    needs: need('deadLetter', 'persistent'),
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
];

/** False in a Redis Cluster, where another name may be another node's: it is refused, clearly. */
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
