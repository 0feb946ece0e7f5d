/**
 * Entries read from memory are those that XRANGE and XREVRANGE give, cut where that is asked for, and a page
 * of large ones holds the loop of the server no longer than one of small ones.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/client/index.ts';
import { entriesInMemory } from '../../src/console/messages/engine-entries.ts';
import { entriesOf } from '../../src/console/sources/commands.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { BESIDE_OTHERS_MS, STALL_WATCH, stallsOf } from '../helpers/stall-watch.ts';
import { askAt, openConsole } from './fixture.ts';

const LARGE = 24 * 1024 * 1024;

/** A stream of these entries, as the engine has it. */
function streamOf(entries: readonly (readonly [id: string, ...fields: string[]])[]): Stream {
  const stream = new Stream({ maxBytes: 4096, maxEntries: 100 });
  for (const [id, ...fields] of entries) {
    stream.append(StreamId.parse(id)!, Arguments.of(...fields), 0, fields.length);
  }
  return stream;
}

test('the engine gives the same entries as the commands, from each bound in both directions', async () => {
  await using console = await openConsole();
  const { client } = console;
  const entries = Array.from({ length: 300 }, (_, at): [string, ...string[]] => {
    const id = `${5 + ((at + 1) >> 3)}-${(at + 1) & 7}`;
    return at % 5 === 0 ? [id, 'body', 'x', `own${at}`, 'y'.repeat(at)] : [id, 'body', `b${at}`];
  });
  const stream = streamOf(entries);
  for (const [id, ...fields] of entries) await client.call('XADD', 's', id, ...fields);
  for (const [id] of entries.filter((_, at) => at % 11 === 3)) {
    await client.call('XDEL', 's', id);
    assert.ok(stream.remove(StreamId.parse(id)!));
  }
  const bounds = [null, '0', '5', '9-3', '20', '42-4', '42-7', '43', '18446744073709551615', '99'];
  for (const from of bounds) {
    for (const to of [...bounds, '(9-3', '(42-4', '(20']) {
      for (const [isAfter, newest, limit] of [
        [false, false, 1000],
        [true, false, 7],
        [false, true, 7],
        [true, true, 1000],
      ] as const) {
        if (isAfter && from === null) continue;
        const start = from === null ? (newest ? '+' : '-') : isAfter ? `(${from}` : from;
        const end = to ?? (newest ? '-' : '+');
        const name = newest ? 'XREVRANGE' : 'XRANGE';
        const told = entriesOf(await client.call(name, 's', start, end, 'COUNT', limit));
        const range = { from, isAfter, to, newest, limit };
        assert.deepEqual(
          entriesInMemory(stream, range),
          told,
          `${name} ${start} ${end} COUNT ${limit}`,
        );
      }
    }
  }
});

test('a value is cut, and its length before is reported', () => {
  const stream = streamOf([
    ['1-1', 'body', 'abcdef', 'other', 'ghi'],
    ['1-2', 'body', 'abc'],
  ]);
  const range = { from: null, isAfter: false, to: null, newest: false, limit: 10, cut: 4 };
  const [first, second] = entriesInMemory(stream, range)!;
  assert.deepEqual(first!.fields.map(String), ['body', 'abcd', 'other', 'ghi']);
  assert.deepEqual(first!.whole, { bytes: 18, body: 6 });
  assert.equal(second!.whole, undefined);
  assert.equal(entriesInMemory(stream, { ...range, from: 'no id' }), null);
});

test('an entry without rights is refused by the command itself', async () => {
  await using console = await openConsole({ requirepass: 'secret' }, [], { password: 'secret' });
  await console.client.call('ACL', 'SETUSER', 'ann', 'on', '>pw', '~*', '+@connection', '+xinfo');
  await console.client.call('XADD', 's', '1-1', 'body', 'x');
  const authorization = `Basic ${Buffer.from('ann:pw').toString('base64')}`;
  const answer = await console.ask('topics/s/entries', { headers: { authorization } });
  assert.deepEqual([answer.status, answer.json().code], [403, 'PERMISSION_DENIED']);
});

test('pages of large messages hold up no client, and tell their sizes', async () => {
  const port = await freePort();
  await using server = await startRivulet({
    args: ['--http-port', String(port), '--appendonly', 'no'],
    longTurns: 'large entries are stored first',
    nodeArgs: STALL_WATCH,
  });
  await using client = await connect({ port: server.port });
  const letter = ['rivulet-dead-topic', 'large', 'rivulet-dead-group', 'g', 'rivulet-dead-id'];
  for (let n = 1; n <= 3; n++) {
    await client.call('XADD', 'large', `${n}-1`, 'body', Buffer.alloc(LARGE, 'a'));
    await client.call('XADD', 'large.dead', '*', ...letter, `${n}-1`, 'body', Buffer.alloc(LARGE));
  }
  const get = async (path: string) => {
    const answer = await askAt(port, `/console/api/v1/${path}`, {});
    assert.equal(answer.status, 200, answer.text.slice(0, 200));
    return answer.json();
  };
  await get('topics');
  const before = stallsOf(server).length;
  const page = await get('topics/large/entries');
  assert.deepEqual(
    page.entries.map((each: { bytes: number; bodyBytes: number }) => [each.bytes, each.bodyBytes]),
    [1, 2, 3].map(() => [LARGE + 4, LARGE]),
  );
  assert.equal(page.entries[0].preview.text, 'a'.repeat(256));
  const detail = await get('topics/large/entries/2-1');
  assert.deepEqual([detail.body, detail.previousId, detail.nextId], [null, '1-1', '3-1']);
  assert.equal((await get('dead')).entries.length, 3);
  const journey = await get('journey/large/2-1');
  assert.equal(journey.entry.bodyBytes, LARGE);
  assert.deepEqual(stallsOf(server, BESIDE_OTHERS_MS).slice(before), []);
  const body = await askAt(port, '/console/api/v1/topics/large/entries/2-1/body', {});
  assert.equal(body.text.length, LARGE, 'a download has all of it');
});
