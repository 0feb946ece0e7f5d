/** Request and reply. */
import assert from 'node:assert/strict';
import type { Message } from '../../broker/message.ts';
import { RivuletError } from '../../errors.ts';
import { startPeer } from '../peer.ts';
import { type Case, eventually, message, need, numbers, quiet, Seen, text } from '../world.ts';

const needs = need('requestReply');

export const requests: readonly Case[] = [
  {
    name: 'a request gets its reply, headers and bytes intact, from another process too',
    needs,
    async run(world) {
      const [server, client] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
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
    async run(world) {
      const [one, two, client] = await Promise.all([world.open(), world.open(), world.open()]);
      const topic = world.topic();
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
    name: 'nobody there is known at once, also after the last one left',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const ask = () => broker.request(topic, message('x'), { timeoutMs: 10_000 });
      const began = performance.now();
      await assert.rejects(ask(), { code: 'NO_RESPONDERS' });
      const responder = await broker.respond(topic, (request) => request);
      await ask();
      await responder.unsubscribe();
      await assert.rejects(ask(), { code: 'NO_RESPONDERS' });
      assert.ok(performance.now() - began < 3000);
    },
  },
  {
    name: 'what a responder throws arrives with code and text',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'many replies come in order and end with the responder',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'a timeout or an abort ends the request, and the responder hears of it',
    needs,
    async run(world) {
      const [server, client] = await Promise.all([world.open(), world.open()]);
      const topic = world.topic();
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
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
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
    name: 'a responder killed in the middle is noticed long before the timeout',
    needs,
    uses: ['url'],
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const peer = await startPeer(world.backing.url as string, 'hang', topic, 'g');
      const began = performance.now();
      const request = broker.request(topic, message('x'), { timeoutMs: 50_000 });
      const outcome = assert.rejects(request, { code: 'RESPONDER_LOST' });
      await peer.lines.count(1);
      peer.kill();
      await outcome;
      assert.ok(performance.now() - began < 15_000);
      await eventually('nobody is there any more', async () => {
        const error = await broker.request(topic, message('x'), { timeoutMs: 500 }).catch((e) => e);
        return error.code === 'NO_RESPONDERS';
      });
    },
  },
  {
    name: 'a responder that works longer than the silence allowed is not given up',
    needs,
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      await broker.respond(topic, async (request) => {
        await quiet(4500);
        return request;
      });
      assert.equal(text(await broker.request(topic, message('slow'))), 'slow');
    },
  },
];
