/** What only the redis adapter has: clients that are given, go-micro's form, Redis's own refusals. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import type { Broker } from '../../../src/broker/broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import { collect, message, Seen } from '../../../src/conformance/case-context.ts';
import { type RedisServer, startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';

// By a name that is not a literal: the adapter is built after this file.
const ADAPTER: string = '@rivulet/redis';
interface Adapter {
  redisBroker(client: Redis, options?: Partial<BrokerOptions>): Broker;
}

describe('the redis adapter', { skip: missing('redis-server') }, () => {
  let server: RedisServer;
  let url: string;
  let client: Redis;

  before(async () => {
    server = await startRedis();
    url = `redis://127.0.0.1:${server.port}`;
    client = new Redis(url);
  });
  after(async () => {
    client.disconnect();
    await server[Symbol.asyncDispose]();
  });

  test('takes the settings of an ioredis client that is there, and leaves it alone', async () => {
    const { redisBroker } = (await import(ADAPTER)) as Adapter;
    const own = new Redis(server.port, { db: 3 });
    const broker = redisBroker(own);
    await broker.connect();
    const { seen } = await collect(broker, 'given', { group: 'g' });
    await broker.publish('given', message('x'));
    await seen.count(1);
    assert.equal(await own.xlen('given'), 1, 'in the database that it had selected');
    await broker.disconnect();
    assert.equal(await own.ping(), 'PONG');
    own.disconnect();
  });

  test('stores a message as an entry that redis-cli shows: headers, key, body', async () => {
    await using broker = await openBroker(url);
    await broker.publish('plain', message('hello', 'k', { a: 'b' }));
    const [[, fields]] = await client.xrange('plain', '-', '+');
    assert.deepEqual(fields, ['headers', '{"a":"b"}', 'key', 'k', 'body', 'hello']);
  });

  test('reads what other programs have written: their fields come as headers', async () => {
    await using broker = await openBroker(url);
    const seen = new Seen<Readonly<Record<string, string>>>();
    await broker.subscribe('foreign', ({ message }) => seen.add(message.headers), {
      group: 'g',
      from: 'earliest',
    });
    await client.xadd('foreign', '*', 'temperature', '21', 'unit', 'C');
    assert.deepEqual([...(await seen.count(1))], [{ temperature: '21', unit: 'C' }]);
  });

  test("writes and reads go-micro's events: key, JSON of an Event, base64 payload", async () => {
    await using broker = await openBroker(url, { goMicro: true });
    const { seen } = await collect(broker, 'orders.created', { group: 'g' });
    await broker.publish('orders.created', message('{"total":3}', 'k', { tenant: 't' }));
    const [[, fields]] = await client.xrange('stream-orders.created', '-', '+');
    assert.deepEqual([fields[0], fields[2]], ['event', 'attempt']);
    const event = JSON.parse(fields[1] as string);
    assert.equal(event.Topic, 'orders.created');
    assert.equal(Buffer.from(event.Payload, 'base64').toString(), '{"total":3}');
    assert.deepEqual(event.Metadata, { tenant: 't', 'rivulet-key': 'k' });
    const theirs = { ...event, ID: 'other', Payload: Buffer.from('from go').toString('base64') };
    await client.xadd(
      'stream-orders.created',
      '*',
      'event',
      JSON.stringify(theirs),
      'attempt',
      '1',
    );
    assert.deepEqual([...(await seen.count(2))], ['{"total":3}', 'from go']);
  });

  test('wrong credentials are AUTHENTICATION_FAILED, at once', async () => {
    await using locked = await startRedis({ args: ['--requirepass', 'secret'] });
    const address = `127.0.0.1:${locked.port}`;
    const refused = { code: 'AUTHENTICATION_FAILED' };
    const began = performance.now();
    await assert.rejects(openBroker(`redis://:wrong@${address}`), refused);
    await assert.rejects(openBroker(`redis://${address}`), refused);
    assert.ok(performance.now() - began < 5000);
    await using broker = await openBroker(`redis://:secret@${address}`);
    assert.equal(broker.address.includes('secret'), false);
  });

  test('durability is what the server is set to', async () => {
    await using broker = await openBroker(url);
    assert.equal(broker.capabilities.durability, 'memory');
    await using syncing = await startRedis({
      args: ['--appendonly', 'yes', '--appendfsync', 'always'],
    });
    await using other = await openBroker(`redis://127.0.0.1:${syncing.port}`);
    assert.equal(other.capabilities.durability, 'fsync');
  });

  /** The commands of one connection of a client, as the server runs them. */
  async function commandsOf(connection: string): Promise<string[][]> {
    const rows = (await client.call('SLOWLOG', 'GET', '-1')) as [
      0,
      0,
      0,
      string[],
      string,
      string,
    ][];
    return rows.filter((row) => row[5] === connection).map((row) => row[3]);
  }

  async function consumeAll(broker: Broker, topic: string, total: number, options: object) {
    const all = { group: 'g', ...options };
    // The group exists before the messages.
    await (await broker.subscribe(topic, () => {}, all)).unsubscribe();
    const texts = Array.from({ length: total }, (_, index) => message(`${index}`));
    await broker.publishBatch(topic, texts);
    await client.config('SET', 'slowlog-max-len', '10000');
    await client.config('SET', 'slowlog-log-slower-than', '0');
    await client.call('SLOWLOG', 'RESET');
    const seen = new Seen<string>();
    await broker.subscribe(topic, ({ id }) => seen.add(id), all);
    assert.equal(new Set(await seen.count(total)).size, total);
  }

  test('a subscriber that has just begun reads for all its handlers at once', async () => {
    await using broker = await openBroker(url, { clientName: 'beginner' });
    await consumeAll(broker, 'begin', 50, { concurrency: 50 });
    const reads = (await commandsOf('beginner:read')).filter(([name]) =>
      /^(XREADGROUP|EVAL|EVALSHA)$/i.test(name ?? ''),
    );
    assert.ok(reads.length <= 10, `${reads.length} commands for 50 messages: ${reads[0]}`);
  });

  test('a read asks for at most half of maxInFlight', async () => {
    await using broker = await openBroker(url, { clientName: 'half' });
    await consumeAll(broker, 'half', 500, { concurrency: 4, maxInFlight: 10 });
    const counts = (await commandsOf('half:read'))
      .filter(([name]) => name?.toUpperCase() === 'XREADGROUP')
      .map((words) => Number(words[words.indexOf('COUNT') + 1]));
    assert.equal(Math.max(...counts), 5);
  });

  test('a publish that the server has no room for fails clearly', async () => {
    await using full = await startRedis({ args: ['--maxmemory', '1'] });
    await using broker = await openBroker(`redis://127.0.0.1:${full.port}`);
    await assert.rejects(broker.publish('t', message('x')), { code: 'WRITES_REFUSED' });
  });
});
