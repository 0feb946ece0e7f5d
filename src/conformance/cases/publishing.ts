/** Publishing: every message is delivered once and unchanged. */
import assert from 'node:assert/strict';
import type { RawMessage } from '../../broker/message/message.ts';
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
} from '../case-context.ts';

export const publishing: readonly Case[] = [
  {
    name: 'messages published before the first subscriber are delivered from the earliest, unchanged',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      for (const each of numbers(0, 100)) {
        await broker.publish(topic, message(each, undefined, { number: each }));
      }
      const seen = new Seen<RawMessage>();
      await broker.subscribe(topic, ({ message }) => seen.add(message), {
        group: 'g',
        from: 'earliest',
      });
      const messages = await seen.count(100);
      for (const { headers, body } of messages) {
        assert.equal(headers.number, Buffer.from(body).toString());
      }
      assert.deepEqual(sorted(messages.map(({ headers }) => headers.number)), numbers(0, 100));
    },
  },
  {
    name: 'bodies of any bytes, empty and of 1 MB, and headers in any script arrive unchanged',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const everyByte = Uint8Array.from({ length: 256 }, (_, index) => index);
      const large = new Uint8Array(1024 * 1024).map((_, index) => (index * 31) % 251);
      const sent: RawMessage[] = [
        { headers: {}, body: everyByte },
        { headers: {}, body: new Uint8Array() },
        { headers: { size: 'large' }, body: large, key: 'ключ' },
        { headers: { größe: '漢字 🚀', empty: '', '': 'nameless' }, body: Buffer.from('\r\n\0') },
      ];
      const seen = new Seen<RawMessage>();
      await broker.subscribe(topic, ({ message }) => seen.add(message), { group: 'g' });
      for (const each of sent) await broker.publish(topic, each);
      const got = await seen.count(sent.length);
      got.forEach((each, index) => {
        assert.deepEqual({ ...each.headers }, sent[index]?.headers);
        assert.equal(each.key, sent[index]?.key);
        assert.ok(Buffer.from(each.body).equals(sent[index]?.body ?? new Uint8Array()));
      });
    },
  },
  {
    name: 'two topics do not mix',
    async run(context) {
      const broker = await context.open();
      const [one, two] = [context.topic(), context.topic()];
      const first = await collect(broker, one, { group: 'g' });
      const second = await collect(broker, two, { group: 'g' });
      await broker.publish(one, message('1'));
      await broker.publish(two, message('2'));
      await Promise.all([first.seen.count(1), second.seen.count(1)]);
      assert.deepEqual([first.seen.items, second.seen.items], [['1'], ['2']]);
    },
  },
  {
    name: 'a batch is stored in order, with one receipt each',
    needs: need('strictOrder'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const { seen } = await collect(broker, topic, { group: 'g', ordered: 'strict' });
      const receipts = await publishAll(broker, topic, numbers(0, 50));
      assert.equal(new Set(receipts.map(({ id }) => id)).size, 50);
      assert.deepEqual([...(await seen.count(50))], numbers(0, 50));
      assert.deepEqual(await broker.publishBatch(topic, []), []);
    },
  },
  {
    name: '10 publishers and 10 subscribers of one group in parallel lose no message and handle each once',
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open(), context.open()]);
      const topic = context.topic();
      const seen = new Seen<string>();
      for (let index = 0; index < 10; index++) {
        await brokers[index % 3]?.subscribe(
          topic,
          ({ message }) => seen.add(Buffer.from(message.body).toString()),
          { group: 'g', concurrency: 2 },
        );
      }
      await Promise.all(
        numbers(0, 10).map(async (publisher) => {
          const broker = brokers[Number(publisher) % 3];
          for (const each of numbers(0, 10)) {
            await broker?.publish(topic, message(String(Number(publisher) * 10 + Number(each))));
          }
        }),
      );
      assert.deepEqual(sorted(await seen.count(100)), numbers(0, 100));
      assert.equal(seen.length, 100);
    },
  },
  {
    name: '50 parallel publishers and subscribers',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<string>();
      await Promise.all(
        numbers(0, 50).map(() =>
          broker.subscribe(topic, (each) => seen.add(text(each)), { group: 'g' }),
        ),
      );
      await Promise.all(numbers(0, 50).map((each) => broker.publish(topic, message(each))));
      assert.deepEqual(sorted(await seen.count(50)), numbers(0, 50));
    },
  },
  {
    name: 'an id deduplicates within the window, per topic',
    needs: need('dedup'),
    async run(context) {
      const broker = await context.open();
      const [topic, other] = [context.topic(), context.topic()];
      const { seen } = await collect(broker, topic, { group: 'g' });
      const first = await broker.publish(topic, message('first'), { dedupId: 'order-1' });
      const again = await broker.publish(topic, message('again'), { dedupId: 'order-1' });
      assert.deepEqual([first.duplicate, again.duplicate], [false, true]);
      assert.equal(again.id, first.id);
      const elsewhere = await broker.publish(other, message('first'), { dedupId: 'order-1' });
      assert.equal(elsewhere.duplicate, false);
      await broker.publish(topic, message('second'), { dedupId: 'order-2' });
      assert.deepEqual([...(await seen.count(2))], ['first', 'second']);
    },
  },
  {
    name: 'after the window a dedupId is new again',
    options: { dedupWindowMs: 1000 },
    needs({ dedup }) {
      if (dedup === null) return 'dedup: null';
      return dedup.windowMs <= 5000 ? null : `dedup.windowMs: ${dedup.windowMs}, not to be chosen`;
    },
    async run(context) {
      const broker = await context.open({ dedupWindowMs: 1000 });
      const topic = context.topic();
      const publish = () => broker.publish(topic, message('x'), { dedupId: 'one' });
      assert.equal((await publish()).duplicate, false);
      assert.equal((await publish()).duplicate, true);
      await quiet((broker.capabilities.dedup?.windowMs ?? 0) + 200);
      assert.equal((await publish()).duplicate, false);
    },
  },
  {
    name: 'parallel publishes with one id add one message',
    needs: need('dedup'),
    async run(context) {
      const brokers = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const receipts = await Promise.all(
        numbers(0, 20).map((each) =>
          brokers[Number(each) % 2]?.publish(topic, message('x'), { dedupId: 'one' }),
        ),
      );
      assert.equal(receipts.filter((receipt) => receipt?.duplicate === false).length, 1);
      const { seen } = await collect(brokers[0], topic, { group: 'g', from: 'earliest' });
      await seen.count(1);
      await quiet(200);
      assert.deepEqual(seen.items, ['x'], 'what is counted is messages');
    },
  },
  {
    name: 'maxLength trims the topic to about this length',
    needs: need('persistent'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      for (const each of numbers(0, 500)) {
        await broker.publish(topic, message(each), { maxLength: 100 });
      }
      const { seen } = await collect(broker, topic, { group: 'g', from: 'earliest' });
      await seen.until((items) => items.at(-1) === '499', 'last message');
      assert.ok(seen.length >= 100 && seen.length < 400, `${seen.length}`);
    },
  },
];
