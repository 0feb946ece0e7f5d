/** Request and reply: caller and responder wired to each other on a virtual clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Responder } from '../../src/broker/broker.ts';
import type { RawMessage } from '../../src/broker/message/message.ts';
import { ownReplies } from '../../src/broker/requests/own-replies.ts';
import {
  type CallerWire,
  onlyReply,
  Requests,
  replyHeaders,
} from '../../src/broker/requests/requests.ts';
import { Responses } from '../../src/broker/requests/responses.ts';
import { passthroughTracing } from '../../src/broker/trace.ts';
import { RivuletError } from '../../src/errors.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const text = (message: RawMessage) => Buffer.from(message.body).toString();
const message = (body: string): RawMessage => ({ headers: {}, body: Buffer.from(body) });

/** Frames go straight to the responder, named by the caller's inbox. */
function wire(responses: Responses): CallerWire {
  return {
    cancel: (id) => responses.cancel('inbox', id),
    send(_, frame) {
      const headers = { ...frame.headers, [replyHeaders.replyTo]: 'inbox' };
      responses.receive({ ...frame, headers });
      return true;
    },
  };
}

const NO_WIRE: CallerWire = { cancel() {}, send: () => true };

function setUp(handler: Responder, concurrency = 10) {
  const scheduler = new VirtualScheduler();
  const requests = new Requests(scheduler, 100);
  let connected = true;
  const responses = new Responses({
    topic: 't',
    handler: ownReplies('t', handler, (_work, call) => call()),
    concurrency,
    scheduler,
    tracing: passthroughTracing(),
    send: async (_, frame) => {
      if (connected) requests.receive(frame);
      return connected;
    },
    address: () => 'responder',
  });
  const ask = (body: string, options = {}) => {
    const request = requests.start('t', options, wire(responses), 'many');
    const headers = { [replyHeaders.replyTo]: 'inbox', ...request.headers };
    request.departed();
    responses.receive({ ...message(body), headers });
    return request.call.messages;
  };
  return {
    scheduler,
    requests,
    responses,
    ask,
    cut: () => {
      connected = false;
    },
  };
}

test('one request, one reply, and nothing is left behind', async () => {
  const { ask, scheduler, requests } = setUp((request) => message(`re: ${text(request)}`));
  const replies = await Promise.all(['a', 'b'].map((body) => onlyReply(ask(body), 't')));
  assert.deepEqual(replies.map(text), ['re: a', 're: b']);
  assert.deepEqual(replies[0]?.headers, {});
  assert.equal(requests.inFlight, 0);
  assert.equal(scheduler.pendingTimers, 0);
});

test('many replies come in order and end', async () => {
  const { ask } = setUp(async function* () {
    for (const body of ['1', '2', '3']) yield message(body);
  });
  const seen: string[] = [];
  for await (const reply of ask('go')) seen.push(text(reply));
  assert.deepEqual(seen, ['1', '2', '3']);
});

test('frames that overtake each other are put in order', async () => {
  const requests = new Requests(new VirtualScheduler());
  const { id, call } = requests.start('t', {}, NO_WIRE, 'many');
  const frame = (kind: string, number: number) =>
    requests.receive({
      headers: {
        [replyHeaders.request]: id,
        [replyHeaders.kind]: kind,
        [replyHeaders.number]: `${number}`,
      },
      body: Buffer.from(`${number}`),
    });
  frame('end', 3);
  frame('reply', 2);
  frame('reply', 0);
  frame('reply', 1);
  const seen: string[] = [];
  for await (const reply of call.messages) seen.push(text(reply));
  assert.deepEqual(seen, ['0', '1', '2']);
});

test('what a responder throws arrives with its code', async () => {
  const { ask } = setUp((request) => {
    if (text(request) === 'known') throw new RivuletError('NOT_FOUND', 'no such order');
    throw new TypeError('oops');
  });
  await assert.rejects(onlyReply(ask('known'), 't'), {
    code: 'NOT_FOUND',
    message: 'no such order',
  });
  await assert.rejects(onlyReply(ask('x'), 't'), { code: 'RESPONDER_FAILED', message: 'oops' });
});

test('a responder that works long shows life; one that falls silent is lost', async () => {
  const { ask, scheduler, cut } = setUp(() => new Promise(() => {}));
  const reply = onlyReply(ask('x', { timeoutMs: 60_000 }), 't');
  const outcome = assert.rejects(reply, { code: 'RESPONDER_LOST' });
  let ended = false;
  void outcome.then(() => {
    ended = true;
  });
  await scheduler.advance(20_000);
  assert.equal(ended, false);
  cut();
  await scheduler.advance(6500);
  assert.equal(ended, true);
});

test('a process that was held up for a minute takes no peer for lost', async () => {
  const { ask, scheduler, responses } = setUp(
    (_, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => resolve(message('aborted')));
        scheduler.after(70_000, () => resolve(message('done')));
      }),
  );
  const reply = onlyReply(ask('x', { timeoutMs: 300_000 }), 't');
  await scheduler.advance(2000);
  scheduler.elapse(60_000);
  await scheduler.advance(9000);
  assert.equal(text(await reply), 'done');
  assert.equal(responses.inFlight, 0);
});

test('a timeout and an abort end the request and reach the handler', async () => {
  const reasons: string[] = [];
  const { ask, scheduler, requests, responses } = setUp(
    (_, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason.code);
          reject(signal.reason);
        });
      }),
  );
  const controller = new AbortController();
  const late = assert.rejects(onlyReply(ask('x', { timeoutMs: 500 }), 't'), { code: 'TIMEOUT' });
  const aborted = assert.rejects(onlyReply(ask('y', { signal: controller.signal }), 't'), {
    code: 'ABORTED',
  });
  await scheduler.advance(500);
  controller.abort();
  await Promise.all([late, aborted]);
  await scheduler.settle();
  assert.deepEqual(reasons, ['ABORTED', 'ABORTED']);
  assert.equal(requests.inFlight, 0);
  assert.equal(responses.inFlight, 0);
  assert.equal(scheduler.pendingTimers, 0);
});

test('requests in flight are bounded, and so are handlers', async () => {
  const open: (() => void)[] = [];
  const { ask, requests } = setUp(
    () => new Promise((resolve) => open.push(() => resolve(message('done')))),
    2,
  );
  const replies = Array.from({ length: 100 }, () => onlyReply(ask('x'), 't'));
  assert.equal(open.length, 2);
  assert.throws(() => requests.start('t', {}, NO_WIRE, 'one'), { code: 'LIMIT_EXCEEDED' });
  while (requests.inFlight > 0) {
    for (const end of open.splice(0)) end();
    await new Promise(setImmediate);
  }
  assert.equal((await Promise.all(replies)).length, 100);
});

test('leaving a loop over replies early cancels the rest', async () => {
  let produced = 0;
  const { ask, requests, scheduler } = setUp(async function* (_, { signal }) {
    while (!signal.aborted) {
      produced++;
      yield message('tick');
      await new Promise(setImmediate);
    }
  });
  for await (const _ of ask('go')) break;
  await scheduler.settle();
  const then = produced;
  await scheduler.settle();
  assert.ok(produced - then <= 1);
  assert.equal(requests.inFlight, 0);
});
