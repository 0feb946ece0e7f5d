/** Retries: unsettled messages are redelivered, at the right time. */
import assert from 'node:assert/strict';
import type { Broker, Delivery } from '../../broker/broker.ts';
import {
  assertPassed,
  assertWithin,
  type Case,
  collect,
  eventually,
  type Moment,
  message,
  need,
  now,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../case-context.ts';

const FAST = { attempts: 10, backoff: { minMs: 20, maxMs: 50, jitter: false } };

const needsTrimReports: NonNullable<Case['needs']> = ({ trimmedPending }) =>
  trimmedPending === 'reported' || trimmedPending === 'own'
    ? null
    : `trimmedPending: ${trimmedPending}`;

/** What the broker warns of messages that are lost, as it comes. */
function reportsOfLost(broker: Pick<Broker, 'on'>): Seen<string> {
  const reported = new Seen<string>();
  broker.on('warning', ({ error }) => {
    const { code } = error as { code?: string };
    if (code === 'DELIVERY_LOST') reported.add(error.message);
  });
  return reported;
}

export const retries: readonly Case[] = [
  {
    name: 'a message whose handler fails twice is handled at the third attempt',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const attempts = new Map<string, number[]>();
      const done = new Seen<string>();
      await broker.subscribe(
        topic,
        ({ message, attempt }) => {
          const name = text(message);
          attempts.set(name, [...(attempts.get(name) ?? []), attempt]);
          if (attempt <= 2) throw new Error('not yet');
          done.add(name);
        },
        { group: 'g', retry: FAST, concurrency: 5 },
      );
      await publishAll(broker, topic, numbers(0, 100));
      assert.deepEqual(sorted(await done.count(100)), numbers(0, 100));
      for (const [name, each] of attempts) assert.deepEqual(each, [1, 2, 3], name);
    },
  },
  {
    name: 'a nack with a delay is redelivered after the delay, not earlier',
    needs: need('delayedNack'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const times = new Seen<Moment>();
      const delays = [0, 300, 1200];
      await broker.subscribe(
        topic,
        async (delivery) => {
          times.add(now());
          const delayMs = delays[delivery.attempt - 1];
          if (delayMs !== undefined) await delivery.nack({ delayMs });
        },
        // The longest delay is beyond ackWaitMs: the deadline must not bring it back earlier.
        { group: 'g', ack: 'manual', ackWaitMs: 1000 },
      );
      await broker.publish(topic, message('x'));
      const at = await times.count(4);
      delays.forEach((delay, index) => {
        const [from, to] = [at[index] as Moment, at[index + 1] as Moment];
        assertPassed(from, to, delay);
        assertWithin(from, to, delay + 10_000);
      });
    },
  },
  {
    name: 'a delayed nack delays no other message',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        ({ message }) => {
          if (text(message) === '0') throw new Error('poison');
          seen.add(text(message));
        },
        { group: 'g', retry: { attempts: 3, backoff: { minMs: 30_000 } } },
      );
      await publishAll(broker, topic, numbers(0, 50));
      assert.deepEqual(sorted(await seen.count(49)), numbers(1, 50));
    },
  },
  {
    name: 'a message that its consumer returned before it closed goes to another consumer after its delay',
    needs: need('delayedNack', 'persistent'),
    async run(context) {
      const topic = context.topic();
      const [first, second] = await Promise.all([context.open(), context.open()]);
      const given = new Seen<Moment>();
      await first.subscribe(
        topic,
        async (delivery) => {
          const began = now();
          await delivery.nack({ delayMs: 800 });
          given.add(began);
        },
        { group: 'g', ack: 'manual' },
      );
      await first.publish(topic, message('x'));
      const [at] = await given.count(1);
      await first.disconnect();
      const taken = new Seen<Delivery>();
      await second.subscribe(topic, (delivery) => taken.add(delivery), { group: 'g' });
      const [delivery] = await taken.count(1);
      assertPassed(at as Moment, now(), 800);
      assert.equal(delivery?.attempt, 2);
    },
  },
  {
    name: 'a message that is neither settled nor extended by its deadline is redelivered; its late ack is refused',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery), {
        group: 'g',
        ack: 'manual',
        ackWaitMs: 500,
        concurrency: 2,
      });
      await broker.publish(topic, message('x'));
      const [first, second] = (await seen.count(2)) as [Delivery, Delivery];
      assert.deepEqual([first.attempt, second.attempt, second.id === first.id], [1, 2, true]);
      assert.equal(first.signal.aborted, true);
      await assert.rejects(first.ack(), { code: 'DELIVERY_LOST' });
      await assert.rejects(first.nack(), { code: 'DELIVERY_LOST' });
      await second.ack();
      await quiet(1200);
      assert.equal(seen.length, 2);
    },
  },
  {
    name: 'extend moves the deadline for long work',
    needs: need('extend'),
    async run(context) {
      const [one, two] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<number>();
      const done = new Seen<string>();
      for (const broker of [one, two]) {
        await broker.subscribe(
          topic,
          async (delivery) => {
            seen.add(delivery.attempt);
            await delivery.extend(300);
            await delivery.extend(3000);
            await quiet(1800);
            await delivery.ack();
            done.add('done');
          },
          { group: 'g', ack: 'manual', ackWaitMs: 600 },
        );
      }
      await one.publish(topic, message('x'));
      await done.count(1);
      await quiet(800);
      assert.deepEqual(seen.items, [1]);
    },
  },
  {
    name: 'a second settlement of any kind is ALREADY_SETTLED',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const codes = new Seen<string>();
      await broker.subscribe(
        topic,
        async (delivery) => {
          await delivery.ack();
          const settlements = [
            delivery.ack(),
            delivery.nack(),
            delivery.deadLetter('x'),
            delivery.extend(1000),
          ];
          for (const each of settlements) await each.catch(({ code }) => codes.add(code));
        },
        { group: 'g' },
      );
      await broker.publish(topic, message('x'));
      assert.deepEqual([...(await codes.count(4))], Array(4).fill('ALREADY_SETTLED'));
    },
  },
  {
    name: 'a handler that never returns does not keep its messages from other consumers',
    async run(context) {
      const [stuck, sound] = await Promise.all([
        context.open({ drainTimeoutMs: 100 }),
        context.open(),
      ]);
      const topic = context.topic();
      const began = new Seen<string>();
      await stuck.subscribe(
        topic,
        ({ message }) => {
          began.add(text(message));
          return new Promise(() => {});
        },
        { group: 'g', ackWaitMs: 500, maxInFlight: 2 },
      );
      await publishAll(stuck, topic, numbers(0, 4));
      await began.count(1);
      const { seen } = await collect(sound, topic, { group: 'g', ackWaitMs: 500 });
      await seen.until((items) => items.includes(began.items[0] as string), 'the stuck one');
      // The message that waited behind the stuck handler is returned when that consumer closes.
      await stuck.disconnect();
      await seen.until((items) => new Set(items).size === 4, 'all four');
    },
  },
  {
    name: 'handler errors are reported, and a failing member does not stop the other members',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const errors = new Seen<unknown>();
      broker.on('handlerError', ({ error }) => errors.add((error as Error).message));
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        () => {
          throw new Error('always');
        },
        { group: 'bad', retry: { attempts: 2, backoff: { minMs: 10, jitter: false } } },
      );
      await broker.subscribe(topic, (each) => seen.add(text(each)), {
        group: 'good',
      });
      await publishAll(broker, topic, numbers(0, 10));
      assert.deepEqual(sorted(await seen.count(10)), numbers(0, 10));
      await errors.count(20);
    },
  },
  {
    name: 'pending() lists the consumer, idle time and attempts of each entry',
    needs: need('pendingList'),
    async run(context) {
      const broker = await context.open({ clientName: 'worker-7' });
      const topic = context.topic();
      const seen = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery), {
        group: 'g',
        ack: 'manual',
        concurrency: 5,
      });
      const receipts = await publishAll(broker, topic, numbers(0, 5));
      const deliveries = await seen.count(5);
      await deliveries[0]?.ack();
      await deliveries[1]?.nack({ delayMs: 60_000 });
      const entries = await broker.pending(topic, 'g');
      assert.deepEqual(
        entries.map(({ id }) => id),
        receipts.slice(1).map(({ id }) => id),
      );
      assert.equal(entries[0]?.consumer, '', 'no consumer holds what waits for its retry');
      assert.match(entries[1]?.consumer ?? '', /^worker-7/);
      assert.ok(entries.every(({ attempts, idleMs }) => attempts === 1 && idleMs < 10_000));
      const page = await broker.pending(topic, 'g', { limit: 2, after: entries[0]?.id ?? '' });
      assert.deepEqual(
        page.map(({ id }) => id),
        receipts.slice(2, 4).map(({ id }) => id),
      );
      assert.deepEqual(await broker.pending(topic, 'g', { minIdleMs: 60_000 }), []);
      await assert.rejects(broker.pending(topic, 'no-group'), { code: 'NOT_FOUND' });
    },
  },
  {
    name: 'a message that is trimmed while pending does not stay pending',
    needs: need('persistent', 'pendingList'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<Delivery>();
      await broker.subscribe(topic, (delivery) => seen.add(delivery), {
        group: 'g',
        ack: 'manual',
        ackWaitMs: 500,
        concurrency: 2,
      });
      await broker.publish(topic, message('old'));
      await seen.count(1);
      for (const each of numbers(0, 300)) {
        await broker.publish(topic, message(each), { maxLength: 1 });
      }
      await eventually('the trimmed one is no longer pending', async () => {
        for (const delivery of seen.items) await delivery.ack().catch(() => {});
        const entries = await broker.pending(topic, 'g');
        return entries.every(({ id }) => id !== seen.items[0]?.id);
      });
    },
  },
  {
    name: 'a message that is trimmed while it waits for its retry is reported once and not delivered',
    needs: needsTrimReports,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const reported = reportsOfLost(broker);
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        (delivery) => {
          seen.add(text(delivery));
          if (text(delivery) === 'old') throw new Error('not now');
        },
        {
          group: 'g',
          retry: { attempts: 5, backoff: { minMs: 2500, maxMs: 2500, jitter: false } },
        },
      );
      const { id } = await broker.publish(topic, message('old'));
      await seen.count(1);
      // A server may trim by whole blocks: the last message is certainly not in the block of the first.
      // One call: one by one they might take longer than the retry waits.
      const others = numbers(0, 300).map((each) => message(each));
      await broker.publishBatch(topic, others, { maxLength: 1 });
      // Others may be trimmed before their handlers have them, and are reported, too.
      const ofOld = () =>
        reported.items.filter((each) => each.includes(`message ${id} of ${topic}`));
      await reported.until(() => ofOld().length > 0, 'report of the trimmed message');
      await quiet(1000);
      assert.equal(ofOld().length, 1);
      assert.equal(seen.items.filter((each) => each === 'old').length, 1);
    },
  },
  {
    name: 'a message that is trimmed while its handler has it is reported once when the handler fails, and not delivered again',
    needs: needsTrimReports,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const reported = reportsOfLost(broker);
      const seen = new Seen<string>();
      let fail = () => {};
      const trimmed = new Promise<void>((_, reject) => {
        fail = () => reject(new Error('not now'));
      });
      const backoff = { minMs: 2500, maxMs: 2500, jitter: false };
      await broker.subscribe(
        topic,
        (delivery) => {
          seen.add(text(delivery));
          return text(delivery) === 'old' ? trimmed : undefined;
        },
        { group: 'g', ackWaitMs: 60_000, retry: { attempts: 5, backoff } },
      );
      const { id } = await broker.publish(topic, message('old'));
      await seen.count(1);
      const others = numbers(0, 300).map((each) => message(each));
      await broker.publishBatch(topic, others, { maxLength: 1 });
      fail();
      const ofOld = () =>
        reported.items.filter((each) => each.includes(`message ${id} of ${topic}`));
      await reported.until(() => ofOld().length > 0, 'report of the trimmed message');
      // The newest message is not trimmed.
      await seen.until((all) => all.includes('299'), 'the newest message');
      await quiet(1000);
      assert.equal(ofOld().length, 1);
      assert.equal(seen.items.filter((each) => each === 'old').length, 1);
    },
  },
  {
    name: 'a message that its broker keeps for a group is retried though its topic was trimmed',
    needs: ({ trimmedPending }) =>
      trimmedPending === 'kept' ? null : `trimmedPending: ${trimmedPending}`,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<string>();
      await broker.subscribe(
        topic,
        (delivery) => {
          seen.add(text(delivery));
          if (text(delivery) === 'old' && delivery.attempt === 1) throw new Error('not now');
        },
        {
          group: 'g',
          retry: { attempts: 5, backoff: { minMs: 1000, maxMs: 1000, jitter: false } },
        },
      );
      await broker.publish(topic, message('old'));
      await seen.count(1);
      for (const each of numbers(0, 300)) {
        await broker.publish(topic, message(each), { maxLength: 1 });
      }
      await seen.count(302);
      assert.equal(seen.items.filter((each) => each === 'old').length, 2);
    },
  },
  {
    name: 'a count of a hand-over that reaches the server late replaces no newer one',
    needs: need('persistent', 'deadLetter'),
    uses: ['behindProxy'],
    timeoutMs: 120_000,
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = context.topic();
        const direct = await context.open({ drainTimeoutMs: 0 });
        const first = context.keep(await behind.open({ drainTimeoutMs: 0 }));
        const options = {
          group: 'g',
          ackWaitMs: 1500,
          retry: { attempts: 10, backoff: { minMs: 10, maxMs: 10 } },
        };
        const never = () => new Promise<void>(() => {});
        await first.subscribe(topic, never, options);
        // It asks for messages. From here on the server does not see what it writes.
        await quiet(100);
        proxy.mode = 'half open';
        await direct.publish(topic, message('x'));
        await quiet(300);
        const seen = new Seen<number>();
        const subscriber = await direct.subscribe(
          topic,
          (delivery) => {
            seen.add(delivery.attempt);
            if (seen.length < 4) throw new Error('again');
            return never();
          },
          options,
        );
        await seen.count(4);
        proxy.mode = 'pass';
        proxy.cut();
        // The first consumer connects again, and sends what the server has not answered.
        await quiet(6000);
        await subscriber.unsubscribe();
        const last = new Seen<number>();
        const other = await context.open();
        await other.subscribe(topic, (delivery) => last.add(delivery.attempt), options);
        await last.count(1);
        const expected = (seen.items.at(-1) as number) + 1;
        assert.ok((last.items[0] as number) >= expected, `${last.items[0]} is not ${expected}`);
      } finally {
        proxy.mode = 'pass';
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
];
