/** APPEND to large strings: copied once in many, and what others hold of the string stays as it was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';
import { seedsOf } from '../../helpers/seed.ts';

function bytesOf(server: InProcessServer, key: string): Buffer {
  const value = server.engine.databases[0]?.peekKey(Buffer.from(key))?.value;
  assert.ok(value?.type === 'string');
  return value.bytes;
}

test('APPEND to a large string copies it once in an eighth of its size', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('SET', 'k', Buffer.alloc(1_000_000, 'a'));
  const buffers = new Set<ArrayBufferLike>();
  for (let i = 0; i < 1000; i++) {
    session.call('APPEND', 'k', 'b'.repeat(100));
    buffers.add(bytesOf(server, 'k').buffer);
  }
  assert.equal(bytesOf(server, 'k').length, 1_100_000);
  assert.equal(bytesOf(server, 'k').toString(), 'a'.repeat(1_000_000) + 'b'.repeat(100_000));
  assert.equal(buffers.size, 1);
});

test('copies, renamed and overwritten strings go their own ways, whatever was appended before', (t) => {
  for (const seed of seedsOf(t, 20)) {
    const random = new Random(seed);
    const server = new InProcessServer();
    const session = server.session();
    const twin = new Map<string, string>();
    const held: [Buffer, string][] = [];
    for (let step = 0; step < 150; step++) {
      const [key, other] = [random.pick(['a', 'b', 'c']), random.pick(['a', 'b', 'c'])];
      const text = String.fromCharCode(97 + (step % 26)).repeat(random.below(9000));
      const act = random.below(10);
      if (act < 6) {
        session.call('APPEND', key, text);
        twin.set(key, (twin.get(key) ?? '') + text);
      } else if (act === 6) {
        session.call('SET', key, text.repeat(9));
        twin.set(key, text.repeat(9));
      } else if (act === 7 && key !== other && twin.has(key)) {
        session.call('COPY', key, other, 'REPLACE');
        twin.set(other, twin.get(key) as string);
      } else if (act === 8 && key !== other && twin.has(key)) {
        session.call('RENAME', key, other);
        twin.set(other, twin.get(key) as string);
        twin.delete(key);
      } else if (twin.has(key)) held.push([bytesOf(server, key), twin.get(key) as string]);
      for (const [name, expected] of twin)
        assert.ok(bytesOf(server, name).equals(Buffer.from(expected)));
    }
    for (const [bytes, expected] of held)
      assert.ok(bytes.equals(Buffer.from(expected)), `seed ${seed}`);
  }
});

test('SETRANGE in a large string copies it once, and records the part that it writes', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('SET', 'k', Buffer.alloc(1_000_000, 'a'));
  const buffers = new Set<ArrayBufferLike>();
  const before = server.journal.appended;
  for (let i = 0; i < 1000; i++) {
    assert.equal(session.call('SETRANGE', 'k', i * 900, 'b'), 1_000_000);
    buffers.add(bytesOf(server, 'k').buffer);
  }
  assert.equal(buffers.size, 1);
  assert.equal(session.call('SETRANGE', 'new', 10_000_000, 'end'), 10_000_003);
  assert.ok(server.journal.appended - before < 1001 * 40, 'the log holds more than the parts');
  assert.ok(bytesOf(server, 'new').equals(Buffer.from(`${'\0'.repeat(10_000_000)}end`)));
  for (const key of ['k', 'new'])
    assert.ok(bytesOf(server.replayed(), key).equals(bytesOf(server, key)), key);
});

test('strings that are written over, appended to and copied are what a replay makes of them', (t) => {
  for (const seed of seedsOf(t, 30)) {
    const random = new Random(seed);
    const server = new InProcessServer();
    const session = server.session();
    const twin = new Map<string, Buffer>();
    for (let step = 0; step < 100; step++) {
      const [key, other] = [random.pick(['a', 'b', 'c']), random.pick(['a', 'b', 'c'])];
      const part = Buffer.alloc(random.below(random.pick([5, 90_000])), 97 + (step % 26));
      const old = twin.get(key) ?? Buffer.alloc(0);
      const act = random.below(10);
      if (act < 5) {
        const offset = random.below(random.pick([10, 200_000]));
        session.call('SETRANGE', key, offset, part);
        if (part.length === 0) continue;
        const bytes = Buffer.alloc(Math.max(old.length, offset + part.length));
        old.copy(bytes);
        part.copy(bytes, offset);
        twin.set(key, bytes);
      } else if (act < 7) {
        session.call('APPEND', key, part);
        twin.set(key, Buffer.concat([old, part]));
      } else if (act === 7) {
        session.call('SET', key, part);
        twin.set(key, part);
      } else if (key !== other && twin.has(key)) {
        session.call('COPY', key, other, 'REPLACE');
        twin.set(other, old);
      }
      for (const [name, expected] of twin) {
        assert.ok(bytesOf(server, name).equals(expected), `seed ${seed}, step ${step}: ${name}`);
      }
    }
    const replayed = server.replayed();
    for (const [name, expected] of twin) assert.ok(bytesOf(replayed, name).equals(expected), name);
  }
});
