/** What other programs, other clients, clocks and limits do to the nats adapter, on a real server. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, headers, type NatsConnection } from '@nats-io/transport-node';
import type { BrokerEvents, Delivery } from '../../../src/broker/broker.ts';
import { deadLetterHeaders } from '../../../src/broker/message/message.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import {
  collect,
  eventually,
  message,
  numbers,
  publishAll,
  quiet,
  Seen,
  text,
} from '../../../src/conformance/case-context.ts';
import { FaultyProxy } from '../../../src/conformance/index.ts';
import { systemScheduler } from '../../../src/util/time/system-scheduler.ts';
import { makeCertificates, missingOpenssl } from '../../helpers/certificates.ts';
import { type NatsNode, startNats } from '../../helpers/nats-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';

const MAX_PAYLOAD = 16 * 1024 * 1024;
const EARLIEST = { group: 'g', from: 'earliest' } as const;

describe('the nats adapter among others', { skip: missing('nats-server') }, () => {
  let server: Awaited<ReturnType<typeof startNats>>;
  let node: NatsNode;
  let url: string;
  let connection: NatsConnection;

  before(async () => {
    server = await startNats();
    node = server.nodes[0] as NatsNode;
    url = node.url;
    connection = await connect({ servers: `127.0.0.1:${node.port}` });
  });
  after(async () => {
    await connection?.close();
    await server?.[Symbol.asyncDispose]();
  });

  test('after a replay the hand-overs before it count no more', async () => {
    await using broker = await openBroker(url);
    const topic = 'replayed.attempts';
    const options = {
      group: 'g',
      from: 'earliest',
      ackWaitMs: 400,
      retry: { attempts: 2 },
    } as const;
    const before = new Seen<number>();
    const first = await broker.subscribe(topic, (each) => before.add(each.attempt), options);
    await broker.publish(topic, message('x'));
    await before.count(1);
    await first.unsubscribe();
    await broker.replay(topic, 'g', 'earliest');
    // Another consumer fetches it and ends without a handler.
    const manager = await jetstreamManager(connection);
    const stream = await manager.streams.find(topic);
    const [info] = await manager.consumers.list(stream).next();
    const consumer = await jetstream(connection).consumers.get(stream, info?.name);
    assert.ok(await consumer.next({ expires: 5000 }));
    const seen = new Seen<number>();
    await broker.subscribe(topic, (each) => seen.add(each.attempt), options);
    await seen.count(1);
    assert.deepEqual(seen.items, [1]);
  });

  test('hand-overs of messages that were acknowledged, or are dead letters, leave no record', async () => {
    await using broker = await openBroker(url);
    const seen = new Seen<string>();
    const handle = (delivery: Delivery) => {
      seen.add(text(delivery));
      if (text(delivery) === '30') throw new Error('is thrown');
    };
    const options = { from: 'earliest', retry: { attempts: 1 }, ackWaitMs: 500 } as const;
    await broker.subscribe('cleared', handle, { ...options, group: 'g' });
    await broker.subscribe('cleared', handle, { ...options, group: 'ordered', ordered: 'key' });
    await publishAll(broker, 'cleared', numbers(0, 60));
    await seen.count(120);
    const { streams } = await jetstreamManager(connection);
    const left = async () => {
      const { state } = await streams.info('RIVULET-ATTEMPTS', {
        subjects_filter: '_rivulet.attempts.cleared.>',
      });
      return Object.keys(state.subjects ?? {}).length;
    };
    await eventually('no record is left', async () => (await left()) === 0);
  });

  test('a replay that the server refuses to prepare leaves the group as it was', async () => {
    const denied = '$JS.API.STREAM.PURGE.>';
    await using guarded = await startNats(1, [
      `authorization { users = [{ user: ann, password: secret, permissions: { publish: { deny: ["${denied}"] } } }] }`,
    ]);
    const [only] = guarded.nodes as [NatsNode];
    await using broker = await openBroker(`nats://ann:secret@127.0.0.1:${only.port}`);
    const seen = new Seen<string>();
    const note = (delivery: Delivery) => seen.add(text(delivery));
    const first = await broker.subscribe('guarded', note, EARLIEST);
    await publishAll(broker, 'guarded', ['a', 'b']);
    await seen.count(2);
    await first.unsubscribe();
    await assert.rejects(broker.replay('guarded', 'g', 'earliest'), { code: 'PERMISSION_DENIED' });
    await publishAll(broker, 'guarded', ['c']);
    await broker.subscribe('guarded', note, { group: 'g', from: 'new' });
    await seen.count(3);
    assert.deepEqual(seen.items, ['a', 'b', 'c']);
  });

  test('a broker whose streams forget ids before it stops trying does not claim that it stores once', async () => {
    await using short = await openBroker(url, { dedupWindowMs: 9_999 });
    assert.equal(short.capabilities.retriedPublish, 'at-least-once');
    await using long = await openBroker(url, { dedupWindowMs: 10_000 });
    assert.equal(long.capabilities.retriedPublish, 'once');
    await using patient = await openBroker(url, { publishTimeoutMs: 600_000 });
    assert.equal(patient.capabilities.retriedPublish, 'at-least-once');
  });

  test('a batch with a message that is too large stores nothing, also when the connection is cut meanwhile', async () => {
    await using small = await startNats(1, ['max_payload: 1048576']);
    const [only] = small.nodes as [NatsNode];
    await using proxy = await FaultyProxy.start(only.port);
    await using broker = await openBroker(`nats://127.0.0.1:${proxy.port}`);
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    try {
      const seen = new Seen<string>();
      await broker.subscribe('batch', (delivery) => seen.add(text(delivery)), EARLIEST);
      await broker.publish('batch', message('first'));
      // A delivery that the cut loses comes again after 30 s.
      await seen.count(1);
      const body = Buffer.alloc(broker.capabilities.maxBodyBytes - 10);
      const large = { body, headers: { x: 'x'.repeat(60_000) } };
      proxy.latencyMs = 200;
      const refused = broker.publishBatch('batch', [message('before'), large, message('after')]);
      await assert.rejects(refused, { code: 'BODY_TOO_LARGE' });
      proxy.cut();
      proxy.latencyMs = 0;
      await broker.publish('batch', message('last'));
      await seen.count(2);
      assert.deepEqual(seen.items, ['first', 'last']);
      assert.deepEqual(unhandled, []);
    } finally {
      process.off('unhandledRejection', note);
    }
  });

  test('headers of ours that another program has written wrongly are handed over as they are', async () => {
    await using broker = await openBroker(url);
    const topic = 'foreign.headers';
    const disconnected: unknown[] = [];
    broker.on('disconnected', (detail) => disconnected.push(detail));
    const seen = new Seen<Delivery['message']>();
    await broker.subscribe(topic, (delivery) => seen.add(delivery.message), EARLIEST);
    const values = ['{broken', '[1]', '{"a":1}', 'null', '7'];
    for (const value of values) {
      const written = headers();
      written.append('Rivulet-Headers', value);
      written.append('Rivulet-Key', '{"no":"text"}');
      written.append('plain', 'x');
      await jetstream(connection).publish(topic, value, { headers: written });
    }
    await broker.publish(topic, message('ours', 'k', { ü: 'ä' }));
    const all = await seen.count(values.length + 1);
    values.forEach((value, index) => {
      const { key, headers: got } = all[index] as Delivery['message'];
      assert.equal(key, undefined);
      assert.deepEqual(
        got,
        { 'Rivulet-Headers': value, 'Rivulet-Key': '{"no":"text"}', plain: 'x' },
        value,
      );
    });
    assert.deepEqual([all.at(-1)?.key, all.at(-1)?.headers], ['k', { ü: 'ä' }]);
    assert.deepEqual(disconnected, []);
  });

  test("payloads that are nearly go-micro's are handed over as they are", async () => {
    await using broker = await openBroker(url, { goMicro: true });
    const { seen } = await collect(broker, 'foreign.micro', EARLIEST);
    const payloads = [
      '{"Header":"x","Body":""}',
      '{"Header":{"a":1},"Body":"eA=="}',
      'null',
      '{"Body":7}',
    ];
    for (const each of payloads) await jetstream(connection).publish('foreign.micro', each);
    assert.deepEqual([...(await seen.count(payloads.length))], payloads);
  });

  test('a header called __proto__ arrives from another program, and is refused from a caller', async () => {
    await using broker = await openBroker(url);
    const seen = new Seen<string[][]>();
    await broker.subscribe(
      'proto',
      ({ message }) => seen.add(Object.entries(message.headers)),
      EARLIEST,
    );
    const written = headers();
    written.append('__proto__', 'plain');
    written.append('other', 'too');
    await jetstream(connection).publish('proto', 'x', { headers: written });
    const [got] = await seen.count(1);
    assert.deepEqual([...(got ?? [])].sort(), [
      ['__proto__', 'plain'],
      ['other', 'too'],
    ]);
    const refused = Object.fromEntries([['__proto__', 'plain']]);
    await assert.rejects(broker.publish('proto', { headers: refused, body: Buffer.from('x') }), {
      code: 'INVALID_ARGUMENT',
    });
  });

  test('what another program puts among the delayed messages becomes a dead letter and stops nothing', async () => {
    await using broker = await openBroker(url);
    const { seen } = await collect(broker, 'delayed.good', EARLIEST);
    const reasons = new Seen<string>();
    broker.on('deadLettered', ({ reason }) => reasons.add(reason));
    await broker.publish('delayed.good', message('first'), { delayMs: 50 });
    await seen.count(1);
    const js = jetstream(connection);
    await js.publish('_rivulet.delayed.x', 'no headers');
    const wrong = headers();
    wrong.append('Rivulet-Delay', 'soon');
    wrong.append('Rivulet-Due-Topic', 'delayed.good');
    await js.publish('_rivulet.delayed.delayed_good', 'wrong delay', { headers: wrong });
    const elsewhere = headers();
    elsewhere.append('Rivulet-Delay', '1');
    elsewhere.append('Rivulet-Due-Topic', 'a>b');
    await js.publish('_rivulet.delayed.y', 'wrong topic', { headers: elsewhere });
    await broker.publish('delayed.good', message('second'), { delayMs: 50 });
    await seen.count(2);
    await reasons.count(3);
    const dead = await collect(broker, 'rivulet.delayed.dead', EARLIEST);
    assert.deepEqual(
      [...(await dead.seen.count(3))].sort(),
      ['no headers', 'wrong delay', 'wrong topic'].sort(),
    );
  });

  test("a delay is by the server's clock: a client whose clock is ten minutes off changes nothing", async () => {
    for (const step of [600_000, -600_000]) {
      const scheduler = { ...systemScheduler, now: () => systemScheduler.now() + step };
      await using broker = await openBroker(url, { scheduler });
      const topic = `clock.${step > 0 ? 'ahead' : 'behind'}`;
      const { seen } = await collect(broker, topic, EARLIEST);
      const began = performance.now();
      await broker.publish(topic, message('later'), { delayMs: 800 });
      await broker.publish(topic, message('then'), { deliverAt: new Date(Date.now() + 1000) });
      await seen.count(1, 5000);
      assert.ok(performance.now() - began >= 795, 'not at once');
      assert.deepEqual([...(await seen.count(2, 5000))], ['later', 'then']);
    }
  });

  test('messages that are due at one time come in the order they were published', async () => {
    await using broker = await openBroker(url);
    const { seen } = await collect(broker, 'together', EARLIEST);
    const at = new Date(Date.now() + 700);
    for (const each of numbers(0, 40)) {
      await broker.publish('together', message(each), { deliverAt: at });
    }
    assert.deepEqual([...(await seen.count(40))], numbers(0, 40));
  });

  test('an id is remembered for as long as the client claims, whatever stream was there before', async () => {
    await using hasty = await openBroker(url, { dedupWindowMs: 1000 });
    await hasty.publish('window', message('0'), { dedupId: 'x' });
    await using broker = await openBroker(url, { dedupWindowMs: 60_000 });
    await broker.publish('window', message('1'), { dedupId: 'y' });
    await quiet(1500);
    assert.equal((await broker.publish('window', message('2'), { dedupId: 'y' })).duplicate, true);
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'SHORT', subjects: ['short.>'], duplicate_window: 1e9 });
    await assert.rejects(broker.publish('short.a', message('x'), { dedupId: 'x' }), {
      code: 'UNSUPPORTED',
      message: /1000 ms/,
    });
    await broker.publish('short.a', message('x'));
  });

  test('one id on two topics of one stream is two messages', async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'MALL', subjects: ['mall.>'] });
    await using broker = await openBroker(url);
    for (const topic of ['mall.a', 'mall.b']) {
      const { duplicate } = await broker.publish(topic, message(topic), { dedupId: 'x' });
      assert.equal(duplicate, false, topic);
    }
    const { duplicate } = await broker.publish('mall.a', message('again'), { dedupId: 'x' });
    assert.equal(duplicate, true);
    await broker.deleteTopic('mall.a');
    assert.equal((await manager.streams.info('MALL')).state.messages, 1, "the other's stays");
  });

  test('a deleted topic takes its delayed messages and their ids with it', async () => {
    await using broker = await openBroker(url);
    const { seen } = await collect(broker, 'gone.other', EARLIEST);
    await broker.publish('gone.now', message('old'), { delayMs: 600, dedupId: 'x' });
    await broker.publish('gone.other', message('kept'), { delayMs: 600, dedupId: 'x' });
    await broker.deleteTopic('gone.now');
    const again = await broker.publish('gone.now', message('new'), { delayMs: 600, dedupId: 'x' });
    assert.equal(again.duplicate, false);
    const { seen: now } = await collect(broker, 'gone.now', EARLIEST);
    await seen.count(1);
    assert.deepEqual([...(await now.count(1))], ['new']);
    await quiet(300);
    assert.deepEqual([...now.items], ['new']);
  });

  test('a topic that is deleted under a wildcard subscriber stays deleted, and is found when it is back', async () => {
    await using broker = await openBroker(url);
    await broker.publish('wild.a', message('a0'));
    await broker.publish('wild.b', message('b0'));
    const { seen } = await collect(broker, 'wild.>', { ...EARLIEST, maxInFlight: 4 });
    await seen.count(2);
    await broker.deleteTopic('wild.a');
    await quiet(2500);
    const names = [];
    for await (const { topic } of broker.topics()) names.push(topic);
    assert.equal(names.includes('wild.a'), false);
    await broker.publish('wild.b', message('b1'));
    await broker.publish('wild.a', message('a1'));
    assert.deepEqual([...(await seen.count(4))].sort(), ['a0', 'a1', 'b0', 'b1']);
  });

  test('a message deleted from the middle of its stream while it waits for its retry is reported, and the others are retried', async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'HOLES', subjects: ['holes.>'] });
    await using broker = await openBroker(url);
    // Another topic's message stays before all of them: the first sequence does not change.
    await broker.publish('holes.other', message('stays'));
    const reported = new Seen<string>();
    broker.on('warning', ({ error }) => reported.add(error.message));
    const seen = new Seen<string>();
    await broker.subscribe(
      'holes.a',
      (each) => {
        seen.add(`${text(each)} ${each.attempt}`);
        if (each.attempt === 1) throw new Error('not now');
      },
      {
        group: 'g',
        concurrency: 3,
        retry: { attempts: 3, backoff: { minMs: 6000, maxMs: 6000, jitter: false } },
      },
    );
    const receipts = await publishAll(broker, 'holes.a', ['kept', 'gone', 'kept too']);
    await seen.count(3);
    const { id } = receipts[1] as { id: string };
    await manager.streams.deleteMessage('HOLES', Number(id));
    await reported.count(1);
    await seen.count(5);
    assert.match(reported.items[0] as string, new RegExp(`message ${id} of holes\\.a`));
    assert.equal(reported.length, 1);
    assert.deepEqual(seen.items.slice(3).sort(), ['kept 2', 'kept too 2']);
  });

  test('the largest message with large headers becomes a dead letter, whole and with its origin', async () => {
    await using broker = await openBroker(url, { maxBodyBytes: 1e9 });
    const large = { 'x-large': 'x'.repeat(11 * 1024) };
    const body = new Uint8Array(broker.capabilities.maxBodyBytes).fill(7);
    await broker.subscribe('large', (delivery) => delivery.deadLetter('ä'.repeat(1000)), EARLIEST);
    const seen = new Seen<Delivery['message']>();
    await broker.subscribe('large.dead', ({ message }) => seen.add(message), EARLIEST);
    await broker.publish('large', { headers: large, body });
    const [dead] = await seen.count(1);
    assert.equal(Buffer.compare(dead?.body ?? body.subarray(1), body), 0);
    assert.equal(dead?.headers['x-large'], large['x-large']);
    assert.equal(dead?.headers[deadLetterHeaders.topic], 'large');
    const tooMany = { headers: { x: 'x'.repeat(13 * 1024) }, body };
    await assert.rejects(broker.publish('large', tooMany), { code: 'BODY_TOO_LARGE' });
  });

  test("another program's message that leaves no room becomes a dead letter without its origin, and that is said", async () => {
    await using broker = await openBroker(url);
    const warnings = new Seen<string>();
    broker.on('warning', ({ error }) => warnings.add(error.message));
    await broker.publish('full', message('makes the stream'));
    const { seen } = await collect(broker, 'full.dead', EARLIEST);
    await broker.subscribe(
      'full',
      (delivery) => (delivery.message.body.length > 100 ? delivery.deadLetter('no') : undefined),
      EARLIEST,
    );
    // Room for the id under which it is stored, and nothing else.
    await jetstream(connection).publish('full', new Uint8Array(MAX_PAYLOAD - 200));
    const [dead] = await seen.count(1);
    assert.equal(dead?.length, MAX_PAYLOAD - 200);
    await warnings.until((all) => all.some((each) => /does not fit/.test(each)), 'a warning');
  });

  test('an ordered group goes on after all streams of ours were removed', async () => {
    await using one = await openBroker(url);
    await using two = await openBroker(url);
    const options = { ...EARLIEST, ordered: 'strict' } as const;
    const first = await collect(one, 'led', options);
    const second = await collect(two, 'led', options);
    const both = () => [...first.seen.items, ...second.seen.items];
    await one.publish('led', message('0'));
    await eventually('the first', () => both().length === 1);
    const manager = await jetstreamManager(connection);
    for await (const name of manager.streams.names()) {
      if (/^RIVULET-(LEAD|T-led)$/.test(name)) await manager.streams.delete(name);
    }
    await one.publish('led', message('1'));
    await eventually('the second', () => both().includes('1'), 20_000);
    await first.subscriber.unsubscribe();
    await one.publish('led', message('2'));
    await eventually('the third', () => both().includes('2'), 20_000);
  });

  test("a cut of the leader's connection changes no order", async () => {
    await using proxy = await FaultyProxy.start(node.port);
    await using publisher = await openBroker(url);
    await using broker = await openBroker(`nats://127.0.0.1:${proxy.port}`);
    const began = new Seen<number>();
    await publishAll(publisher, 'cut', numbers(1, 21));
    await broker.subscribe(
      'cut',
      async (delivery) => {
        began.add(Number(text(delivery)));
        await quiet(60);
      },
      { ...EARLIEST, ordered: 'strict', maxInFlight: 6, ackWaitMs: 3000 },
    );
    for (const at of [3, 9]) {
      await began.until((all) => all.includes(at), `message ${at}`);
      proxy.cut();
    }
    await began.until((all) => all.includes(20), 'the last one', 30_000);
    began.items.forEach((each, index) => {
      const before = index === 0 ? 0 : Math.max(...began.items.slice(0, index));
      assert.ok(each <= before + 1, `${each} came after ${before}: ${began.items}`);
    });
  });

  test('in order, what was acknowledged and comes again with an earlier message has had no attempt', async () => {
    await using proxy = await FaultyProxy.start(node.port);
    await using publisher = await openBroker(url);
    await using broker = await openBroker(`nats://127.0.0.1:${proxy.port}`);
    const topic = 'acknowledged.ahead';
    for (const each of ['slow', 'quick']) await publisher.publish(topic, { body: each, key: each });
    const seen = new Seen<string>();
    let end = () => {};
    const held = new Promise<void>((resolve) => {
      end = resolve;
    });
    const options = { ...EARLIEST, ordered: 'key', concurrency: 2, maxInFlight: 2 } as const;
    await broker.subscribe(
      topic,
      async (delivery) => {
        seen.add(`${text(delivery)} ${delivery.attempt}`);
        if (text(delivery) === 'slow') await held;
      },
      options,
    );
    const manager = await jetstreamManager(connection);
    const stream = await manager.streams.find(topic);
    await eventually('the quick one is acknowledged', async () => {
      const [info] = await manager.consumers.list(stream).next();
      return seen.length === 2 && info?.num_ack_pending === 1;
    });
    broker.on('disconnected', () => end());
    proxy.cut();
    await seen.count(4, 30_000);
    assert.deepEqual(seen.items.toSorted(), ['quick 1', 'quick 1', 'slow 1', 'slow 2']);
  });

  test('what is given back unseen comes as the first attempt, what was handed over as the next', async () => {
    await using one = await openBroker(url);
    await using two = await openBroker(url);
    const began = new Seen<string>();
    const options = { ...EARLIEST, maxInFlight: 4, ackWaitMs: 20_000 };
    const subscriber = await one.subscribe(
      'unseen',
      async (delivery) => {
        began.add(text(delivery));
        await quiet(300);
        throw new Error('given back');
      },
      { ...options, retry: { attempts: 5, backoff: { minMs: 10, maxMs: 10 } } },
    );
    await publishAll(one, 'unseen', ['a', 'b', 'c', 'd']);
    await began.count(1);
    await subscriber.unsubscribe();
    const seen = new Seen<string>();
    await two.subscribe('unseen', (each) => seen.add(`${text(each)} ${each.attempt}`), options);
    assert.deepEqual([...(await seen.count(4))].sort(), ['a 2', 'b 1', 'c 1', 'd 1']);
  });

  test('a reply that is too large fails the call at once, and is a warning at the responder', async () => {
    await using broker = await openBroker(url);
    const warning = new Seen<BrokerEvents['warning']>();
    broker.on('warning', (detail) => warning.add(detail));
    await broker.respond('replies', ({ body }) => ({
      headers: {},
      body: new Uint8Array(Number(Buffer.from(body).toString())),
    }));
    const began = performance.now();
    const [large, small] = await Promise.allSettled([
      broker.request('replies', message(String(MAX_PAYLOAD))),
      broker.request('replies', message('5')),
    ]);
    assert.ok(performance.now() - began < 2500);
    assert.equal(large.status === 'rejected' && large.reason.code, 'BODY_TOO_LARGE');
    assert.equal(small.status === 'fulfilled' && small.value.body.length, 5);
    assert.match(String((await warning.count(1))[0]?.error.message), /max_payload/);
  });

  test('addresses that cannot be are refused, and none of their parts is shown', async () => {
    const wrong = [
      'nats://ann:se/cret@127.0.0.1:4222',
      'nats://ann:sec%zzret@127.0.0.1:4222',
      'nats://ann:secret@127.0.0.1:99999',
      'nats://ann:secret@127.0.0.1:4222/cret',
      'nats://ann:secret@127.0.0.1:4222?secret',
      'nats://127.0.0.1:4222, nats://ann:se#cret@127.0.0.1',
    ];
    for (const address of wrong) {
      await assert.rejects(openBroker(address), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'INVALID_ARGUMENT', address);
        assert.doesNotMatch(inspect(error), /cret|ann/, address);
        return true;
      });
    }
  });

  test('TLS: served by a certificate of the authority that was given, refused at once by another', {
    skip: missingOpenssl,
  }, async () => {
    await using directory = temporaryDirectory('certificates');
    const { cert, key, caText, otherCaText } = makeCertificates(directory.path);
    const config = [`tls { cert_file: "${cert}", key_file: "${key}" }`];
    await using guarded = await startNats(1, config);
    const address = `tls://127.0.0.1:${(guarded.nodes[0] as NatsNode).port}`;
    await using broker = await openBroker(address, { client: { tls: { ca: caText } } });
    const { seen } = await collect(broker, 'tls', EARLIEST);
    await broker.publish('tls', message('x'));
    await seen.count(1);
    const began = performance.now();
    for (const ca of [otherCaText, undefined]) {
      const client = ca === undefined ? {} : { tls: { ca } };
      await assert.rejects(openBroker(address, { client }), {
        code: 'CONNECTION_FAILED',
        message: /certificate/,
      });
    }
    assert.ok(performance.now() - began < 5000, 'not tried again and again');
  });
});

describe('the nats adapter in a cluster', { skip: missing('nats-server') }, () => {
  test('a responder is known at every node when respond resolves', async () => {
    await using cluster = await startNats(3);
    const [one, two, three] = await Promise.all(cluster.nodes.map(({ url }) => openBroker(url)));
    try {
      for (let times = 0; times < 25; times++) {
        const topic = `known.${times}`;
        const responder = await one?.respond(topic, (request) => request);
        const asked = [two, three].map((broker) => broker?.request(topic, message('x')));
        await Promise.all(asked);
        await responder?.unsubscribe();
      }
    } finally {
      await Promise.all([one, two, three].map((broker) => broker?.disconnect()));
    }
  });
});
