/** Calls with a stream in each direction. */
import assert from 'node:assert/strict';
import type { BrokerCall } from '../../broker/broker.ts';
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
const WINDOW = 64 * 1024;
const BODY = Buffer.alloc(4096);

export const calls: readonly Case[] = [
  {
    name: 'messages go both ways in order, with headers, and end with trailers',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      await server.respond(topic, async function* (request, { messages }) {
        yield { headers: { größe: request.headers.größe ?? '' }, body: 'first' };
        for await (const each of messages) yield { headers: each.headers, body: each.body };
        return { headers: { count: '漢字' } };
      });
      const call = client.call(topic, { headers: { größe: 'ß' }, body: '' });
      const sending = (async () => {
        for (const each of numbers(0, 500)) await call.send({ headers: { n: each }, body: each });
        call.end();
      })();
      const got: string[] = [];
      const names: (string | undefined)[] = [];
      for await (const reply of call.messages) {
        got.push(reply.text());
        names.push(reply.headers.n ?? reply.headers.größe);
      }
      await sending;
      assert.deepEqual(got, ['first', ...numbers(0, 500)]);
      assert.deepEqual(names, ['ß', ...numbers(0, 500)]);
      assert.deepEqual({ ...(await call.trailers) }, { count: '漢字' });
      await assert.rejects(call.send({ body: 'late' }), { code: 'CLOSED' });
    },
  },
  {
    name: 'a call that is answered with one message ends with it',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      await server.respond(topic, async (_, { messages }) => {
        let count = 0;
        for await (const _ of messages) count++;
        return { body: `${count}` };
      });
      const call = client.call(topic, { body: '' });
      for (const each of numbers(0, 50)) await call.send({ body: each });
      call.end();
      assert.deepEqual(await all(call), ['50']);
    },
  },
  {
    name: 'a responder whose caller does not read sends at most the window, in bytes',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      let yielded = 0;
      await server.respond(topic, async function* () {
        for (; yielded < 500; yielded++) yield { body: BODY };
      });
      const call = client.call(topic, { body: '' }, { windowBytes: WINDOW });
      const first = await call.messages.next();
      assert.equal(first.value.body.length, BODY.length);
      const most = WINDOW / BODY.length + 2;
      assert.ok((await settled(() => yielded)) <= most, `${yielded} of at most ${most}`);
      let bytes = BODY.length;
      for await (const { body } of call.messages) bytes += body.length;
      assert.equal(bytes, 500 * BODY.length);
    },
  },
  {
    name: 'replies of a plain request for many flow by credit too',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      let yielded = 0;
      await server.respond(topic, async function* () {
        for (; yielded < 1000; yielded++) yield { body: BODY };
      });
      let read = 0;
      for await (const _ of client.requestMany(topic, message('go'), { timeoutMs: 30_000 })) {
        if (read++ > 0) continue;
        const most = (256 * 1024) / BODY.length + 2;
        assert.ok((await settled(() => yielded)) <= most, `${yielded} of at most ${most}`);
      }
      assert.equal(read, 1000);
    },
  },
  {
    name: 'a caller whose responder does not read sends at most the window, in bytes',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      let read = () => {};
      const mayRead = new Promise<void>((resolve) => {
        read = resolve;
      });
      await server.respond(topic, async (_, { messages }) => {
        await mayRead;
        let bytes = 0;
        for await (const { body } of messages) bytes += body.length;
        return { body: `${bytes}` };
      });
      const call = client.call(topic, { body: '' });
      let sent = 0;
      const sending = (async () => {
        for (; sent < 500; sent++) await call.send({ body: BODY });
        call.end();
      })();
      const most = (256 * 1024) / BODY.length + 2;
      assert.ok((await settled(() => sent)) <= most, `${sent} of at most ${most}`);
      read();
      assert.deepEqual(await all(call), [`${500 * BODY.length}`]);
      await sending;
    },
  },
  {
    name: 'an error that a responder throws in the middle of a stream arrives after its messages',
    needs,
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.respond(topic, async function* () {
        yield message('one');
        throw new RivuletError('CONFLICT', 'not twice');
      });
      const call = broker.call(topic, { body: '' });
      const got: string[] = [];
      await assert.rejects(
        (async () => {
          for await (const reply of call.messages) got.push(text(reply));
        })(),
        { code: 'CONFLICT', message: 'not twice', sent: 'maybe' },
      );
      assert.deepEqual(got, ['one']);
      await assert.rejects(call.trailers, { code: 'CONFLICT' });
    },
  },
  {
    name: 'leaving the loop, cancel, an abort and a timeout each end a call for both sides',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const begun = new Seen<string>();
      const ended = new Seen<string>();
      await server.respond(topic, async function* (request, { signal, messages }) {
        const which = text(request);
        begun.add(which);
        signal.addEventListener('abort', () => ended.add(which));
        yield message('one');
        for await (const each of messages) yield { body: each.body };
      });
      const left = client.call(topic, { body: 'left' });
      for await (const _ of left.messages) break;
      const cancelled = client.call(topic, { body: 'cancelled' });
      await cancelled.messages.next();
      cancelled.cancel();
      await assert.rejects(cancelled.messages.next(), { code: 'ABORTED' });
      const controller = new AbortController();
      const aborted = client.call(topic, { body: 'aborted' }, { signal: controller.signal });
      await aborted.messages.next();
      controller.abort();
      await assert.rejects(aborted.messages.next(), { code: 'ABORTED' });
      const late = client.call(topic, { body: 'late' }, { timeoutMs: 500 });
      await assert.rejects(all(late), { code: 'TIMEOUT' });
      await ended.count(4);
      assert.deepEqual([...ended.items].sort(), ['aborted', 'cancelled', 'late', 'left']);
    },
  },
  {
    name: 'a call without a responder fails at once, and says that it has not run',
    needs,
    async run(context) {
      const broker = await context.open();
      const call = broker.call(context.topic(), { body: '' });
      await assert.rejects(all(call), { code: 'NO_RESPONDERS', sent: 'no' });
      await assert.rejects(call.send({ body: 'x' }));
      await assert.rejects(call.trailers, { code: 'NO_RESPONDERS' });
    },
  },
  {
    name: 'one call that is not read does not stop the others',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      await server.respond(topic, async function* (request) {
        for (let n = 0; text(request) === 'endless' || n < 100; n++) yield { body: BODY };
      });
      const slow = client.call(topic, { body: 'endless' });
      await slow.messages.next();
      for (let round = 0; round < 3; round++) {
        assert.equal((await all(client.call(topic, { body: '' }))).length, 100);
      }
      slow.cancel();
    },
  },
  {
    name: 'a responder that unsubscribes lets its streams finish',
    needs,
    async run(context) {
      const [server, client] = await Promise.all([context.open(), context.open()]);
      const topic = context.topic();
      const responder = await server.respond(topic, async function* (_, { messages }) {
        yield message('begun');
        for await (const each of messages) yield { body: each.body };
      });
      const call = client.call(topic, { body: '' });
      await call.messages.next();
      const closed = responder.unsubscribe();
      await eventually('new requests are refused', async () => {
        const error = await client
          .request(topic, message('x'), { timeoutMs: 500 })
          .catch((thrown) => thrown);
        return error.code === 'NO_RESPONDERS';
      });
      for (const each of numbers(0, 100)) {
        await call.send({ body: each });
        assert.equal((await call.messages.next()).value.text(), each);
      }
      call.end();
      assert.equal((await call.messages.next()).done, true);
      await closed;
    },
  },
  {
    name: 'a responder killed in the middle of a stream is an error at the next read',
    needs,
    uses: ['url'],
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const peer = await startPeer(context.fixture.url as string, 'hang', topic, 'g');
      const call = broker.call(topic, { body: '' });
      const outcome = assert.rejects(all(call), { code: 'RESPONDER_LOST', sent: 'maybe' });
      await peer.lines.count(1);
      const began = performance.now();
      peer.kill();
      await outcome;
      assert.ok(performance.now() - began < 20_000, `${performance.now() - began} ms`);
      await assert.rejects(call.send({ body: 'x' }));
    },
  },
];

async function all(call: BrokerCall): Promise<string[]> {
  const got: string[] = [];
  for await (const reply of call.messages) got.push(text(reply));
  return got;
}

/** Waits until a number has stopped changing. */
async function settled(read: () => number): Promise<number> {
  for (let before = -1; before !== read(); ) {
    before = read();
    await quiet(300);
  }
  return read();
}
