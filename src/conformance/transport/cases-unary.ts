/**
 * One request, one reply: what each transport must carry, and what it must say when it cannot.
 */
import assert from 'node:assert/strict';
import { RivuletError } from '../../errors.ts';
import { CallError, type IncomingCall } from '../../transport/transport.ts';
import { bytes, type TransportCase, text, until } from './suite.ts';

export const unaryCases: readonly TransportCase[] = [
  {
    name: 'a unary call carries its request, endpoint and metadata, and the reply',
    async run(world) {
      const calls: IncomingCall[] = [];
      const channel = await world.channel((call) => {
        calls.push(call);
        world.reply(call, `${text(call.body as Uint8Array)} answered`);
      });
      const metadata = { 'x-tenant': 'a b=c;d', 'x-empty': '' };
      const reply = await channel.request(world.call('unary', { metadata }));
      assert.equal(text(reply.body), 'request answered');
      const [call] = calls as [IncomingCall];
      assert.equal(calls.length, 1);
      assert.equal(call.endpoint, 'Suite.Method');
      assert.ok(call.kind === 'unary' || call.kind === null);
      assert.equal(call.contentType, world.contentType);
      assert.equal(call.metadata['x-tenant'], 'a b=c;d');
      assert.notEqual(call.peer.address, '');
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'metadata of a reply arrives with it',
    needs: ['replyMetadata'],
    async run(world) {
      const channel = await world.channel((call) => world.reply(call, 'a', { 'x-served-by': 'b' }));
      const reply = await channel.request(world.call('unary'));
      assert.equal(reply.metadata['x-served-by'], 'b');
    },
  },
  {
    name: 'bodies of every size arrive as they were sent',
    async run(world) {
      const { maxBody = 1024 * 1024 } = world.fixture;
      const channel = await world.channel((call) => world.reply(call, call.body as Uint8Array));
      for (const size of [0, 1, 63, 64, 1000, 65_535, 65_536, maxBody]) {
        if (size > maxBody) continue;
        const body = Buffer.alloc(size);
        for (let i = 0; i < size; i++) body[i] = (i * 31 + size) & 0xff;
        const reply = await channel.request(world.call('unary', { body }));
        assert.equal(Buffer.compare(Buffer.from(reply.body), body), 0, `${size} bytes`);
      }
    },
  },
  {
    name: 'a failure arrives with its code, id, status and detail',
    async run(world) {
      const detail = 'no account 7';
      const failure = { code: 'NOT_FOUND', id: 'go.micro.api.users', status: 404, detail } as const;
      const channel = await world.channel((call) => call.fail(failure));
      const error = await channel.request(world.call('unary')).catch((thrown) => thrown);
      assert.ok(error instanceof CallError, String(error));
      assert.equal(error.failure.id, failure.id);
      assert.equal(error.failure.status, 404);
      assert.equal(error.failure.detail, detail);
      assert.equal(error.code, 'NOT_FOUND');
      assert.equal(error.sent, 'maybe');
    },
  },
  {
    name: 'a typed error arrives with its name and data',
    needs: ['errorData'],
    async run(world) {
      const channel = await world.channel((call) =>
        call.fail({
          code: 'INVALID_ARGUMENT',
          id: 'a',
          status: 400,
          detail: 'too broad',
          name: 'TooBroad',
          body: bytes('{"limit":100}'),
          contentType: 'application/json',
        }),
      );
      const error = await channel.request(world.call('unary')).catch((thrown) => thrown);
      assert.ok(error instanceof CallError, String(error));
      assert.equal(error.failure.name, 'TooBroad');
      assert.equal(text(error.failure.body as Uint8Array), '{"limit":100}');
    },
  },
  {
    name: 'a call that the node refused before a handler ran says sent: no',
    needs: ['sent'],
    async run(world) {
      const channel = await world.channel((call) =>
        call.fail({ code: 'UNAVAILABLE', id: 'a', status: 503, detail: 'stopping', sent: 'no' }),
      );
      await assert.rejects(channel.request(world.call('unary')), { sent: 'no' });
    },
  },
  {
    name: 'a call that is not answered ends at its deadline, and its handler hears so',
    needs: ['cancel'],
    async run(world) {
      let [runs, cancelled] = [0, 0];
      const channel = await world.channel((call) => {
        runs++;
        call.onCancel(() => cancelled++);
      });
      // On a slow machine a deadline may be over before the handler begins: then it hears nothing.
      for (let timeoutMs = 100; runs === 0 && timeoutMs < 60_000; timeoutMs *= 2) {
        const began = performance.now();
        const call = channel.request(world.call('unary', { timeoutMs }));
        await assert.rejects(call, { code: 'TIMEOUT', sent: 'maybe' });
        assert.ok(performance.now() - began >= timeoutMs - 5, 'it ended before its deadline');
      }
      assert.equal(runs, 1);
      await until('the handler hears', () => cancelled === 1);
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'the time that is left reaches the handler',
    needs: ['deadline'],
    async run(world) {
      let timeoutMs: number | null = null;
      const channel = await world.channel((call) => {
        ({ timeoutMs } = call);
        world.reply(call, '');
      });
      await channel.request(world.call('unary', { timeoutMs: 5000 }));
      assert.ok(timeoutMs !== null && timeoutMs > 0 && timeoutMs <= 5001, `${timeoutMs}`);
    },
  },
  {
    name: 'a caller that aborts leaves at once, and its handler hears so',
    needs: ['cancel'],
    async run(world) {
      let cancelled = 0;
      let begun = 0;
      const channel = await world.channel((call) => {
        begun++;
        call.onCancel(() => cancelled++);
      });
      const controller = new AbortController();
      const call = channel.request(world.call('unary', { signal: controller.signal }));
      const rejected = assert.rejects(call, { code: 'ABORTED' });
      await until('the handler runs', () => begun === 1);
      controller.abort();
      await rejected;
      await until('the handler hears', () => cancelled === 1);
    },
  },
  {
    name: 'a signal that was aborted before the call ends it at once',
    async run(world) {
      const channel = await world.channel((call) => world.reply(call, ''));
      const call = world.call('unary', { signal: AbortSignal.abort() });
      await assert.rejects(channel.request(call), { code: 'ABORTED' });
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'a reply that comes after the end of the call is dropped',
    needs: ['cancel'],
    async run(world) {
      const late: IncomingCall[] = [];
      const channel = await world.channel((call) => {
        if (late.length > 0) {
          world.reply(call, 'second');
          return;
        }
        late.push(call);
        call.onCancel(() => {
          world.reply(call, 'late');
          call.fail({ code: 'INTERNAL', id: '', status: 500, detail: 'later' });
        });
      });
      const first = channel.request(world.call('unary', { timeoutMs: 50 }));
      await assert.rejects(first, { code: 'TIMEOUT' });
      assert.equal(text((await channel.request(world.call('unary'))).body), 'second');
    },
  },
  {
    name: 'thousands of calls at once get each its own reply',
    timeoutMs: 120_000,
    async run(world) {
      const waiting: IncomingCall[] = [];
      const many = world.fixture.manyCalls ?? 10_000;
      // None is answered before all have come: they are in flight together.
      const channel = await world.channel((call) => {
        waiting.push(call);
        if (waiting.length < many) return;
        for (const each of waiting.reverse()) world.reply(each, each.body as Uint8Array);
      });
      const timeoutMs = 110_000;
      const replies = await Promise.all(
        Array.from({ length: many }, (_, n) =>
          channel.request(world.call('unary', { body: bytes(`${n}`), timeoutMs })),
        ),
      );
      replies.forEach(({ body }, n) => {
        assert.equal(text(body), `${n}`);
      });
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'a dial where no node is fails with sent: no',
    uses: ['dialNowhere'],
    async run({ fixture }) {
      const channel = fixture.dialNowhere?.();
      const error = await Promise.resolve(channel).catch((thrown) => thrown);
      assert.ok(error instanceof RivuletError, String(error));
      assert.equal(error.code, 'CONNECTION_FAILED');
      assert.equal(error.sent, 'no');
    },
  },
];
