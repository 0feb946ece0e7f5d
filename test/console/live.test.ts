/**
 * Live streams whose client reads slowly, or not at all: what waits for it has a bound, and what it gets
 * afterwards is whole.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { LiveFrame } from '../../src/console/api-types.ts';
import { Live, type WatchKinds } from '../../src/console/http/live.ts';
import type { Call } from '../../src/console/http/router.ts';
import { until } from '../helpers/until.ts';

/** More than the kernel holds for both ends of a connection. */
const LARGE = 24 * 1024 * 1024;

interface Opened extends AsyncDisposable {
  readonly live: Live;
  /** The server's side of the streams, in the order in which they were opened. */
  readonly responses: readonly ServerResponse[];
  connect(watch: string): Promise<IncomingMessage>;
}

async function open(kinds: WatchKinds): Promise<Opened> {
  const live = new Live(kinds, () => {});
  const responses: ServerResponse[] = [];
  const server = createServer((request, response) => {
    responses.push(response);
    const query = new URL(request.url ?? '/', 'http://x').searchParams;
    const account = { name: 'ann', roles: [], isValid: true };
    live.open({ response, request, query, account, viewer: { user: 'ann' } } as unknown as Call);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    live,
    responses,
    async connect(watch) {
      const request = get({ port, path: `/?watch=${watch}`, agent: false });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.pause();
      return response;
    },
    async [Symbol.asyncDispose]() {
      live.close();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function* framesOf(response: IncomingMessage): AsyncGenerator<LiveFrame> {
  let text = '';
  for await (const chunk of response) {
    text += chunk;
    for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
      const data = /^data: (.*)$/m.exec(text.slice(0, at))?.[1];
      text = text.slice(at + 2);
      if (data !== undefined) yield JSON.parse(data) as LiveFrame;
    }
  }
}

test('a client that reads nothing is asked and sent nothing more, then everything at once', {
  timeout: 300_000,
}, async () => {
  const asked = { large: 0, small: 0 };
  const kinds: WatchKinds = {
    find: (watch) => async () => {
      const number = watch === 'large' ? ++asked.large : ++asked.small;
      const text = watch === 'large' ? 'x'.repeat(LARGE) : '';
      return { kind: 'value', value: { number, text } };
    },
  };
  await using opened = await open(kinds);
  const slow = await opened.connect('large');
  const quick = await opened.connect('small');
  quick.resume();
  const [slowSide] = opened.responses;
  // Ticks of another stream count the seconds.
  await until(() => asked.small >= 4);
  assert.equal(asked.large, 1, 'what cannot be sent is not asked for');
  const waiting = slowSide!.writableLength;
  assert.ok(waiting > 0 && waiting < LARGE + 512 * 1024, `${waiting} bytes wait`);
  const frames = framesOf(slow);
  const first = (await frames.next()).value as LiveFrame;
  const second = (await frames.next()).value as LiveFrame;
  const numbers = [first, second].map(({ parts }) => {
    const part = parts.large;
    return part?.kind === 'value' ? (part.value as { number: number }).number : null;
  });
  assert.deepEqual(numbers, [1, 2]);
  assert.deepEqual([first.snapshot, second.snapshot], [true, true], 'after a gap all is sent');
});

test('a stream whose client is gone is asked no more, and its timer ends', {
  timeout: 300_000,
}, async () => {
  let asked = 0;
  await using opened = await open({
    find: () => async () => ({ kind: 'value', value: { number: ++asked } }),
  });
  const response = await opened.connect('any');
  const [side] = opened.responses;
  const ended = once(side!, 'close');
  response.destroy();
  await ended;
  assert.equal(opened.live.size, 0);
});

test('an answer that takes long holds up no other stream', { timeout: 300_000 }, async () => {
  let drawn = 0;
  const kinds: WatchKinds = {
    find: (watch) => async () => {
      if (watch === 'never') await new Promise(() => {});
      return { kind: 'value', value: { at: 0, number: ++drawn } };
    },
  };
  await using opened = await open(kinds);
  const stuck = await opened.connect('never');
  stuck.resume();
  const frames = framesOf(await opened.connect('quick'));
  for (let n = 0; n < 3; n++) assert.equal((await frames.next()).done, false);
});

test('what twenty streams are sent is written as JSON once for all', {
  timeout: 300_000,
}, async () => {
  let [asked, written] = [0, 0];
  const counted = {
    toJSON() {
      written++;
      return 'x';
    },
  };
  await using opened = await open({
    find: () => async () => ({ kind: 'value', value: { number: ++asked, counted } }),
  });
  const streams = await Promise.all(Array.from({ length: 20 }, () => opened.connect('same')));
  const all = streams.map(framesOf);
  for (let frame = 0; frame < 3; frame++) {
    const frames = await Promise.all(all.map((each) => each.next()));
    assert.ok(frames.every(({ done }) => !done));
  }
  // To compare it, as it is for a first frame, and as it is for a later one.
  assert.ok(written <= 3 * asked, `${written} times for ${asked} answers`);
});
