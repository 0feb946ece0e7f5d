/** The dispatcher on a virtual clock, with a settler that only records its calls. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BrokerEvents, Delivery } from '../../../src/broker/broker.ts';
import type { RawDelivery, Settler } from '../../../src/broker/dispatch/delivery.ts';
import type { DeliveryHandler } from '../../../src/broker/dispatch/delivery-handler.ts';
import { Dispatcher } from '../../../src/broker/dispatch/dispatcher.ts';
import { Events } from '../../../src/broker/events.ts';
import { ONLY_GROUP } from '../../../src/broker/message/message.ts';
import {
  type AnySubscribeOptions,
  resolveSubscribeOptions,
} from '../../../src/broker/options/options.ts';
import { LoopFeed } from '../../../src/broker/subscribers/delivery-loop.ts';
import { passthroughTracing } from '../../../src/broker/trace.ts';
import { RivuletError } from '../../../src/errors.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';

const RETRY = { attempts: 3, backoff: { minMs: 100, maxMs: 1000, factor: 2, jitter: false } };

class Recorder implements Settler {
  readonly log: string[] = [];
  /** Ids that the broker has given to another. */
  readonly lost = new Set<string>();
  /** The sizes of what came to `ackMany`. */
  readonly together: number[] = [];

  async #note(word: string, raw: RawDelivery): Promise<void> {
    if (this.lost.has(raw.id)) throw new RivuletError('DELIVERY_LOST', raw.id);
    this.log.push(`${word} ${raw.id}`);
  }

  ack = (raw: RawDelivery) => this.#note('ack', raw);
  async ackMany(raws: readonly RawDelivery[]): Promise<void> {
    this.together.push(raws.length);
    if (raws.every(({ id }) => this.lost.has(id))) throw new RivuletError('DELIVERY_LOST', 'all');
    for (const { id } of raws) if (!this.lost.has(id)) this.log.push(`ack ${id}`);
  }
  nack = (raw: RawDelivery, delayMs: number) => this.#note(`nack+${delayMs}`, raw);
  deadLetter = (raw: RawDelivery, topic: string, reason: string) =>
    this.#note(`dead(${topic}, ${reason})`, raw);
  extend = (raw: RawDelivery, ms: number) => this.#note(`extend+${ms}`, raw);
  release = (raw: RawDelivery) => this.#note('release', raw);
  storeAttempt = (raw: RawDelivery) => this.#note('recount', raw);
}

/** One that counts in the turn of the hand-over. */
class NowRecorder extends Recorder {
  storeAttemptNow = (raw: RawDelivery) => this.storeAttempt(raw);
  storeAttemptsNow(raws: readonly RawDelivery[]): Promise<void>[] {
    this.log.push(`now ${raws.map(({ id }) => id).join('+')}`);
    return raws.map(() => Promise.resolve());
  }
}

function setUp(
  consume: DeliveryHandler,
  options: AnySubscribeOptions = {},
  fetchAhead: 'always' | 'when trusted' = 'always',
  settler = new Recorder(),
) {
  const scheduler = new VirtualScheduler();
  const events = new Events<BrokerEvents>();
  let freed = 0;
  const dispatcher = new Dispatcher({
    options: resolveSubscribeOptions({ group: 'g', retry: RETRY, ...options }),
    consume,
    settler,
    scheduler,
    events,
    tracing: passthroughTracing(),
    fetchAhead,
    countAfterQuietMs: 0.5,
    onFree: () => {
      freed++;
    },
  });
  const push = (
    id: string,
    key?: string,
    attempt = 1,
    headers: Record<string, string> = {},
    kind: { counted?: boolean; suspect?: boolean } = {},
  ) =>
    dispatcher.push({
      ...kind,
      topic: 't',
      id,
      attempt,
      publishedAt: 0,
      message: { headers, body: new Uint8Array(), ...(key === undefined ? {} : { key }) },
    });
  return { scheduler, settler, events, dispatcher, push, freed: () => freed };
}

/** A handler whose calls wait until the test lets them go on. */
function gate() {
  const calls = new Map<string, { delivery: Delivery; end(): void; fail(error: Error): void }>();
  const each = (delivery: Delivery) =>
    new Promise<void>((resolve, reject) => {
      const name = `${delivery.id}#${delivery.attempt}`;
      calls.set(name, { delivery, end: resolve, fail: reject });
    });
  return { each, calls, running: () => [...calls.keys()] };
}

test('a handler that succeeds acknowledges; one that throws gives back with backoff', async () => {
  const { push, settler, scheduler, events, freed } = setUp({
    each: ({ id }) => {
      if (id === 'bad') throw new Error('no');
    },
  });
  const errors: unknown[] = [];
  events.on('handlerError', ({ id, attempt }) => errors.push([id, attempt]));
  push('good');
  push('bad', undefined, 2);
  await scheduler.settle();
  assert.deepEqual(settler.log.toSorted(), ['ack good', 'nack+200 bad']);
  assert.deepEqual(errors, [['bad', 2]]);
  assert.equal(freed(), 2);
  assert.equal(scheduler.pendingTimers, 1, 'the deadline watch');
  await scheduler.advance(60_000);
  assert.equal(scheduler.pendingTimers, 0);
});

test('a handler returns once, whatever its thenable does: calls back twice, throws, refuses to be read', async () => {
  const thenables: Readonly<Record<string, object>> = {
    twice: {
      // biome-ignore lint/suspicious/noThenProperty: what a handler may return
      then(done: () => void) {
        done();
        done();
      },
    },
    throws: {
      // biome-ignore lint/suspicious/noThenProperty: what a handler may return
      then() {
        throw new Error('no');
      },
    },
    unreadable: {
      // biome-ignore lint/suspicious/noThenProperty: what a handler may return
      get then() {
        throw new Error('no');
      },
    },
  };
  let running = 0;
  const { push, settler, scheduler } = setUp(
    {
      each: ({ id }) => {
        running++;
        return thenables[id] ?? new Promise(() => {});
      },
    },
    { concurrency: 2 },
  );
  for (const id of ['twice', 'throws', 'unreadable']) push(id);
  await scheduler.settle();
  assert.deepEqual(settler.log.toSorted(), ['ack twice', 'nack+100 throws', 'nack+100 unreadable']);
  // The bound holds after it: a call that returned twice would leave room for a third.
  for (const id of ['a', 'b', 'c']) push(id);
  await scheduler.settle();
  assert.equal(running, 3 + 2);
});

test('what succeeds in one turn is acknowledged together, and room is reported once', async () => {
  const { dispatcher, push, settler, scheduler, freed } = setUp(
    { each: ({ id }) => (id === 'later' ? Promise.resolve() : undefined) },
    { concurrency: 2, maxInFlight: 1000 },
  );
  for (let i = 0; i < 300; i++) push(`${i}`);
  push('later');
  await scheduler.settle();
  assert.deepEqual(settler.together, [300, 1], 'of handlers that need no promise, all at once');
  assert.equal(freed(), 2);
  assert.equal(dispatcher.inFlight, 0);
});

test('acknowledged together and refused together: each is reported, and its place is free', async () => {
  const { dispatcher, push, settler, scheduler, events } = setUp(
    { each: () => {} },
    { concurrency: 2, maxInFlight: 10 },
  );
  const warnings: string[] = [];
  events.on('warning', ({ error }) => warnings.push((error as RivuletError).code));
  settler.lost.add('a').add('b');
  push('a');
  push('b');
  await scheduler.settle();
  assert.deepEqual(warnings, ['DELIVERY_LOST', 'DELIVERY_LOST']);
  assert.deepEqual(settler.log, []);
  assert.equal(dispatcher.free, 10);
});

test('a handler that settles by itself is not acknowledged a second time', async () => {
  const { push, settler, scheduler } = setUp({
    each: (delivery) => void delivery.nack({ delayMs: 5 }).catch(() => {}),
  });
  push('a');
  await scheduler.settle();
  assert.deepEqual(settler.log, ['nack+5 a']);
  assert.deepEqual(settler.together, []);
});

test('the last attempt that fails is a dead letter, as is what killed its consumers', async () => {
  const { push, settler, scheduler } = setUp({
    each: () => {
      throw new Error('poison');
    },
  });
  push('a', undefined, 3);
  push('b', undefined, 4);
  await scheduler.settle();
  assert.deepEqual(settler.log.sort(), [
    'dead(t.dead, delivered 3 times and never settled) b',
    'dead(t.dead, poison) a',
  ]);
});

test('at most concurrency handlers run, and free counts what may still be pushed', async () => {
  const { each, running, calls } = gate();
  const { push, dispatcher, scheduler } = setUp({ each }, { concurrency: 2, maxInFlight: 5 });
  for (const id of ['1', '2', '3', '4', '5']) push(id);
  assert.deepEqual(running(), ['1#1', '2#1']);
  assert.equal(dispatcher.free, 0);
  calls.get('1#1')?.end();
  await scheduler.settle();
  assert.deepEqual(running(), ['1#1', '2#1', '3#1']);
  assert.equal(dispatcher.free, 1);
});

test('by key: one key in order, retries in place hold back only their own key', async () => {
  const { each, running, calls } = gate();
  const { push, settler, scheduler } = setUp(
    { each },
    { ordered: 'key', concurrency: 4, maxInFlight: 10 },
  );
  push('a1', 'a');
  push('a2', 'a');
  push('b1', 'b');
  push('free');
  assert.deepEqual(running(), ['a1#1', 'b1#1', 'free#1']);
  calls.get('a1#1')?.fail(new Error('later'));
  calls.get('b1#1')?.end();
  await scheduler.settle();
  push('b2', 'b');
  assert.deepEqual(running(), ['a1#1', 'b1#1', 'free#1', 'b2#1'], 'a2 waits for a1');
  await scheduler.advance(99);
  assert.equal(calls.has('a1#2'), false);
  await scheduler.advance(1);
  assert.equal(calls.has('a1#2'), true);
  assert.equal(calls.has('a2#1'), false);
  calls.get('a1#2')?.end();
  await scheduler.settle();
  assert.equal(calls.has('a2#1'), true);
  assert.deepEqual(settler.log, ['ack b1', 'recount a1', 'ack a1']);
});

test('strictly: nothing passes a message that fails, until it is a dead letter', async () => {
  const seen: string[] = [];
  const { push, scheduler, settler } = setUp(
    {
      each: ({ id, attempt }) => {
        seen.push(`${id}#${attempt}`);
        if (id === '1') throw new Error('never');
      },
    },
    { ordered: 'strict', maxInFlight: 3 },
  );
  push('1');
  push('2');
  push('3');
  await scheduler.advance(300);
  assert.deepEqual(seen, ['1#1', '1#2', '1#3', '2#1', '3#1']);
  assert.deepEqual(settler.log, [
    'recount 1',
    'recount 1',
    'dead(t.dead, never) 1',
    'ack 2',
    'ack 3',
  ]);
});

test('in manual mode a key is busy until its message is settled, not only until the handler returns', async () => {
  const deliveries: Delivery[] = [];
  const { push, scheduler } = setUp(
    {
      each: (delivery) => {
        deliveries.push(delivery);
      },
    },
    { ack: 'manual', ordered: 'key', concurrency: 2, maxInFlight: 4 },
  );
  push('1', 'k');
  push('2', 'k');
  await scheduler.settle();
  assert.equal(deliveries.length, 1);
  await deliveries[0]?.ack();
  assert.equal(deliveries.length, 2);
});

test('settling twice is ALREADY_SETTLED, settling after the deadline DELIVERY_LOST', async () => {
  const kept: Delivery[] = [];
  const { push, settler, scheduler, dispatcher } = setUp(
    {
      each: (delivery) => {
        kept.push(delivery);
      },
    },
    { ack: 'manual', ackWaitMs: 1000 },
  );
  push('1');
  push('2');
  await scheduler.settle();
  const [first, second] = kept as [Delivery, Delivery];
  const { signal } = second;
  await first.ack();
  await assert.rejects(first.ack(), { code: 'ALREADY_SETTLED' });
  await assert.rejects(first.nack(), { code: 'ALREADY_SETTLED' });
  assert.equal(dispatcher.inFlight, 1);
  await scheduler.advance(1000);
  assert.equal(signal.aborted, true);
  assert.equal(dispatcher.inFlight, 0);
  await assert.rejects(second.ack(), { code: 'DELIVERY_LOST' });
  assert.deepEqual(settler.log, ['ack 1', 'nack+0 2'], 'the broker hears of the missed deadline');
});

test('extend moves the deadline, and only the handler does so once it has the message', async () => {
  const kept: Delivery[] = [];
  const { push, settler, scheduler } = setUp(
    {
      each: (delivery) => {
        kept.push(delivery);
      },
    },
    { ack: 'manual', ackWaitMs: 1000 },
  );
  push('1');
  await scheduler.advance(900);
  await kept[0]?.extend(5000);
  await scheduler.advance(4900);
  await kept[0]?.ack();
  assert.deepEqual(settler.log, ['extend+5000 1', 'ack 1']);
});

test('what waits for its turn is extended, and has its whole time when the handler gets it', async () => {
  const { each, calls } = gate();
  const { push, settler, scheduler } = setUp({ each }, { ackWaitMs: 1000 });
  push('1');
  push('2');
  await calls.get('1#1')?.delivery.extend(10_000);
  await scheduler.advance(3000);
  assert.ok(settler.log.filter((line) => line === 'extend+1000 2').length >= 3);
  calls.get('1#1')?.end();
  await scheduler.settle();
  await scheduler.advance(990);
  calls.get('2#1')?.end();
  await scheduler.settle();
  assert.equal(settler.log.at(-1), 'ack 2');
});

test('what was lost while it waited is not handed over', async () => {
  const { each, running, calls } = gate();
  const { push, settler, scheduler, dispatcher } = setUp({ each }, { ackWaitMs: 1000 });
  push('1');
  push('2');
  settler.lost.add('2');
  await scheduler.advance(600);
  calls.get('1#1')?.end();
  await scheduler.settle();
  assert.deepEqual(running(), ['1#1']);
  assert.equal(dispatcher.inFlight, 0);
});

test('a stuck handler keeps its concurrency but frees its place in flight', async () => {
  const { each, running } = gate();
  const { push, dispatcher, scheduler } = setUp({ each }, { ackWaitMs: 1000, concurrency: 2 });
  push('1');
  await scheduler.advance(1000);
  assert.equal(dispatcher.inFlight, 0);
  push('1', undefined, 2);
  push('2');
  assert.deepEqual(running(), ['1#1', '1#2']);
});

test('when every handler is stuck nothing more is taken, and what waits is given back', async () => {
  const { each, calls } = gate();
  const { push, dispatcher, scheduler, settler } = setUp({ each }, { ackWaitMs: 1000 });
  push('1');
  push('2');
  await scheduler.advance(1000);
  assert.deepEqual([dispatcher.stuck, dispatcher.free, dispatcher.inFlight], [true, 0, 0]);
  assert.equal(settler.log.at(-1), 'release 2');
  calls.get('1#1')?.end();
  await scheduler.settle();
  assert.deepEqual([dispatcher.stuck, dispatcher.free], [false, 2]);
});

test('batches: what is pushed in one go comes together; a failed batch is given back', async () => {
  const batches: string[][] = [];
  const { push, settler, scheduler } = setUp(
    {
      batch: (deliveries) => {
        batches.push(deliveries.map(({ id }) => id));
        if (deliveries.some(({ id }) => id === '4')) throw new Error('no');
      },
    },
    { batch: { size: 3, waitMs: 50 } },
  );
  for (const id of ['1', '2', '3', '4']) push(id);
  await scheduler.settle();
  assert.deepEqual(batches, [['1', '2', '3']]);
  await scheduler.advance(50);
  assert.deepEqual(batches, [['1', '2', '3'], ['4']]);
  assert.deepEqual(settler.log, ['ack 1', 'ack 2', 'ack 3', 'nack+100 4']);
});

test('a batch in order that fails comes again as it was, before what follows', async () => {
  const batches: string[] = [];
  let failures = 1;
  const { push, scheduler, settler } = setUp(
    {
      batch: (deliveries) => {
        batches.push(deliveries.map(({ id, attempt }) => `${id}#${attempt}`).join(' '));
        if (failures-- > 0) throw new Error('once');
      },
    },
    { ordered: 'strict', batch: { size: 2, waitMs: 0 }, maxInFlight: 10 },
  );
  for (const id of ['1', '2', '3']) push(id);
  await scheduler.advance(200);
  assert.deepEqual(batches, ['1#1 2#1', '1#2 2#2', '3#1']);
  assert.deepEqual(settler.log, ['recount 1', 'recount 2', 'ack 1', 'ack 2', 'ack 3']);
});

test('a message addressed to another group is acknowledged unseen', async () => {
  const { each, running } = gate();
  const { push, settler, scheduler } = setUp({ each });
  push('1', undefined, 1, { [ONLY_GROUP]: 'other' });
  push('2', undefined, 1, { [ONLY_GROUP]: 'g' });
  await scheduler.settle();
  assert.deepEqual(settler.log, ['ack 1']);
  assert.deepEqual(running(), ['2#1']);
});

test('close gives back what waits, lets handlers finish, and leaves no timer', async () => {
  const { each, calls } = gate();
  const { push, settler, scheduler, dispatcher } = setUp({ each });
  push('1');
  push('2');
  let closed = false;
  const closing = dispatcher.close(10_000).then(() => {
    closed = true;
  });
  await scheduler.settle();
  assert.deepEqual(settler.log, ['release 2']);
  assert.equal(closed, false);
  calls.get('1#1')?.end();
  await closing;
  assert.deepEqual(settler.log, ['release 2', 'ack 1']);
  assert.equal(scheduler.pendingTimers, 0);
  push('3');
  await scheduler.settle();
  assert.equal(settler.log.at(-1), 'release 3');
});

test('close does not wait for ever for a handler that never returns, and aborts its signal', async () => {
  const { each, calls } = gate();
  const { push, scheduler, dispatcher } = setUp({ each });
  push('1');
  const signal = calls.get('1#1')?.delivery.signal;
  const closing = dispatcher.close(500);
  await scheduler.advance(1000);
  await closing;
  assert.equal(signal?.aborted, true);
  assert.equal(scheduler.pendingTimers, 0);
});

test('a subscription that has just begun takes no more than its handlers do', async () => {
  const { each, calls } = gate();
  const { push, dispatcher, scheduler } = setUp(
    { each },
    { concurrency: 2, maxInFlight: 20 },
    'when trusted',
  );
  assert.deepEqual([dispatcher.free, dispatcher.idle], [2, 2]);
  push('1');
  assert.deepEqual([dispatcher.free, dispatcher.idle], [1, 1]);
  calls.get('1#1')?.end();
  await scheduler.settle();
  for (let i = 2; i <= 50; i++) {
    push(`${i}`);
    calls.get(`${i}#1`)?.end();
    await scheduler.settle();
  }
  assert.deepEqual([dispatcher.free, dispatcher.idle], [20, 2]);
});

const AHEAD = { counted: false };

test('a hand-over after a pause is counted before its handler is called, those right behind it are not', async () => {
  const settler = new NowRecorder();
  const { push, scheduler } = setUp(
    { each: ({ id }) => void settler.log.push(`handler ${id}`) },
    { maxInFlight: 10 },
    'always',
    settler,
  );
  for (const id of ['1', '2', '3']) push(id, undefined, 1, {}, AHEAD);
  assert.deepEqual(settler.log, ['now 1', 'handler 1', 'handler 2', 'handler 3']);
  await scheduler.advance(1);
  settler.log.length = 0;
  push('4', undefined, 1, {}, AHEAD);
  assert.deepEqual(settler.log, ['now 4', 'handler 4']);
});

test('beside running handlers one hand-over in a millisecond is counted, however fast they follow', async () => {
  const settler = new NowRecorder();
  const { each } = gate();
  const { push, scheduler } = setUp(
    { each },
    { concurrency: 100, maxInFlight: 100 },
    'always',
    settler,
  );
  for (let at = 0; at < 12; at++) {
    push(`${at}`, undefined, 1, {}, AHEAD);
    await scheduler.advance(0.25);
  }
  assert.deepEqual(settler.log, ['now 0', 'now 4', 'now 8']);
});

test('the messages of a batch are counted together', async () => {
  const settler = new NowRecorder();
  const { push, scheduler } = setUp(
    { batch: () => void settler.log.push('handler') },
    { batch: { size: 3, waitMs: 0 }, maxInFlight: 10 },
    'always',
    settler,
  );
  for (const id of ['1', '2', '3']) push(id, undefined, 1, {}, AHEAD);
  await scheduler.settle();
  assert.deepEqual(settler.log.slice(0, 2), ['now 1+2+3', 'handler']);
});

test('a suspect is counted first and handed over alone; what waits behind it waits', async () => {
  const { each, calls, running } = gate();
  const { push, dispatcher, scheduler, settler } = setUp(
    { each },
    { concurrency: 3, maxInFlight: 20 },
  );
  push('good');
  push('poison', undefined, 2, {}, { suspect: true });
  push('next');
  await scheduler.settle();
  assert.deepEqual([running(), settler.log, dispatcher.free], [['good#1'], [], 0]);
  calls.get('good#1')?.end();
  await scheduler.settle();
  assert.deepEqual(running(), ['good#1', 'poison#2']);
  assert.deepEqual(settler.log.toSorted(), ['ack good', 'recount poison']);
  calls.get('poison#2')?.end();
  await scheduler.settle();
  assert.deepEqual(running(), ['good#1', 'poison#2', 'next#1']);
  assert.ok(dispatcher.free > 0);
});

test('a suspect waits until what was handled before it is acknowledged, and nothing runs before it is', async () => {
  class Slow extends NowRecorder {
    answer = () => {};
    override ackMany(raws: readonly RawDelivery[]): Promise<void> {
      return new Promise((resolve) => {
        this.answer = () => resolve(super.ackMany(raws));
      });
    }
  }
  const settler = new Slow();
  const calls: string[] = [];
  const each = ({ id }: Delivery) => void calls.push(id);
  const { push, scheduler } = setUp({ each }, { concurrency: 3 }, 'always', settler);
  push('before');
  await scheduler.settle();
  push('suspect', undefined, 2, {}, { counted: false, suspect: true });
  push('behind');
  await scheduler.settle();
  assert.deepEqual(calls, ['before'], 'the suspect may end the process');
  settler.answer();
  await scheduler.settle();
  assert.deepEqual(calls, ['before', 'suspect'], 'what is behind may end it too');
  settler.answer();
  await scheduler.settle();
  assert.deepEqual(calls, ['before', 'suspect', 'behind']);
});

test('a suspect that cannot be counted is not handed over', async () => {
  const { each, running } = gate();
  const { push, dispatcher, scheduler, settler } = setUp({ each });
  settler.lost.add('poison');
  push('poison', undefined, 2, {}, { suspect: true });
  push('next');
  await scheduler.settle();
  assert.deepEqual(running(), ['next#1']);
  assert.equal(dispatcher.inFlight, 1);
});

test('in batches a suspect is a batch by itself', async () => {
  const sizes: string[][] = [];
  const { push, scheduler } = setUp(
    { batch: (deliveries) => sizes.push(deliveries.map(({ id }) => id)) },
    { batch: { size: 10, waitMs: 0 }, maxInFlight: 20 },
  );
  push('a');
  push('b');
  push('poison', undefined, 2, {}, { suspect: true });
  push('c');
  await scheduler.settle();
  assert.deepEqual(sizes, [['a', 'b'], ['poison'], ['c']]);
});

test('a missed deadline counts: used up, it is a dead letter, and its key waits for the handler', async () => {
  const { each, calls, running } = gate();
  const { push, scheduler, settler } = setUp(
    { each },
    { ordered: 'key', concurrency: 2, maxInFlight: 6, ackWaitMs: 1000 },
  );
  push('slow', 'k');
  push('next', 'k');
  push('other', 'j');
  await scheduler.settle();
  calls.get('other#1')?.end();
  for (const attempt of [1, 2, 3]) {
    await scheduler.advance(1100);
    assert.ok(!running().includes('next#1'), 'nothing passes it');
    calls.get(`slow#${attempt}`)?.end();
    await scheduler.settle();
  }
  assert.deepEqual(
    running().filter((each) => !each.startsWith('other')),
    ['slow#1', 'slow#2', 'slow#3', 'next#1'],
  );
  assert.ok(settler.log.some((each) => each.startsWith('dead(t.dead, attempt 3 was not settled')));
});

test('what was lost in its handler is never handed over with a lower attempt', async () => {
  const { each, running } = gate();
  const { push, dispatcher, settler } = setUp({ each }, { concurrency: 3, maxInFlight: 9 });
  push('a');
  dispatcher.revoke('t', 'a', 'its connection was lost');
  push('a');
  await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(running(), ['a#1', 'a#2']);
  assert.deepEqual(settler.log, ['recount a']);
});

test('a settlement that fails and is not awaited is a warning, not an unhandled rejection', async () => {
  const { push, settler, events, scheduler } = setUp({
    each: (delivery) => {
      void delivery.ack();
    },
  });
  const warnings: string[] = [];
  events.on('warning', ({ error }) => warnings.push((error as RivuletError).code));
  settler.lost.add('a');
  push('a');
  await scheduler.settle();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, ['DELIVERY_LOST']);
});

test('an extension that the broker refuses is refused, and the message is lost', async () => {
  const outcomes: string[] = [];
  const { push, settler, scheduler, dispatcher } = setUp(
    {
      each: async (delivery) => {
        await delivery.extend(5000).catch(({ code }) => outcomes.push(code));
        outcomes.push(String(delivery.signal.aborted));
      },
    },
    { ack: 'manual' },
  );
  settler.lost.add('a');
  push('a');
  await scheduler.settle();
  assert.deepEqual(outcomes, ['DELIVERY_LOST', 'true']);
  assert.equal(dispatcher.inFlight, 0);
});

/** A loop on a dispatcher, without a broker around it. */
function setUpLoop(options: AnySubscribeOptions = {}) {
  const feed = new LoopFeed<Delivery>(options.ack === 'manual');
  const each = (delivery: Delivery) => feed.offer(delivery);
  return { feed, ...setUp({ each, demand: feed }, options) };
}

test('a loop: nothing is handed over at once until it asks, and then one', async () => {
  const { feed, dispatcher, push } = setUpLoop({ maxInFlight: 10 });
  assert.equal(dispatcher.free, 0, 'nothing is fetched for a loop that has not begun');
  assert.equal(dispatcher.idle, 0, 'and nothing would be handed over');
  const first = feed.take();
  assert.equal(dispatcher.idle, 1);
  assert.equal(dispatcher.free, 10);
  push('1');
  push('2');
  assert.equal(dispatcher.idle, 0);
  assert.equal((await first)?.item.id, '1');
});

test('a loop: a message that is lost while it is counted does not take the place of the next', async () => {
  const { feed, settler, push } = setUpLoop({ maxInFlight: 10, concurrency: 2 });
  const taken = feed.take();
  settler.lost.add('gone');
  push('gone', undefined, 2, {}, { suspect: true, counted: false });
  await new Promise((resolve) => setImmediate(resolve));
  push('next');
  assert.equal((await taken)?.item.id, 'next');
});

test('a loop: what is counted when the loop ends is given back, and not acknowledged', async () => {
  const { feed, settler, dispatcher, push } = setUpLoop({ maxInFlight: 10 });
  const taken = feed.take();
  push('late', undefined, 2, {}, { suspect: true, counted: false });
  feed.end();
  assert.equal(await taken, null);
  await dispatcher.close(1000);
  assert.ok(!settler.log.some((line) => line.startsWith('ack')), settler.log.join(', '));
  assert.ok(
    settler.log.some((line) => /^(nack\+0|release) late$/.test(line)),
    settler.log.join(', '),
  );
});
