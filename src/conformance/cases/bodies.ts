/** Bodies as text, JSON and bytes, on deliveries, requests and replies alike. */
import assert from 'node:assert/strict';
import { type Case, message, need, Seen } from '../case-context.ts';

const TEXT = 'Grüße, 漢字, 🎈 and \ufeff a mark';

export const bodies: readonly Case[] = [
  {
    name: 'a text is published as it is, without headers, and read as text, JSON and bytes',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<unknown>();
      await broker.subscribe(
        topic,
        (delivery) => {
          const { message } = delivery;
          assert.deepEqual({ ...message.headers }, {});
          assert.equal(delivery.text(), message.text());
          assert.deepEqual(Buffer.from(delivery.bytes()), Buffer.from(message.body));
          seen.add(delivery.text().startsWith('{') ? delivery.json() : delivery.text());
        },
        { group: 'g', ordered: broker.capabilities.strictOrder ? 'strict' : 'none' },
      );
      await broker.publish(topic, { body: TEXT });
      await seen.count(1);
      await broker.publish(topic, { body: '{"total":3}' });
      await seen.count(2);
      await broker.publishBatch(topic, [{ body: '' }]);
      assert.deepEqual(await seen.count(3), [TEXT, { total: 3 }, '']);
    },
  },
  {
    name: 'a body that is no JSON is DECODING_FAILED, which fails the handler like any other error',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const errors = new Seen<unknown>();
      broker.on('handlerError', ({ error }) => errors.add(error));
      await broker.subscribe(topic, (delivery) => delivery.json(), {
        group: 'g',
        retry: { attempts: 1 },
        deadLetter: false,
      });
      await broker.publish(topic, message('no JSON at all'));
      const [error] = (await errors.count(1)) as [{ code: string; message: string }];
      assert.equal(error.code, 'DECODING_FAILED');
      assert.ok(error.message.includes(topic) && !error.message.includes('at all'), error.message);
    },
  },
  {
    name: 'requests and replies can be read as text, JSON and bytes too',
    needs: need('requestReply'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.respond(topic, async (request) => {
        const { a, b } = request.json<{ a: number; b: number }>();
        return { body: JSON.stringify({ sum: a + b }) };
      });
      const reply = await broker.request(topic, { body: '{"a":1,"b":2}' });
      assert.deepEqual(reply.json(), { sum: 3 });
      assert.equal(reply.text(), '{"sum":3}');
      const many = context.topic();
      await broker.respond(many, async function* (request) {
        for (const word of request.text().split(' ')) yield { body: word };
      });
      const words: string[] = [];
      for await (const each of broker.requestMany(many, { body: `one two ${'ü'}` })) {
        words.push(each.text());
      }
      assert.deepEqual(words, ['one', 'two', 'ü']);
    },
  },
  {
    name: 'a responder that returns no message fails the request with an error that says so',
    needs: need('requestReply'),
    async run(context) {
      const broker = await context.open();
      for (const given of [undefined, null, 'text', { body: 5 }, {}]) {
        const topic = context.topic();
        await broker.respond(topic, () => given as never);
        await assert.rejects(broker.request(topic, { body: '' }, { timeoutMs: 5000 }), {
          code: 'RESPONDER_FAILED',
          message: /no message that can be sent/,
        });
        const many = context.topic();
        await broker.respond(many, async function* () {
          yield { body: 'good' };
          yield given as never;
        });
        const replies: string[] = [];
        await assert.rejects(
          async () => {
            const asked = broker.requestMany(many, { body: '' }, { timeoutMs: 5000 });
            for await (const reply of asked) replies.push(reply.text());
          },
          { code: 'RESPONDER_FAILED' },
        );
        assert.deepEqual(replies, ['good']);
      }
    },
  },
  {
    name: 'a typed topic delivers values, and dead-letters messages that it cannot decode',
    needs: need('deadLetter'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const orders = broker.topic<{ id: number }>(topic);
      const dead = new Seen<string>();
      await broker.subscribe(`${topic}.dead`, (each) => dead.add(each.text()), { group: 'd' });
      const seen = new Seen<number>();
      await orders.subscribe(
        ({ id }, delivery) => {
          assert.equal(delivery.message.headers['Content-Type'], 'application/json');
          seen.add(id);
        },
        { group: 'g' },
      );
      const inLoop: number[] = [];
      const loop = await orders.subscribe({ group: 'loop' });
      await broker.publish(topic, { body: 'unreadable' });
      await orders.publish({ id: 1 });
      await orders.publishBatch([{ id: 2 }, { id: 3 }], { key: ({ id }) => `key ${id}` });
      assert.deepEqual([...(await seen.count(3))].sort(), [1, 2, 3]);
      for await (const delivery of loop) {
        inLoop.push(delivery.value.id);
        await delivery.ack();
        if (inLoop.length === 3) break;
      }
      assert.deepEqual(inLoop.sort(), [1, 2, 3]);
      assert.deepEqual(await dead.count(2), ['unreadable', 'unreadable'], 'once for each group');
    },
  },
  {
    name: 'a typed topic sends requests and replies with values',
    needs: need('requestReply'),
    async run(context) {
      const broker = await context.open();
      const sums = broker.topic<number[], number[], number>(context.topic());
      await sums.respond((numbers) => numbers.reduce((sum, each) => sum + each, 0));
      assert.equal(await sums.request([1, 2, 3]), 6);
      const words = broker.topic<string, string, string>(context.topic());
      await words.respond(async function* (text) {
        yield* text.split(' ');
      });
      const all: string[] = [];
      for await (const word of words.requestMany('a b c')) all.push(word);
      assert.deepEqual(all, ['a', 'b', 'c']);
      await assert.rejects(broker.request(sums.name, { body: 'no JSON' }), {
        code: 'DECODING_FAILED',
      });
    },
  },
];
