/** Arguments: taken as they are at the call, or refused there with the reason. */
import assert from 'node:assert/strict';
import type { Broker, Delivery } from '../../broker/broker.ts';
import type { Message, RawMessage } from '../../broker/message/message.ts';
import type { AnySubscribeOptions, SubscribeOptions } from '../../broker/options/options.ts';
import { type Case, message, need, quiet, Seen, text } from '../case-context.ts';

const INVALID = { code: 'INVALID_ARGUMENT' };
/** Values that no numeric option accepts. */
const NO_NUMBERS: readonly unknown[] = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -1,
  2 ** 53,
  '5',
  null,
  true,
  {},
  [],
  5n,
  Symbol('five'),
  () => 5,
];

async function refuses(what: string, call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    assert.equal(code, 'INVALID_ARGUMENT', `${what}: ${message}`);
    return message;
  }
  throw new Error(`${what} was not refused`);
}

export const args: readonly Case[] = [
  {
    name: 'numbers out of range, fractions of counts, and other types are refused at every call',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const subscribe = (options: object) => broker.subscribe(topic, () => {}, options);
      const publish = (options: object) => broker.publish(topic, message('x'), options);
      const counts = ['concurrency', 'maxInFlight'];
      for (const name of [...counts, 'ackWaitMs']) {
        for (const value of [...NO_NUMBERS, 0]) {
          await refuses(name, () => subscribe({ [name]: value }));
        }
      }
      for (const name of counts) await refuses(name, () => subscribe({ [name]: 2.5 }));
      for (const value of [...NO_NUMBERS, 0, 1.5]) {
        await refuses('attempts', () => subscribe({ retry: { attempts: value } }));
        await refuses('batch.size', () => subscribe({ batch: { size: value, waitMs: 1 } }));
      }
      for (const value of NO_NUMBERS) {
        await refuses('batch.waitMs', () => subscribe({ batch: { size: 1, waitMs: value } }));
        for (const name of ['minMs', 'maxMs', 'factor']) {
          const backoff = { [name]: value };
          await refuses(name, () => subscribe({ retry: { attempts: 2, backoff } }));
        }
        await refuses('delayMs', () => publish({ delayMs: value }));
        await refuses('maxLength', () => publish({ maxLength: value }));
        await refuses('timeoutMs', () =>
          broker.request(topic, message('x'), { timeoutMs: value as number }).catch((error) => {
            // A broker without requests rejects with UNSUPPORTED before it checks the options.
            if (error.code === 'UNSUPPORTED') error.code = 'INVALID_ARGUMENT';
            throw error;
          }),
        );
      }
      await refuses('maxLength', () => publish({ maxLength: 0.5 }));
      await refuses('backoff', () =>
        subscribe({ retry: { attempts: 2, backoff: { minMs: 50, maxMs: 10 } } }),
      );
    },
  },
  {
    name: 'a misspelt option is refused with the nearest right name',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const subscribe = (options: object) => broker.subscribe(topic, () => {}, options);
      const publish = (options: object) => broker.publish(topic, message('x'), options);
      const cases: [string, () => Promise<unknown>][] = [
        ['concurrency', () => subscribe({ concurency: 2 })],
        ['retry.attempts', () => subscribe({ retry: { attemps: 2 } })],
        [
          'retry.backoff.factor',
          () => subscribe({ retry: { attempts: 2, backoff: { facter: 2 } } }),
        ],
        ['ackWaitMs', () => subscribe({ ackwaitMs: 1000 })],
        ['delayMs', () => publish({ delayMS: 5 })],
        ['maxLength', () => publish({ maxLenght: 5 })],
        ['publishTimeoutMs', () => context.open({ publishTimoutMs: 5 } as object)],
      ];
      for (const [right, call] of cases) {
        const text = await refuses(right, call);
        assert.ok(text.includes(`did you mean ${right}?`), text);
      }
    },
  },
  {
    name: 'options, handlers, messages and batches of a wrong kind are refused',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const wrong = [null, 5, 'text', [], () => {}, true];
      for (const value of wrong) {
        const options = value as SubscribeOptions;
        await refuses('subscribe options', () => broker.subscribe(topic, () => {}, options));
        await refuses('publish options', () => broker.publish(topic, message('x'), options));
      }
      for (const value of [null, undefined, {}, 'handler', []]) {
        await refuses('handler', () => broker.subscribe(topic, value as never, {}));
        await refuses('batch handler', () => {
          return broker.subscribe(topic, value as never, { batch: {} });
        });
      }
      for (const value of [null, 'handler', [], 5]) {
        await refuses('neither handler nor options', () => broker.subscribe(topic, value as never));
      }
      const bad: unknown[] = [
        null,
        undefined,
        'text',
        {},
        { body: 5 },
        { body: ['text'] },
        { body: '\ud800' },
        { headers: null, body: new Uint8Array() },
        { headers: [], body: new Uint8Array() },
        { headers: { a: 1 }, body: new Uint8Array() },
        { headers: JSON.parse('{"__proto__":"x"}'), body: new Uint8Array() },
        { headers: { half: '\ud800' }, body: new Uint8Array() },
        { headers: {}, body: new Uint8Array(), key: 5 },
        { headers: {}, body: new Uint8Array(), key: null },
        { headers: {}, body: new Uint8Array(), key: '\udc00' },
      ];
      for (const each of bad) {
        await refuses('message', () => broker.publish(topic, each as Message));
        await refuses('batch', () => broker.publishBatch(topic, [message('x'), each as Message]));
      }
      await refuses('batch', () => broker.publishBatch(topic, message('x') as never));
      await assert.rejects(
        broker.subscribe(topic, () => {}, { ack: 'maybe' as never }),
        INVALID,
      );
      await assert.rejects(
        broker.subscribe(topic, () => {}, { from: { time: new Date('never') } }),
        INVALID,
      );
    },
  },
  {
    name: 'what cannot be an id is refused in the same way wherever an id is given',
    needs: need('pendingList', 'replayById'),
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      await broker.subscribe(topic, () => {}, { group: 'g' });
      if (broker.name === 'rabbitmq') {
        // Its messages have the ids that their publishers choose: any text may be one.
        assert.deepEqual(await broker.pending(topic, 'g', { after: 'x y' }), []);
        return;
      }
      const refused = { code: 'INVALID_ARGUMENT' };
      for (const id of ['', ' ', 'x y', '1-1-1', '-1', '1.5', '0x10', '9'.repeat(40)]) {
        await assert.rejects(broker.pending(topic, 'g', { after: id }), refused, `after: ${id}`);
        await assert.rejects(broker.replay(topic, 'g', { id }), refused, `replay: ${id}`);
        const from = broker.subscribe(topic, () => {}, { group: 'h', from: { id } });
        await assert.rejects(from, refused, `from: ${id}`);
      }
    },
  },
  {
    name: 'a message without headers has none',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<RawMessage>();
      await broker.subscribe(topic, (each) => seen.add(each.message), { group: 'g' });
      await broker.publish(topic, { body: Buffer.from('x') });
      const [got] = await seen.count(1);
      assert.deepEqual([{ ...got?.headers }, text(got as RawMessage)], [{}, 'x']);
    },
  },
  {
    name: 'the broker stores the bytes and headers of the call, whatever the caller writes into them later',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const seen = new Seen<RawMessage>();
      await broker.subscribe(topic, (each) => seen.add(each.message), { group: 'g' });
      const small = {
        headers: { a: 'before' } as Record<string, string>,
        body: Buffer.from('small'),
      };
      const large = { headers: {}, body: Buffer.alloc(200_000, 'L') };
      const batch = [Buffer.from('one'), Buffer.from('two')];
      const publishes = [
        broker.publish(topic, small),
        broker.publish(topic, large),
        broker.publishBatch(
          topic,
          batch.map((body) => ({ headers: {}, body })),
        ),
      ];
      small.body.fill(0);
      small.headers.a = 'after';
      large.body.fill(0);
      for (const body of batch) body.fill(0);
      await Promise.all(publishes);
      const texts = [...(await seen.count(4))].map((each) => text(each).slice(0, 5));
      assert.deepEqual(texts.sort(), ['LLLLL', 'one', 'small', 'two']);
      assert.equal(seen.items.find((each) => text(each) === 'small')?.headers.a, 'before');
    },
  },
  {
    name: 'a publish that waits through an outage stores the bytes of the call',
    uses: ['behindProxy'],
    alone: true,
    async run(context) {
      const behind = await context.fixture.behindProxy?.();
      if (behind === undefined) throw new Error('checked by uses');
      const { proxy } = behind;
      try {
        const topic = context.topic();
        const direct = await context.open();
        const seen = new Seen<RawMessage>();
        await direct.subscribe(topic, (each) => seen.add(each.message), { group: 'g' });
        const publisher = context.keep(await behind.open({ publishTimeoutMs: 20_000 }));
        await publisher.publish(topic, message('before'));
        proxy.mode = 'refuse';
        proxy.cut();
        const body = Buffer.from('waits');
        const published = publisher.publish(topic, { headers: {}, body });
        body.fill(0);
        await quiet(200);
        proxy.mode = 'pass';
        await published;
        assert.deepEqual([...(await seen.count(2))].map(text), ['before', 'waits']);
      } finally {
        proxy.mode = 'pass';
        await context.end();
        await proxy[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: 'a settlement that is not awaited and fails is a warning, and the process goes on',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const warnings = new Seen<string>();
      broker.on('warning', ({ error }) => warnings.add((error as { code?: string }).code ?? ''));
      const unhandled = new Seen<unknown>();
      const note = (error: unknown) => unhandled.add(error);
      process.on('unhandledRejection', note);
      try {
        await broker.subscribe(
          topic,
          (delivery: Delivery) => {
            void delivery.ack();
            void delivery.ack();
            void delivery.nack({ delayMs: -1 });
            void delivery.extend(Number.NaN);
          },
          { group: 'g', ack: 'manual' },
        );
        await broker.publish(topic, message('x'));
        await warnings.count(3);
        await quiet(50);
        assert.deepEqual(unhandled.items, []);
        assert.deepEqual([...warnings.items].sort(), [
          'ALREADY_SETTLED',
          'INVALID_ARGUMENT',
          'INVALID_ARGUMENT',
        ]);
      } finally {
        process.off('unhandledRejection', note);
      }
    },
  },
  {
    name: 'options at their limits give a subscriber that works',
    async run(context) {
      const broker = await context.open();
      const limits: AnySubscribeOptions[] = [
        { concurrency: 1, maxInFlight: 1 },
        { concurrency: 1000, maxInFlight: 1 },
        { ackWaitMs: 2 ** 31 - 1 },
        { retry: { attempts: 2 ** 31 - 1 } },
        { retry: { attempts: 1, backoff: { minMs: 0, maxMs: 0, factor: 1, jitter: false } } },
        { retry: { attempts: 2, backoff: { minMs: 0.5, maxMs: 1.5, factor: 1.01 } } },
        { batch: { size: 1, waitMs: 0 } },
        { batch: {} },
        { batch: {}, maxInFlight: 5 },
        { deadLetter: false },
      ];
      for (const options of limits) {
        await works(broker, context.topic(), options);
        await works(broker, context.topic(), options, 'in a loop');
      }
    },
  },
  {
    name: 'any option values give a subscriber that works, or INVALID_ARGUMENT',
    needs: need('maxInFlight'),
    timeoutMs: 90_000,
    async run(context) {
      const broker = await context.open();
      const { seed } = context;
      const random = sequence(seed);
      const values = [...NO_NUMBERS, 0, 1, 2, 3, 1.5, 10, 2 ** 31, -0, '', 'g', undefined, false];
      const pick = () => values[random(values.length)];
      const names = [
        'concurrency',
        'maxInFlight',
        'ackWaitMs',
        'deadLetter',
        'group',
        'ack',
        'ordered',
        'from',
        'signal',
        'batch',
      ];
      for (let round = 0; round < 60; round++) {
        const options: Record<string, unknown> = { ackWaitMs: 5000 };
        for (let n = random(3); n >= 0; n--)
          options[names[random(names.length)] as string] = pick();
        if (random(3) === 0) options.retry = { attempts: pick(), backoff: { minMs: pick() } };
        if (random(4) === 0) options.batch = { size: pick(), waitMs: pick() };
        const shown = `seed ${seed}, round ${round}: ${Object.keys(options)}`;
        try {
          const form = random(2) === 0 ? 'by a handler' : 'in a loop';
          await works(broker, context.topic(), options as AnySubscribeOptions, form);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'INVALID_ARGUMENT', `${shown}: ${error}`);
        }
      }
    },
  },
];

async function works(
  broker: Broker,
  topic: string,
  options: AnySubscribeOptions,
  form: 'by a handler' | 'in a loop' = 'by a handler',
): Promise<void> {
  const seen = new Seen<string>();
  const take = (item: Delivery | readonly Delivery[]) => {
    for (const delivery of Array.isArray(item) ? item : [item]) seen.add(delivery.text());
  };
  const subscriber = await (form === 'in a loop'
    ? broker.subscribe(topic, options as SubscribeOptions)
    : broker.subscribe(topic, take, options as SubscribeOptions));
  if (Symbol.asyncIterator in subscriber) {
    void (async () => {
      for await (const item of subscriber as AsyncIterable<Delivery>) take(item);
    })();
  }
  await broker.publish(topic, message('1'));
  await broker.publish(topic, message('2'));
  await seen.count(2);
  await subscriber.unsubscribe();
}

/** A small generator of numbers below a bound: mulberry32. */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
