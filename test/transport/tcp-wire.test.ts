/**
 * The tcp transport against peers that break the protocol: the connection ends with a reason, the
 * listener goes on, and nothing is held.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import { READY } from '../../src/flow/ready.ts';
import { MessageQueue } from '../../src/transport/message-queue.ts';
import { FramedSocket } from '../../src/transport/tcp/framed-socket.ts';
import { TcpTransport } from '../../src/transport/tcp/tcp.ts';
import { readFailure } from '../../src/transport/tcp/tcp-client.ts';
import {
  Frame,
  FrameReader,
  FrameSplitter,
  FrameWriter,
  MAX_FRAME,
  PREFACE,
} from '../../src/transport/tcp/tcp-frame.ts';
import { TcpServerConnection } from '../../src/transport/tcp/tcp-server.ts';
import { type IncomingCall, NO_METADATA } from '../../src/transport/transport.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { until } from '../helpers/until.ts';
import { RawPeer } from './raw-peer.ts';

/** A listener that echoes unary bodies and collects the streams that reach it. */
async function listener(token = '') {
  const streams: IncomingCall[] = [];
  const listening = await new TcpTransport().listen({
    address: '127.0.0.1:0',
    token,
    nodeId: 'node',
    handler(call) {
      if (call.body !== null) {
        call.reply({ contentType: call.contentType, metadata: NO_METADATA, body: call.body });
      } else streams.push(call);
    },
  });
  return { ...listening, streams };
}

const END_BODY = Buffer.from([0]);

const offences: Record<string, (peer: RawPeer) => void> = {
  'a first frame that is not HELLO': (peer) => {
    peer.raw(PREFACE);
    peer.open(1);
  },
  'a version that is not known': (peer) => peer.greet({ version: 99 }),
  'a frame on a stream that was never opened': (peer) => {
    peer.greet();
    peer.frame(Frame.MORE, 7, Buffer.from('x'));
  },
  'a stream number used twice': (peer) => {
    peer.greet();
    peer.open(3, { kind: 2 });
    peer.open(3, { kind: 2 });
  },
  'a stream number that is even': (peer) => {
    peer.greet();
    peer.open(2);
  },
  'a stream number that falls': (peer) => {
    peer.greet();
    peer.open(5);
    peer.open(3);
  },
  'a kind of call that is not known': (peer) => {
    peer.greet();
    peer.open(1, { kind: 9 });
  },
  'MORE after END': (peer) => {
    peer.greet();
    peer.open(1, { kind: 2 });
    peer.frame(Frame.END, 1, END_BODY);
    peer.frame(Frame.MORE, 1, Buffer.from('x'));
  },
  'END twice': (peer) => {
    peer.greet();
    peer.open(1, { kind: 2 });
    peer.frame(Frame.END, 1, END_BODY);
    peer.frame(Frame.END, 1, END_BODY);
  },
  'a frame that has no place in a call': (peer) => {
    peer.greet();
    peer.open(1, { kind: 2 });
    peer.frame(99, 1);
  },
  'more bytes than the credit': (peer) => {
    peer.greet();
    peer.open(1, { kind: 2 });
    for (let sent = 0; sent < 40; sent++) peer.frame(Frame.MORE, 1, Buffer.alloc(10_000));
  },
  'a frame larger than allowed': (peer) => {
    peer.greet();
    const head = Buffer.alloc(9);
    head.writeUInt32LE(MAX_FRAME + 100);
    peer.raw(head);
  },
  'a frame shorter than its own head': (peer) => {
    peer.greet();
    peer.raw(Buffer.from([1, 0, 0, 0, 1]));
  },
  'a name that was never told': (peer) => {
    peer.greet();
    peer.frame(Frame.OPEN, 1, Buffer.from([0, 50, 0, 0, 0]));
  },
  'a frame that ends before its contents': (peer) => {
    peer.greet();
    peer.frame(Frame.OPEN, 1, Buffer.from([0, 0, 200, 65]));
  },
  'a varint without an end': (peer) => {
    peer.greet();
    peer.frame(Frame.OPEN, 1, Buffer.from([0, 255, 255, 255, 255, 255, 255, 255, 255, 255]));
  },
  'headers beyond 64 KiB': (peer) => {
    peer.greet();
    const { writer } = peer;
    writer.begin(Frame.OPEN, 1);
    writer.u8(0);
    writer.name('svc A.B');
    writer.varint(0);
    writer.contentType('application/json');
    writer.headers(
      Object.fromEntries(Array.from({ length: 70 }, (_, index) => [`h${index}`, 'x'.repeat(1000)])),
    );
    writer.end(null);
    peer.flush();
  },
};

for (const [what, offend] of Object.entries(offences)) {
  test(`${what} ends the connection with a reason and harms no other`, async () => {
    const listening = await listener();
    const good = new RawPeer(listening.address);
    good.greet();
    await good.next(Frame.HELLO);
    const bad = new RawPeer(listening.address);
    offend(bad);
    await bad.closed();
    good.open(1);
    await good.next(Frame.REPLY);
    good.destroy();
    await listening.close();
  });
}

test('a wrong token is refused with the advice to read the registry again', async () => {
  const listening = await listener('secret');
  const bad = new RawPeer(listening.address);
  bad.greet({ token: 'guess' });
  const refusal = await bad.next(Frame.ERROR);
  assert.match(refusal?.error ?? '', /registry/);
  assert.doesNotMatch(refusal?.error ?? '', /secret/);
  await bad.closed();
  const node = { id: 'n', address: listening.address, metadata: { 'rivulet.token': 'guess' } };
  await assert.rejects(new TcpTransport().dial(node), { code: 'CONNECTION_FAILED', sent: 'no' });
  await listening.close();
});

test('a peer that is gone in the middle of a stream cancels its handler', async () => {
  const listening = await listener();
  const peer = new RawPeer(listening.address);
  peer.greet();
  peer.open(1, { kind: 3 });
  await until(() => listening.streams.length > 0);
  const [call] = listening.streams;
  const cancelled = new Promise<{ code: string }>((resolve) => call?.onCancel(resolve));
  peer.destroy();
  assert.equal((await cancelled).code, 'ABORTED');
  await assert.rejects((call as IncomingCall).send(Buffer.from('x')), { code: 'ABORTED' });
  await listening.close();
});

test('names beyond the table of a thousand still arrive', async () => {
  const listening = await listener();
  const peer = new RawPeer(listening.address);
  peer.greet();
  for (let call = 0; call < 2000; call++) peer.open(2 * call + 1, { name: `svc A.M${call}` });
  for (let call = 0; call < 2000; call++) await peer.next(Frame.REPLY);
  for (let call = 0; call < 2000; call++) peer.open(4001 + 2 * call, { name: `svc A.M${call}` });
  for (let call = 0; call < 2000; call++) await peer.next(Frame.REPLY);
  peer.destroy();
  await listening.close();
});

test('bytes cut anywhere are frames all the same, large bodies too', async () => {
  const writer = new FrameWriter();
  const bodies = [0, 1, 100, 16 * 1024, 70_000].map((size) => Buffer.alloc(size, 7));
  for (const [index, body] of bodies.entries()) {
    writer.begin(Frame.MORE, index);
    writer.end(body);
  }
  const bytes = Buffer.concat(writer.take());
  for (const step of [1, 3, 7, 1000, 65_536, bytes.length]) {
    const seen: [number, number][] = [];
    const splitter = new FrameSplitter(new FrameReader(), (frame) => {
      const { stream } = frame;
      seen.push([stream, frame.rest().length]);
    });
    for (let at = 0; at < bytes.length; at += step) splitter.push(bytes.subarray(at, at + step));
    assert.deepEqual(
      seen,
      bodies.map((body, index) => [index, body.length]),
    );
  }
});

test('a peer that reads nothing holds a window of a stream, and the sender waits', async () => {
  const listening = await listener();
  const peer = new RawPeer(listening.address);
  peer.greet({ window: 10_000 });
  peer.open(1, { kind: 3 });
  await until(() => listening.streams.length > 0);
  const call = listening.streams[0] as IncomingCall;
  let sent = 0;
  const sending = (async () => {
    for (;;) {
      await call.send(Buffer.alloc(1000));
      sent++;
    }
  })().catch(() => {});
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  assert.ok(sent <= 11, `${sent} messages of 1000 bytes went out with a window of 10,000`);
  const grant = Buffer.alloc(4);
  grant.writeUInt32LE(5000);
  peer.frame(Frame.GRANT, 1, grant);
  const before = sent;
  await until(() => sent !== before);
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  assert.ok(sent <= 17, `${sent} messages went out after 5,000 bytes more were granted`);
  peer.destroy();
  await sending;
  await listening.close();
});

test('a connection that sends no HELLO is closed, and the listener closes at once', async () => {
  const listening = await listener();
  for (const first of ['', 'R', 'GET / HTTP/1.1\r\n\r\n', '\u0016\u0003\u0001']) {
    const peer = new RawPeer(listening.address);
    if (first !== '') peer.raw(first);
    if (first.length >= 4) await peer.closed();
    else peer.destroy();
  }
  const silent = connect(Number(listening.address.split(':')[1]), '127.0.0.1');
  await once(silent, 'connect');
  silent.on('error', () => {});
  await listening.close();
});

test('a peer that does not read its replies is not read, and gets each of them once it reads', async () => {
  const calls = 200;
  const body = Buffer.alloc(1024 * 1024);
  let handled = 0;
  const listening = await new TcpTransport().listen({
    address: '127.0.0.1:0',
    nodeId: 'node',
    handler(call) {
      handled++;
      call.reply({ contentType: call.contentType, metadata: NO_METADATA, body });
    },
  });
  const peer = new RawPeer(listening.address);
  peer.greet();
  await peer.next(Frame.HELLO);
  peer.reads(false);
  for (let call = 0; call < calls; call++) peer.open(1 + 2 * call);
  const other = new RawPeer(listening.address);
  other.greet();
  for (let call = 0; call < 20; call++) {
    other.open(1 + 2 * call);
    await other.next(Frame.REPLY);
  }
  // 16 MiB wait in the server, and a few in the buffers of the two sockets.
  assert.ok(handled < 20 + calls / 2, `${handled} replies of 1 MiB were made`);
  peer.reads(true);
  for (let call = 0; call < calls; call++) {
    assert.equal((await peer.next(Frame.REPLY))?.stream, 1 + 2 * call);
  }
  peer.destroy();
  other.destroy();
  await listening.close();
});

test('a frame that cannot be written leaves no trace, nor do the names that it defined', () => {
  const writer = new FrameWriter();
  const frames: [stream: number, name: string][] = [];
  const splitter = new FrameSplitter(new FrameReader(), (frame) => {
    frames.push([frame.stream, frame.name()]);
  });
  writer.begin(Frame.OPEN, 1);
  writer.name('first');
  writer.end();
  writer.begin(Frame.OPEN, 3);
  writer.name('dropped');
  assert.throws(() => writer.name('n'.repeat(1025)), { code: 'INVALID_ARGUMENT' });
  writer.begin(Frame.OPEN, 5);
  writer.name('dropped, too');
  assert.throws(() => writer.end(Buffer.alloc(MAX_FRAME)), { code: 'BODY_TOO_LARGE' });
  for (const [stream, name] of [
    [7, 'second'],
    [9, 'dropped'],
    [11, 'second'],
  ] as const) {
    writer.begin(Frame.OPEN, stream);
    writer.name(name);
    writer.end();
  }
  writer.begin(Frame.OPEN, 13);
  writer.name('never ended');
  for (const chunk of writer.take()) splitter.push(Buffer.from(chunk));
  assert.deepEqual(frames, [
    [1, 'first'],
    [7, 'second'],
    [9, 'dropped'],
    [11, 'second'],
  ]);
});

test('messages of a stream that are sent in one turn leave in few writes, the first at once', async () => {
  const writes: number[] = [];
  const socket = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      writes.push(chunk.length);
      done();
    },
  });
  const owner = { load: 1, onFrame: () => {}, onClosed: () => {} };
  const frames = new FramedSocket(socket, 'peer', owner, systemScheduler);
  const send = (count: number) => {
    for (let sent = 0; sent < count; sent++) {
      frames.writer.begin(Frame.MORE, 1);
      frames.writer.end(Buffer.alloc(1024));
      frames.flushMessage();
    }
  };
  send(1);
  assert.equal(writes.length, 1);
  send(100);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  assert.ok(writes.length <= 6, `${writes.length} writes`);
  const bytes = writes.reduce((sum, length) => sum + length, 0);
  assert.equal(bytes, 101 * (1024 + 9));
  // The next turn begins anew.
  const before = writes.length;
  send(1);
  assert.equal(writes.length, before + 1);
  frames.close();
});

/** The server's end of a connection on a virtual clock, and the frames that it answers. */
function served(maxUnreadBytes?: number) {
  const scheduler = new VirtualScheduler();
  const [near, far] = duplexPair();
  const calls: IncomingCall[] = [];
  const answers: { type: number; stream: number; error: string }[] = [];
  const connection = new TcpServerConnection(far, {
    handler: (call) => calls.push(call),
    scheduler,
    token: '',
    nodeId: 'node',
    peer: 'the test',
    onClosed() {},
    ...(maxUnreadBytes === undefined ? {} : { maxUnreadBytes }),
  });
  const splitter = new FrameSplitter(new FrameReader(), (frame) => {
    const { type, stream } = frame;
    answers.push({ type, stream, error: type === Frame.ERROR ? readFailure(frame).code : '' });
  });
  near.on('data', (chunk: Buffer) => splitter.push(chunk));
  const writer = new FrameWriter();
  return {
    scheduler,
    connection,
    calls,
    answers,
    writer,
    async flush() {
      for (const chunk of writer.take()) near.write(chunk);
      for (let turns = 0; turns < 5; turns++) await new Promise((next) => setImmediate(next));
    },
    greet() {
      writer.begin(Frame.HELLO, 0);
      writer.u8(1);
      writer.u32(1000);
      writer.u32(MAX_FRAME);
      for (const _ of ['token', 'node']) writer.text('');
      writer.u8(0);
      writer.end();
    },
    open(stream: number) {
      writer.begin(Frame.OPEN, stream);
      writer.u8(2);
      writer.name('s Test.Sum');
      writer.varint(0);
      writer.contentType('application/json');
      writer.headers(NO_METADATA);
      writer.end();
    },
    more(stream: number, bytes: number) {
      writer.begin(Frame.MORE, stream);
      writer.end(Buffer.alloc(bytes));
    },
  };
}

test('a peer that does not greet within ten seconds loses its connection, one that does keeps it', async () => {
  const silent = served();
  await silent.scheduler.advance(9_999);
  assert.equal(silent.connection.frames.isClosed, false);
  await silent.scheduler.advance(2);
  assert.equal(silent.connection.frames.error?.code, 'PROTOCOL');
  const greeting = served();
  greeting.greet();
  await greeting.flush();
  await greeting.scheduler.advance(3_600_000);
  assert.equal(greeting.connection.frames.error, null);
  assert.equal(greeting.scheduler.pendingTimers, 0);
});

test('no large frame is taken of a peer that has not greeted', async () => {
  const s = served();
  s.more(1, 17 * 1024);
  await s.flush();
  assert.match(String(s.connection.frames.error?.message), /a frame of \d+ bytes/);
  const greeted = served();
  greeted.greet();
  greeted.open(1);
  greeted.more(1, 200_000);
  await greeted.flush();
  assert.equal(greeted.connection.frames.error, null);
  assert.equal(greeted.calls.length, 1);
});

test('unread messages of all streams of a connection have a bound, and what is read makes room', async () => {
  const s = served(150_000);
  s.greet();
  for (const stream of [1, 3, 5]) {
    s.open(stream);
    s.more(stream, 60_000);
  }
  await s.flush();
  const refused = s.answers.filter(({ type }) => type === Frame.ERROR);
  assert.deepEqual(refused, [{ type: Frame.ERROR, stream: 5, error: 'LIMIT_EXCEEDED' }]);
  const [first, second, third] = s.calls as [IncomingCall, IncomingCall, IncomingCall];
  let cancelled = '';
  third.onCancel((reason) => {
    cancelled = reason.code;
  });
  assert.equal(cancelled, 'LIMIT_EXCEEDED');
  await assert.rejects(third.messages.next(), { code: 'LIMIT_EXCEEDED' });
  // One is read, one ends unread: both make room.
  assert.equal((await first.messages.next()).value.length, 60_000);
  const next = first.messages.next();
  second.end(NO_METADATA);
  for (const stream of [7, 9]) {
    s.open(stream);
    s.more(stream, 60_000);
  }
  await s.flush();
  assert.equal(s.answers.filter(({ type }) => type === Frame.ERROR).length, 1);
  s.connection.frames.close();
  await assert.rejects(next);
});

test('a small message does not keep what was read together with it', () => {
  const writer = new FrameWriter();
  writer.begin(Frame.PONG, 0);
  writer.end(Buffer.alloc(1024 * 1024));
  for (const bytes of [1, 600_000]) {
    writer.begin(Frame.MORE, 1);
    writer.end(Buffer.alloc(bytes, 7));
  }
  const kept: Uint8Array[] = [];
  const splitter = new FrameSplitter(new FrameReader(), (frame) => {
    if (frame.type === Frame.MORE) kept.push(frame.kept());
  });
  splitter.push(Buffer.concat(writer.take()));
  const [small, large] = kept as [Uint8Array, Uint8Array];
  assert.deepEqual([small.length, small[0], large.length, large[0]], [1, 7, 600_000, 7]);
  assert.ok(small.buffer.byteLength < 100_000);
  assert.ok(large.buffer.byteLength > 1024 * 1024, 'a large part is not copied');
});

test('what waits in a stream keeps no more memory than a few times its own size', async () => {
  for (const bytes of [1, 100, 1000, 5000]) {
    const queue = new MessageQueue({
      limit: 1024 * 1024,
      onConsumed: () => {},
      onLeave: () => {},
    });
    const count = 100;
    for (let n = 0; n < count; n++) {
      // Each came together with a chunk of messages that others have read.
      queue.push(
        Buffer.allocUnsafeSlow(64 * 1024)
          .fill(n)
          .subarray(0, bytes),
      );
    }
    const buffers = new Set<ArrayBufferLike>();
    for (let n = 0; n < count; n++) {
      const { value } = await queue.next();
      assert.deepEqual([value.length, value[0], value[bytes - 1]], [bytes, n, n]);
      buffers.add(value.buffer);
    }
    let kept = 0;
    for (const { byteLength } of buffers) kept += byteLength;
    assert.ok(kept <= 2 * bytes * count + 8 * 1024, `${kept} bytes of ${count} times ${bytes}`);
  }
});

test('a stream waits while its peer reads nothing, whatever that peer has granted', async () => {
  const listening = await listener();
  const peer = new RawPeer(listening.address);
  peer.greet({ window: 0xffff_ffff });
  await peer.next(Frame.HELLO);
  peer.reads(false);
  peer.open(1, { kind: 3 });
  await until(() => listening.streams.length > 0);
  const call = listening.streams[0] as IncomingCall;
  const most = 100 * 1024 * 1024;
  let sent = 0;
  let isWaiting = false;
  const sending = (async () => {
    while (sent < most) {
      const message = call.send(Buffer.alloc(64 * 1024));
      sent += 64 * 1024;
      isWaiting = message !== READY;
      await message;
      isWaiting = false;
    }
  })();
  await until(() => isWaiting || sent >= most);
  // What the buffers of both sockets take has left by then.
  for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate);
  assert.ok(isWaiting && sent < most / 2, `${sent} bytes were sent to a peer that reads none`);
  peer.reads(true);
  await sending;
  peer.destroy();
  await listening.close();
});
