/** Request and reply. */
import assert from 'node:assert/strict';
import type { Message } from '../../broker/message/message.ts';
import type { RequestOptions } from '../../broker/options/options.ts';
import { RivuletError } from '../../errors.ts';
import {
  type Case,
  eventually,
  message,
  need,
  numbers,
  quiet,
  Seen,
  text,
} from '../case-context.ts';
import { startPeer } from '../peer.ts';

const needs = need('requestReply');

export const requests: readonly Case[] = [
  {
    name: 'a request gets its reply with unchanged headers and bytes, from another process too',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const body = Uint8Array.from({ length: 100_000 }, (_, index) => index % 256);
      await server.respond(topic, ({ headers, body }) => ({
        headers: { echo: headers.größe ?? '' },
        body,
      }));
      const reply = await client.request(topic, { headers: { größe: '漢字' }, body });
      assert.deepEqual({ ...reply.headers }, { echo: '漢字' });
      assert.ok(Buffer.from(reply.body).equals(body));
    },
  },
  {
    name: 'responders of one group share requests, 200 at once',
    needs,
    async run(context) {
      const [one, two, client] = await Promise.all([
        context.open(),
        context.open(),
        context.open(),
      ]);
      const topic = context.topic();
      const served = { one: 0, two: 0 };
      await one.respond(topic, (request) => {
        served.one++;
        return request;
      });
      await two.respond(topic, (request) => {
        served.two++;
        return request;
      });
      const replies = await Promise.all(
        numbers(0, 200).map((each) => client.request(topic, message(each))),
      );
      assert.deepEqual(replies.map(text), numbers(0, 200));
      assert.equal(served.one + served.two, 200);
      assert.ok(served.one > 20 && served.two > 20, JSON.stringify(served));
    },
  },
  {
    name: 'a request goes to one responder in all, whatever the groups',
    needs,
    async run(context) {
      const [one, two, client] = await Promise.all([
        context.open(),
        context.open(),
        context.open(),
      ]);
      const topic = context.topic();
      const served = new Map<string, number>();
      const byGroup = { a: 0, b: 0 };
      const answer = (group: 'a' | 'b') => (request: { body: Uint8Array }) => {
        byGroup[group]++;
        const asked = text(request);
        served.set(asked, (served.get(asked) ?? 0) + 1);
        return message(asked);
      };
      await one.respond(topic, answer('a'), { group: 'a' });
      await two.respond(topic, answer('b'), { group: 'b' });
      await Promise.all(numbers(0, 200).map((each) => client.request(topic, message(each))));
      // A second responder would get its request within this time.
      await quiet(200);
      assert.deepEqual([...new Set(served.values())], [1]);
      assert.equal(served.size, 200);
      assert.ok(byGroup.a > 0 && byGroup.b > 0, JSON.stringify(byGroup));
    },
  },
  {
    name: 'the error of a failed request says whether a handler may have run',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const ask = (body: string, options: RequestOptions = {}) =>
        broker.request(topic, message(body), options);
      await assert.rejects(ask('x'), { code: 'NO_RESPONDERS', sent: 'no' });
      await assert.rejects(ask('x', { signal: AbortSignal.abort() }), {
        code: 'ABORTED',
        sent: 'no',
      });
      await assert.rejects(ask('x', { timeoutMs: -1 }), { code: 'INVALID_ARGUMENT', sent: 'no' });
      await broker.respond(topic, (request) => {
        if (text(request) === 'hang') return new Promise(() => {});
        // The error of a handler whose own request had no responder: this handler has run.
        throw new RivuletError(
          text(request) === 'limit' ? 'LIMIT_EXCEEDED' : 'NO_RESPONDERS',
          'inner',
        );
      });
      await assert.rejects(ask('x'), { code: 'NO_RESPONDERS', sent: 'maybe' });
      await assert.rejects(ask('limit'), { code: 'LIMIT_EXCEEDED', sent: 'maybe' });
      await assert.rejects(ask('hang', { timeoutMs: 300 }), { code: 'TIMEOUT', sent: 'maybe' });
      const controller = new AbortController();
      const hanging = ask('hang', { signal: controller.signal });
      setTimeout(() => controller.abort(), 300);
      await assert.rejects(hanging, { code: 'ABORTED', sent: 'maybe' });
      await broker.disconnect();
      await assert.rejects(ask('x'), { code: 'CLOSED', sent: 'no' });
    },
  },
  {
    name: 'a request without a responder fails at once, also after the last responder has closed',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const ask = () => broker.request(topic, message('x'), { timeoutMs: 50_000 });
      const began = performance.now();
      await assert.rejects(ask(), { code: 'NO_RESPONDERS' });
      const responder = await broker.respond(topic, (request) => request);
      await ask();
      await responder.unsubscribe();
      await assert.rejects(ask(), { code: 'NO_RESPONDERS' });
      assert.ok(performance.now() - began < 20_000);
    },
  },
  {
    name: "the requester gets the code and text of a responder's error",
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.respond(topic, (request) => {
        if (text(request) === 'ours') throw new RivuletError('PERMISSION_DENIED', 'not yours');
        throw new TypeError('größe is undefined');
      });
      await assert.rejects(broker.request(topic, message('ours')), {
        code: 'PERMISSION_DENIED',
        message: 'not yours',
      });
      await assert.rejects(broker.request(topic, message('x')), {
        code: 'RESPONDER_FAILED',
        message: 'größe is undefined',
      });
    },
  },
  {
    name: 'many replies arrive in order and end when the responder ends',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.respond(topic, async function* (request) {
        for (const each of numbers(0, Number(text(request)))) yield message(each);
      });
      const got: string[] = [];
      for await (const reply of broker.requestMany(topic, message('300'))) got.push(text(reply));
      assert.deepEqual(got, numbers(0, 300));
      const none: Message[] = [];
      for await (const reply of broker.requestMany(topic, message('0'))) none.push(reply);
      assert.deepEqual(none, []);
    },
  },
  {
    name: 'a timeout or an abort ends the request, and aborts the signal of the responder',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const aborted = new Seen<string>();
      await server.respond(
        topic,
        (request, { signal }) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              aborted.add(text(request));
              reject(signal.reason);
            });
          }),
      );
      await assert.rejects(client.request(topic, message('late'), { timeoutMs: 300 }), {
        code: 'TIMEOUT',
      });
      const controller = new AbortController();
      const request = client.request(topic, message('away'), { signal: controller.signal });
      setTimeout(() => controller.abort(), 100);
      await assert.rejects(request, { code: 'ABORTED' });
      assert.deepEqual([...(await aborted.count(2))], ['late', 'away']);
      await assert.rejects(client.request(topic, message('x'), { signal: AbortSignal.abort() }), {
        code: 'ABORTED',
      });
    },
  },
  {
    name: 'leaving many replies early stops the responder',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const ended = new Seen<string>();
      await broker.respond(topic, async function* (_, { signal }) {
        try {
          while (!signal.aborted) {
            yield message('tick');
            await quiet(5);
          }
        } finally {
          ended.add('ended');
        }
      });
      for await (const _ of broker.requestMany(topic, message('go'))) break;
      await ended.count(1);
    },
  },
  {
    name: 'a request whose responder is killed fails long before its timeout',
    needs,
    uses: ['url'],
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const peer = await startPeer(context.fixture.url as string, 'hang', topic, 'g');
      const began = performance.now();
      const request = broker.request(topic, message('x'), { timeoutMs: 50_000 });
      const outcome = assert.rejects(request, { code: 'RESPONDER_LOST' });
      await peer.lines.count(1);
      peer.kill();
      await outcome;
      assert.ok(performance.now() - began < 15_000);
      await eventually('no responder is there any more', async () => {
        const error = await broker.request(topic, message('x'), { timeoutMs: 500 }).catch((e) => e);
        return error.code === 'NO_RESPONDERS';
      });
    },
  },
  {
    name: 'a responder that works longer than the allowed silence is not treated as lost',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.respond(topic, async (request) => {
        await quiet(4500);
        return request;
      });
      assert.equal(text(await broker.request(topic, message('slow'))), 'slow');
    },
  },
];
