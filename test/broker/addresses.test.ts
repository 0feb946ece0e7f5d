/** Addresses of brokers: whatever a password holds is read, and is in no text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import {
  databaseOf,
  parseAddress,
  splitAddresses,
  withoutPassword,
} from '../../src/broker/addresses.ts';
import { openBroker } from '../../src/broker/open-broker.ts';

const HARD = ['a/b', 'a@b', 'a,b', 'a?b', 'a#b', 'a:b', '@', '/', ',', 'ключ', 'p ss', '@@//,,'];

test('a password with any character is read, as it is or percent-encoded', () => {
  for (const secret of HARD) {
    for (const written of [secret, encodeURIComponent(secret)]) {
      const address = `rivulet://user:${written}@host:7488/3`;
      const parsed = parseAddress(address);
      assert.deepEqual(
        [parsed.host, parsed.port, parsed.username, parsed.password, databaseOf(parsed, address)],
        ['host', 7488, 'user', secret, 3],
        written,
      );
    }
  }
});

test('addresses without credentials, ports, hosts; IPv6; a path with an @', () => {
  const read = (address: string) => {
    const { host, port, username, password, path } = parseAddress(address);
    return [host, port, username, password, path];
  };
  assert.deepEqual(read('rivulet://'), ['', null, null, null, '']);
  assert.deepEqual(read('rivulet://host'), ['host', null, null, null, '']);
  assert.deepEqual(read('http://[::1]:0'), ['::1', 0, null, null, '']);
  assert.deepEqual(read('amqp://u:p@host/vh@st'), ['host', null, 'u', 'p', '/vh@st']);
  assert.deepEqual(read('redis://:only@[fe80::1]:6379/0'), ['fe80::1', 6379, null, 'only', '/0']);
});

test('several addresses in one text are separated, commas in passwords are not', () => {
  assert.deepEqual(splitAddresses('nats://a:1,b:2, nats://c'), [
    'nats://a:1',
    'nats://b:2',
    'nats://c',
  ]);
  assert.deepEqual(splitAddresses('redis://u:x,y@a:1,b:2'), ['redis://u:x,y@a:1', 'redis://b:2']);
  assert.deepEqual(splitAddresses('file:a,b'), ['file:a,b']);
});

test('what is no address is INVALID_ARGUMENT, and no text of the error holds a secret', async () => {
  const secrets = [...HARD.filter((each) => each.length > 2), 'hunter2'];
  const wrong = [
    (secret: string) => `rivulet://user:${secret}@host:port`,
    (secret: string) => `rivulet://user:${secret}@host:99999`,
    (secret: string) => `rivulet://user:${secret}@host/abc`,
    (secret: string) => `rivulet://user:${secret}%zz@host`,
    (secret: string) => `://user:${secret}@host`,
  ];
  for (const secret of secrets) {
    for (const form of wrong) {
      const address = form(secret);
      await assert.rejects(openBroker(address, { connectTimeoutMs: 200 }), (error: Error) => {
        const { code } = error as { code?: string };
        assert.equal(code, 'INVALID_ARGUMENT', `${address}: ${error.message}`);
        assert.ok(!inspect(error, { depth: 9 }).includes(secret), inspect(error));
        return true;
      });
    }
    assert.ok(!withoutPassword(`rivulet://user:${secret}@host`).includes(secret));
  }
});

test('a secret in the wrong place of an address is in no text of the error', async () => {
  for (const address of [
    'rivulet://user:hunter2',
    'rivulet://user:x@host:7488?password=hunter2',
    'rivulet://user:x@host:7488#hunter2',
    'rivulet://host:7488?hunter2',
  ]) {
    await assert.rejects(openBroker(address, { connectTimeoutMs: 200 }), (error: Error) => {
      assert.equal((error as { code?: string }).code, 'INVALID_ARGUMENT', address);
      assert.ok(!inspect(error, { depth: 9 }).includes('hunter2'), inspect(error));
      return true;
    });
    assert.ok(!withoutPassword(address).includes('hunter2'), address);
  }
});

test('a server that cannot be reached: the error names the host and no secret', async () => {
  const secret = 'zq8/wv@2';
  await assert.rejects(
    openBroker(`rivulet://user:${secret}@127.0.0.1:1/0`, { connectTimeoutMs: 200 }),
    (error: Error) => {
      const shown = inspect(error, { depth: 9 });
      assert.ok(shown.includes('127.0.0.1:1'), shown);
      assert.ok(!shown.includes('zq8') && !shown.includes('wv@2'), shown);
      return true;
    },
  );
});
