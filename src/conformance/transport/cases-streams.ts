/**
 * Streams in each direction: order, ends, and how much is held while a peer does not read.
 */
import assert from 'node:assert/strict';
import type { IncomingCall } from '../../transport/transport.ts';
import { bytes, readAll, settled, type TransportCase, text, until } from './suite.ts';

const MESSAGE_BYTES = 4096;

export const streamCases: readonly TransportCase[] = [
  {
    name: 'a server stream arrives whole and in order, with its head and its trailers',
    needs: ['streams', 'replyMetadata'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        call.head({ contentType: world.contentType, metadata: { 'x-head': 'h' } });
        for (let n = 0; n < 3000; n++) await call.send(bytes(`${text(call.body as never)} ${n}`));
        call.end({ 'x-trailer': 't' });
      });
      const call = channel.call(world.call('serverStream'));
      const messages = await readAll(call);
      assert.deepEqual(
        messages,
        Array.from({ length: 3000 }, (_, n) => `request ${n}`),
      );
      const head = await call.head;
      assert.equal(head.metadata['x-head'], 'h');
      assert.equal((await call.trailers)['x-trailer'], 't');
      await until('no call is left', () => channel.load === 0);
    },
  },
  {
    name: 'a server stream without messages ends',
    needs: ['streams'],
    async run(world) {
      const channel = await world.channel((call) => call.end({}));
      const call = channel.call(world.call('serverStream'));
      assert.deepEqual(await readAll(call), []);
      await call.trailers;
    },
  },
  {
    name: 'a client stream arrives whole and in order, and has one reply',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const seen: string[] = [];
      const channel = await world.channel(async (call) => {
        for await (const message of call.messages) seen.push(text(message));
        world.reply(call, `${seen.length}`);
      });
      const call = channel.call(world.call('clientStream'));
      for (let n = 0; n < 3000; n++) await call.send(bytes(`${n}`));
      call.end();
      assert.deepEqual(await readAll(call), ['3000']);
      assert.deepEqual(
        seen,
        Array.from({ length: 3000 }, (_, n) => `${n}`),
      );
    },
  },
  {
    name: 'both ways: each message is answered before the next one is sent',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(echo);
      const call = channel.call(world.call('bidi'));
      for (let n = 0; n < 100; n++) {
        await call.send(bytes(`ping ${n}`));
        const { value } = await call.messages.next();
        assert.equal(text(value), `ping ${n}`);
      }
      call.end();
      assert.equal((await call.messages.next()).done, true);
    },
  },
  {
    name: 'after the caller has ended its side, replies go on',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        let count = 0;
        for await (const _ of call.messages) count++;
        for (let n = 0; n < 500; n++) await call.send(bytes(`${count} ${n}`));
        call.end({});
      });
      const call = channel.call(world.call('bidi'));
      await call.send(bytes('a'));
      await call.send(bytes('b'));
      call.end();
      await assert.rejects(call.send(bytes('c')), { code: 'CLOSED' });
      const replies = await readAll(call);
      assert.equal(replies.length, 500);
      assert.equal(replies.at(-1), '2 499');
    },
  },
  {
    name: 'a caller that ends without a message is heard',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        for await (const _ of call.messages) assert.fail('nothing was sent');
        world.reply(call, 'none');
      });
      const call = channel.call(world.call('clientStream'));
      call.end();
      assert.deepEqual(await readAll(call), ['none']);
    },
  },
  {
    name: 'empty messages arrive as messages',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(echo);
      const call = channel.call(world.call('bidi'));
      for (let n = 0; n < 10; n++) await call.send(new Uint8Array(0));
      call.end();
      assert.deepEqual(await readAll(call), Array(10).fill(''));
    },
  },
  {
    name: 'large messages arrive whole beside small ones',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const { maxBody = 1024 * 1024 } = world.fixture;
      const channel = await world.channel(echo);
      const call = channel.call(world.call('bidi'));
      const sizes = [1, maxBody, 2, Math.floor(maxBody / 2), 3];
      const sending = (async () => {
        for (const size of sizes) await call.send(Buffer.alloc(size, size & 0xff));
        call.end();
      })();
      const lengths: number[] = [];
      for await (const message of call.messages) lengths.push(message.length);
      await sending;
      assert.deepEqual(lengths, sizes);
    },
  },
  {
    name: 'a handler whose caller does not read stops within the window, and goes on when it reads',
    needs: ['streams'],
    async run(world) {
      const total = 2000;
      let accepted = 0;
      const channel = await world.channel(async (call) => {
        for (let n = 0; n < total; n++) {
          await call.send(Buffer.alloc(MESSAGE_BYTES));
          accepted++;
        }
        call.end({});
      });
      const call = channel.call(world.call('serverStream'));
      await call.head;
      mustBeBounded(world.fixture.bound, await settled(() => accepted));
      let read = 0;
      for await (const message of call.messages) read += message.length;
      assert.equal(read, total * MESSAGE_BYTES);
      assert.equal(accepted, total);
    },
  },
  {
    name: 'a caller whose handler does not read stops within the window, and goes on when it reads',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const total = 2000;
      const calls: IncomingCall[] = [];
      const channel = await world.channel((call) => calls.push(call));
      const call = channel.call(world.call('clientStream'));
      let accepted = 0;
      const sending = (async () => {
        for (let n = 0; n < total; n++) {
          await call.send(Buffer.alloc(MESSAGE_BYTES));
          accepted++;
        }
        call.end();
      })();
      await until('the handler runs', () => calls.length === 1);
      mustBeBounded(world.fixture.bound, await settled(() => accepted));
      const [incoming] = calls as [IncomingCall];
      let read = 0;
      for await (const message of incoming.messages) read += message.length;
      await sending;
      assert.equal(read, total * MESSAGE_BYTES);
      world.reply(incoming, 'done');
      assert.deepEqual(await readAll(call), ['done']);
    },
  },
  {
    name: 'one stream whose caller does not read does not stop the others',
    needs: ['streams'],
    async run(world) {
      const channel = await world.channel(async (call) => {
        const endless = text(call.body as Uint8Array) === 'endless';
        for (let n = 0; endless || n < 100; n++) await call.send(Buffer.alloc(MESSAGE_BYTES));
        call.end({});
      });
      const slow = channel.call(world.call('serverStream', { body: bytes('endless') }));
      await slow.head;
      for (let round = 0; round < 5; round++) {
        const call = channel.call(world.call('serverStream'));
        let count = 0;
        for await (const _ of call.messages) count++;
        assert.equal(count, 100);
      }
      slow.cancel();
    },
  },
  {
    name: 'messages that wait for the window are refused when more than their limit wait',
    needs: ['streams', 'clientStreams'],
    async run(world) {
      const channel = await world.channel(() => {});
      const call = channel.call(world.call('clientStream'));
      const refused = new Promise((resolve) => {
        for (let n = 0; n < 5000; n++) {
          call.send(Buffer.alloc(MESSAGE_BYTES)).catch((error) => resolve(error.code));
        }
      });
      assert.equal(await refused, 'LIMIT_EXCEEDED');
      call.cancel();
    },
  },
];

async function echo(call: IncomingCall): Promise<void> {
  for await (const message of call.messages) await call.send(message);
  call.end({});
}

/** What both ends hold together: a window each side of the connection, and the message on its way. */
function mustBeBounded(bound: { bytes: number } | { messages: number }, accepted: number): void {
  assert.ok(accepted > 0, 'nothing was accepted');
  if ('messages' in bound) {
    assert.ok(accepted <= bound.messages, `${accepted} messages of at most ${bound.messages}`);
    return;
  }
  const sent = accepted * MESSAGE_BYTES;
  assert.ok(sent <= bound.bytes + MESSAGE_BYTES, `${sent} bytes of at most ${bound.bytes}`);
}
