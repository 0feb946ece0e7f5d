/** Subscribers that a loop reads: `for await (const delivery of subscriber)`. */
import assert from 'node:assert/strict';
import type { Delivery } from '../../broker/broker.ts';
import {
  type Case,
  collect,
  distinct,
  eventually,
  message,
  need,
  numbers,
  publishAll,
  quiet,
  Seen,
  text,
} from '../case-context.ts';

export const loops: readonly Case[] = [
  {
    name: 'a loop gets every message, and asking for the next acknowledges the one before',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const subscriber = await broker.subscribe(topic, { group: 'g', concurrency: 1 });
      await publishAll(broker, topic, numbers(0, 50));
      const seen: string[] = [];
      for await (const delivery of subscriber) {
        seen.push(delivery.text());
        assert.ok(subscriber.inFlight <= 2, 'maxInFlight is twice the concurrency');
        if (seen.length < 50) continue;
        await delivery.ack();
        break;
      }
      assert.deepEqual(distinct(seen), numbers(0, 50));
      assert.equal(seen.length, 50, 'none came twice');
      const again = await collect(broker, topic, { group: 'g' });
      await quiet(300);
      assert.equal(again.seen.length, 0, 'all of them are acknowledged');
    },
  },
  {
    name: 'leaving a loop unsubscribes, and what it had not settled is delivered again',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const options = { group: 'g', ackWaitMs: 20_000 } as const;
      const subscriber = await broker.subscribe(topic, options);
      await publishAll(broker, topic, numbers(0, 5));
      let left: Delivery | null = null;
      for await (const delivery of subscriber) {
        left = delivery;
        break;
      }
      assert.ok(left !== null);
      assert.equal(subscriber.inFlight, 0);
      await assert.rejects((left as Delivery).ack(), (error: { code?: string }) =>
        ['DELIVERY_LOST', 'ALREADY_SETTLED'].includes(error.code ?? ''),
      );
      for await (const _ of subscriber) assert.fail('a loop after the first has nothing');
      // Long before the deadline: it was returned.
      const seen = new Seen<string>();
      await broker.subscribe(topic, (each) => seen.add(`${text(each)} ${each.attempt}`), options);
      const all = await seen.count(5, 8000);
      const attempts = new Map(all.map((each) => each.split(' ') as [string, string]));
      assert.deepEqual(distinct(attempts.keys()), numbers(0, 5));
      assert.equal(attempts.get(text(left as Delivery)), '2', 'the one that the loop had');
    },
  },
  {
    name: 'with manual acknowledgement only the body settles, at most maxInFlight at a time',
    needs: need('maxInFlight'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await using subscriber = await broker.subscribe(topic, {
        group: 'g',
        ack: 'manual',
        maxInFlight: 4,
      });
      await publishAll(broker, topic, numbers(0, 12));
      const open: Delivery[] = [];
      const settled: string[] = [];
      for await (const delivery of subscriber) {
        open.push(delivery);
        assert.ok(subscriber.inFlight <= 4);
        if (open.length < 4) continue;
        for (const each of open.splice(0)) {
          await each.ack();
          settled.push(each.text());
        }
        if (settled.length === 12) break;
      }
      assert.deepEqual(distinct(settled), numbers(0, 12));
    },
  },
  {
    name: 'a loop ends with unsubscribe, with an abort and with disconnect',
    async run(context) {
      const controller = new AbortController();
      const ends = [
        async (each: { unsubscribe(): Promise<void> }) => each.unsubscribe(),
        async () => controller.abort(),
        async () => broker.disconnect(),
      ];
      const broker = await context.open();
      for (const end of ends) {
        const { signal } = controller;
        const topic = context.topic();
        const subscriber = await broker.subscribe(topic, {
          group: 'g',
          ...(end === ends[1] ? { signal } : {}),
        });
        const seen = new Seen<string>();
        const loop = (async () => {
          for await (const delivery of subscriber) seen.add(delivery.text());
        })();
        await broker.publish(topic, message('one'));
        await seen.count(1);
        await end(subscriber);
        await loop;
        assert.equal(subscriber.inFlight, 0);
      }
    },
  },
  {
    name: 'unsubscribe within the body does not wait for it, and its message is acknowledged',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const subscriber = await broker.subscribe(topic, { group: 'g', ackWaitMs: 20_000 });
      await broker.publish(topic, message('one'));
      let bodies = 0;
      for await (const _ of subscriber) {
        bodies++;
        await subscriber.unsubscribe();
      }
      assert.equal(bodies, 1);
      const again = await collect(broker, topic, { group: 'g' });
      await quiet(300);
      assert.equal(again.seen.length, 0);
    },
  },
  {
    name: 'disconnect within the body does not wait for it, and its message is acknowledged',
    needs: need('persistent'),
    async run(context) {
      const other = await context.open();
      // In the first body and in a later one: only the later one was asked for by a body.
      for (const last of [1, 2]) {
        for (const form of ['single', 'batch', 'typed'] as const) {
          const broker = await context.open({ drainTimeoutMs: 40_000 });
          const topic = context.topic();
          await publishAll(other, topic, ['"1"', '"2"', '"3"']);
          const options = { group: 'g', from: 'earliest', ackWaitMs: 60_000 } as const;
          const batch = { size: 1, waitMs: 1 };
          const subscriber =
            form === 'single'
              ? await broker.subscribe(topic, options)
              : form === 'batch'
                ? await broker.subscribe(topic, { ...options, batch })
                : await broker.topic(topic).subscribe(options);
          let bodies = 0;
          let tookMs = Number.POSITIVE_INFINITY;
          for await (const _ of subscriber) {
            if (++bodies < last) continue;
            await quiet(5);
            const began = performance.now();
            await broker.disconnect();
            tookMs = performance.now() - began;
          }
          assert.equal(bodies, last, form);
          assert.ok(tookMs < 20_000, `${form}: ${tookMs} ms`);
          const rest = await collect(other, topic, { group: 'g' });
          await rest.seen.count(3 - last);
          await quiet(100);
          assert.equal(rest.seen.length, 3 - last, `${form}: the others come, once`);
        }
      }
    },
  },
  {
    name: 'disconnect waits for the body that runs',
    async run(context) {
      const broker = await context.open();
      const other = await context.open();
      const topic = context.topic();
      const subscriber = await broker.subscribe(topic, { group: 'g', ackWaitMs: 20_000 });
      await broker.publish(topic, message('one'));
      const began = new Seen<string>();
      let ended = false;
      const loop = (async () => {
        for await (const delivery of subscriber) {
          began.add(delivery.text());
          await quiet(300);
          ended = true;
        }
      })();
      await began.count(1);
      await broker.disconnect();
      assert.ok(ended, 'the body has ended');
      await loop;
      const again = await collect(other, topic, { group: 'g' });
      await quiet(300);
      assert.equal(again.seen.length, 0, 'it is acknowledged');
    },
  },
  {
    name: 'several loops share a subscriber: each message goes to one of them',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const subscriber = await broker.subscribe(topic, { group: 'g', concurrency: 3 });
      const seen = new Seen<string>();
      const shares = [0, 0, 0];
      const workers = shares.map(async (_, worker) => {
        for await (const delivery of subscriber) {
          shares[worker]!++;
          seen.add(delivery.text());
          await quiet(5);
        }
      });
      await publishAll(broker, topic, numbers(0, 30));
      await seen.count(30);
      await eventually('all are acknowledged', () => subscriber.inFlight === 0);
      await subscriber.unsubscribe();
      await Promise.all(workers);
      assert.deepEqual(distinct(seen.items), numbers(0, 30));
      assert.equal(seen.length, 30);
      assert.ok(shares.filter((share) => share > 0).length > 1, `${shares}`);
    },
  },
  {
    name: 'a message that fails in the body is retried, and becomes a dead letter at the end',
    needs: need('deadLetter'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const dead = await collect(broker, `${topic}.dead`, { group: 'd' });
      const subscriber = await broker.subscribe(topic, {
        group: 'g',
        retry: { attempts: 3, backoff: { minMs: 10, maxMs: 10 } },
      });
      await publishAll(broker, topic, ['poison', 'good']);
      const attempts: number[] = [];
      for await (const delivery of subscriber) {
        if (delivery.text() === 'good') continue;
        attempts.push(delivery.attempt);
        await delivery.nack({ reason: 'it is poison' });
        if (delivery.attempt === 3) break;
      }
      assert.deepEqual(attempts, [1, 2, 3]);
      assert.deepEqual(await dead.seen.count(1), ['poison']);
    },
  },
  {
    name: 'a loop reads batches too',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const subscriber = await broker.subscribe(topic, {
        group: 'g',
        batch: { size: 20, waitMs: 50 },
      });
      await publishAll(broker, topic, numbers(0, 90));
      const sizes: number[] = [];
      const seen: string[] = [];
      for await (const deliveries of subscriber) {
        sizes.push(deliveries.length);
        for (const delivery of deliveries) seen.push(delivery.text());
        if (seen.length < 90) continue;
        await Promise.all(deliveries.map((delivery) => delivery.ack()));
        break;
      }
      assert.deepEqual(distinct(seen), numbers(0, 90));
      assert.equal(seen.length, 90);
      assert.ok(sizes.every((size) => size <= 20) && sizes.length < 45, `${sizes}`);
    },
  },
];
