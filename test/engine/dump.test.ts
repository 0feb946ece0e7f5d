/** DUMP and RESTORE: every value comes back, nothing damaged does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dumpValue, openDump } from '../../src/engine/dump.ts';
import { decodeValue } from '../../src/engine/value-codec.ts';
import { Random } from '../../src/util/random.ts';
import { InProcessServer } from '../helpers/in-process-server.ts';
import { randomCommand } from './random-commands.ts';
import { pictureOf } from './state-picture.ts';

/** A server after random commands. */
function busy(seed: number): InProcessServer {
  const server = new InProcessServer();
  const session = server.session();
  const random = new Random(seed);
  for (let i = 0; i < 300; i++) {
    server.clock.advance(random.below(20));
    session.call(...randomCommand(random, new Map()));
  }
  return server;
}

test('what DUMP gives, RESTORE makes into the same value: streams with groups and pending too', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const from = busy(seed);
    // What is due by now comes first, so that nothing does meanwhile.
    from.engine.tick();
    const to = new InProcessServer(from.clock.now());
    to.engine.turn();
    for (const [index, database] of from.engine.databases.entries()) {
      for (const { key, value, expireAt } of database.entries()) {
        const payload = openDump(dumpValue(value));
        assert.ok(payload !== null);
        to.engine.databases[index]?.restore(key, expireAt, payload);
      }
    }
    from.engine.tick();
    assert.deepEqual(pictureOf(to.engine), pictureOf(from.engine), `seed ${seed}`);
    assert.deepEqual(pictureOf(to.replayed().engine), pictureOf(to.engine), `seed ${seed}`);
  }
});

test('a payload in which any byte was changed is refused', () => {
  const server = busy(3);
  const random = new Random(1);
  for (const { value } of server.engine.databases[0]?.entries() ?? []) {
    const payload = dumpValue(value);
    for (let i = 0; i < 50; i++) {
      const broken = Buffer.from(payload);
      const at = random.below(broken.length);
      broken[at] = (broken[at] as number) ^ (1 << random.below(8));
      assert.equal(openDump(broken), null);
    }
    assert.equal(openDump(payload.subarray(0, payload.length - 1)), null);
  }
});

test('a damaged value under a right checksum is refused with a RangeError, never half made', () => {
  const random = new Random(2);
  let refused = 0;
  for (let seed = 1; seed <= 6; seed++) {
    const server = busy(seed);
    for (const { value } of server.engine.databases[0]?.entries() ?? []) {
      if (value.type !== 'stream') continue;
      const payload = openDump(dumpValue(value)) as Buffer;
      for (let i = 0; i < 150; i++) {
        const broken = Buffer.from(payload);
        const at = random.below(broken.length);
        broken[at] = random.below(256);
        try {
          decodeValue(server.engine, broken.subarray(0, broken.length - random.below(3)));
        } catch (error) {
          assert.ok(error instanceof RangeError, String(error));
          refused++;
        }
      }
    }
  }
  assert.ok(refused > 100);
});

test('RESTORE says what is wrong, and replaces only when told to', () => {
  const server = new InProcessServer();
  const r = server.session();
  r.call('SET', 'k', 'v');
  const payload = dumpValue({ type: 'string', bytes: Buffer.from('new') });
  const error = (...args: (string | Buffer)[]): string => (r.call(...args) as Error).message;
  assert.equal(error('RESTORE', 'k', '0', payload), 'BUSYKEY Target key name already exists.');
  assert.equal(
    error('RESTORE', 'l', '0', payload.subarray(1)),
    'ERR DUMP payload version or checksum are wrong',
  );
  assert.equal(r.call('RESTORE', 'k', '0', payload, 'REPLACE'), 'OK');
  assert.equal(r.call('GET', 'k'), 'new');
  assert.equal(r.call('RESTORE', 'l', '500', payload), 'OK');
  assert.equal(r.call('PTTL', 'l'), 500);
  assert.equal(r.call('RESTORE', 'l', '1', payload, 'REPLACE', 'ABSTTL'), 'OK');
  assert.equal(r.call('EXISTS', 'l'), 0);
});
