/**
 * How calls end other than by their reply: errors, cancels, deadlines, drains, lost peers.
 */
import assert from 'node:assert/strict';
import { CallError, type IncomingCall } from '../../transport/transport.ts';
import { bytes, readAll, type TransportCase, text, until } from './suite.ts';

const FAILURE = {
  code: 'CONFLICT',
  id: 'go.micro.api.users',
  status: 409,
  detail: 'twice',
} as const;

export const endingCases: readonly TransportCase[] = [
  {
    name: 'messages that came before an error are read before it',
    needs: ['streams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        await call.send(bytes('one'));
        await call.send(bytes('two'));
        call.fail(FAILURE);
      });
      const call = channel.call(world.call('serverStream'));
      const seen: string[] = [];
      const error = await (async () => {
        for await (const message of call.messages) seen.push(text(message));
      })().catch((thrown) => thrown);
      assert.deepEqual(seen, ['one', 'two']);
      assert.ok(error instanceof CallError, String(error));
      assert.equal(error.failure.status, 409);
      assert.equal(error.failure.detail, 'twice');
      assert.equal(error.sent, 'maybe');
      await assert.rejects(call.trailers, { code: error.code });
    },
  },
  {
    name: 'leaving the loop over replies cancels the handler',
    needs: ['streams', 'cancel'],
    async run(world) {
      let cancelled = 0;
      let refused = 0;
      const channel = await world.channel(async (call) => {
        call.onCancel(() => cancelled++);
        try {
          for (;;) await call.send(bytes('more'));
        } catch {
          refused++;
        }
      });
      const call = channel.call(world.call('serverStream'));
      let read = 0;
      for await (const _ of call.messages) if (++read === 10) break;
      await until('the handler hears', () => cancelled === 1 && refused === 1);
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'a caller that cancels ends the messages that its handler reads',
    needs: ['streams', 'clientStreams', 'cancel'],
    async run(world) {
      let seen = 0;
      let outcome = '';
      const channel = await world.channel(async (call) => {
        call.onCancel(() => {});
        try {
          for await (const _ of call.messages) seen++;
          outcome = 'ended';
        } catch {
          outcome = 'failed';
        }
      });
      const call = channel.call(world.call('bidi'));
      await call.send(bytes('a'));
      await until('the message has come', () => seen === 1);
      call.cancel();
      await until('the handler ends', () => outcome !== '');
      // A stream that was cut must not look as one that ended.
      assert.equal(outcome, 'failed');
      await assert.rejects(call.send(bytes('b')));
      await assert.rejects(readAll(call), { code: 'ABORTED' });
    },
  },
  {
    name: 'a handler that ends first ends the sends of its caller',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        await call.messages.next();
        world.reply(call, 'enough');
      });
      const call = channel.call(world.call('clientStream'));
      const sending = (async () => {
        for (;;) await call.send(Buffer.alloc(1024));
      })();
      sending.catch(() => {});
      assert.deepEqual(await readAll(call), ['enough']);
      await assert.rejects(sending);
    },
  },
  {
    name: 'a handler that fails while its caller sends ends both directions',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        await call.messages.next();
        call.fail(FAILURE);
      });
      const call = channel.call(world.call('bidi'));
      const sending = (async () => {
        for (;;) await call.send(Buffer.alloc(1024));
      })();
      sending.catch(() => {});
      await assert.rejects(readAll(call), { code: 'CONFLICT' });
      await assert.rejects(sending);
    },
  },
  {
    name: 'a stream ends at its deadline on both sides',
    needs: ['streams', 'cancel'],
    async run(world) {
      let cancelled = 0;
      const channel = await world.channel((call) => {
        call.onCancel(() => cancelled++);
        call.send(bytes('one')).catch(() => {});
      });
      const call = channel.call(world.call('serverStream', { timeoutMs: 200 }));
      await assert.rejects(readAll(call), { code: 'TIMEOUT' });
      await until('the handler hears', () => cancelled === 1);
    },
  },
  {
    name: 'a stream without a deadline outlives the default of unary calls',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        for await (const message of call.messages) await call.send(message);
        call.end({});
      });
      const call = channel.call(world.call('bidi', { timeoutMs: null }));
      await call.send(bytes('a'));
      assert.equal(text((await call.messages.next()).value), 'a');
      call.end();
      assert.deepEqual(await readAll(call), []);
    },
  },
  {
    name: 'a signal ends a stream on both sides',
    needs: ['streams', 'cancel'],
    async run(world) {
      let cancelled = 0;
      const channel = await world.channel((call) => {
        call.onCancel(() => cancelled++);
        call.send(bytes('one')).catch(() => {});
      });
      const controller = new AbortController();
      const call = channel.call(world.call('serverStream', { signal: controller.signal }));
      await call.messages.next();
      controller.abort();
      await assert.rejects(call.messages.next(), { code: 'ABORTED' });
      await until('the handler hears', () => cancelled === 1);
    },
  },
  {
    name: 'thousands of cancels leave no handler without its signal and no call behind',
    needs: ['cancel'],
    timeoutMs: 120_000,
    async run(world) {
      const many = world.fixture.manyCalls ?? 10_000;
      let begun = 0;
      let cancelled = 0;
      const channel = await world.channel((call) => {
        begun++;
        call.onCancel(() => cancelled++);
      });
      const controller = new AbortController();
      const { signal } = controller;
      const calls = Array.from({ length: many }, () =>
        channel.request(world.call('unary', { signal, timeoutMs: 100_000 })).catch(() => {}),
      );
      await until('every handler runs', () => begun === many, 100_000);
      controller.abort();
      await Promise.all(calls);
      await until('every handler hears', () => cancelled === many, 10_000);
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'a node that drains lets calls and streams in flight finish and refuses new ones',
    needs: ['drain'],
    async run(world) {
      const held: IncomingCall[] = [];
      const refusals: string[] = [];
      const node = await world.node((call) => held.push(call));
      const channel = await world.dial(node);
      const running = channel.request(world.call('unary'));
      await until('the handler runs', () => held.length === 1);
      const closed = node.listener.close(20_000);
      // A call that meets the drain is refused, or waits for nothing: it never runs.
      await until('new calls are refused', () => {
        void channel
          .request(world.call('unary', { timeoutMs: 500 }))
          .catch((error) => refusals.push(error.sent));
        return refusals.includes('no');
      });
      world.reply(held[0] as IncomingCall, 'finished');
      assert.equal(text((await running).body), 'finished');
      for (const late of held.slice(1)) world.reply(late, 'late');
      await closed;
    },
  },
  {
    name: 'a node that closes at once ends the calls in flight for both sides',
    needs: ['cancel'],
    async run(world) {
      const held: IncomingCall[] = [];
      const node = await world.node((call) => held.push(call));
      const channel = await world.dial(node);
      const running = channel.request(world.call('unary'));
      const rejected = assert.rejects(running, { sent: 'maybe' });
      await until('the handler runs', () => held.length === 1);
      await node.listener.close();
      await rejected;
      assert.equal(channel.load, 0);
    },
  },
  {
    name: 'a channel that closes with time to drain waits for its calls',
    async run(world) {
      const held: IncomingCall[] = [];
      const channel = await world.channel((call) => held.push(call));
      const running = channel.request(world.call('unary'));
      await until('the handler runs', () => held.length === 1);
      const closed = channel.close(20_000);
      world.reply(held[0] as IncomingCall, 'finished');
      assert.equal(text((await running).body), 'finished');
      await closed;
      await assert.rejects(channel.request(world.call('unary')), { sent: 'no' });
    },
  },
];
