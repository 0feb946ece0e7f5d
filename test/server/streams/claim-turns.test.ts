/**
 * XREADGROUP CLAIM and XAUTOCLAIM over very many entries that they tell nothing of: in bounded turns, with
 * the same result as in one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';

const GONE = 70_000;
/** Entries that one turn may find gone, and that one XAUTOCLAIM may pass over. */
const PER_TURN = 25_000;
const PASSED = 200_000;

/** A group with so many pending entries. */
function pending(count: number) {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XGROUP', 'CREATE', 's', 'g', '0', 'MKSTREAM');
  for (let i = 1; i <= count; i++) session.call('XADD', 's', `${i}-1`, 'f', '');
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', count, 'STREAMS', 's', '>');
  const value = server.engine.databases[0]?.peekKey(Buffer.from('s'))?.value;
  assert.ok(value?.type === 'stream');
  const { stream } = value;
  const has = stream.has.bind(stream);
  const seen = { searches: 0 };
  stream.has = (id) => {
    seen.searches++;
    return has(id);
  };
  server.advance(10);
  /** Entries of pages that the group's delivery order has taken in. */
  const inOrder = () => {
    const pages = value.groups.get('g')?.pending.pages() ?? [];
    const taken = pages.filter(({ columns }) => columns !== null && columns.slot !== null);
    return taken.reduce((sum, { used }) => sum + used, 0);
  };
  return { server, session, seen, inOrder };
}

const claim = (name: string, ...options: (string | number)[]) =>
  ['XREADGROUP', 'GROUP', 'g', name, ...options, 'CLAIM', 1, 'STREAMS', 's', '>'] as const;

test('a claim continues turn by turn behind entries that are gone, and is answered by what it finds', () => {
  const { server, session, seen, inOrder } = pending(GONE);
  session.call('XTRIM', 's', 'MAXLEN', 1);
  assert.equal(session.call(...claim('d')), undefined, 'it waits for its next turn');
  assert.equal(seen.searches, PER_TURN);
  // A group's first claim builds its delivery order: no more of it than it has come to.
  assert.ok(inOrder() < PER_TURN + 2000, `${inOrder()} are in the delivery order`);
  // Other clients are served in between.
  assert.equal(server.session().call('XLEN', 's'), 1);
  let reply: Value | undefined;
  let turns = 1;
  for (; reply === undefined; turns++) {
    assert.ok(turns < 10);
    const before = seen.searches;
    server.engine.tick();
    assert.ok(seen.searches - before <= PER_TURN + 1, `${seen.searches - before} in one turn`);
    reply = session.take();
  }
  assert.match(JSON.stringify(reply), new RegExp(`"${GONE}-1"`));
  assert.equal(turns, 3);
});

test('a claim that finds nothing at all is answered null when it has looked at all', () => {
  const { server, session } = pending(GONE);
  session.call('XTRIM', 's', 'MAXLEN', 0);
  assert.equal(session.call(...claim('d')), undefined);
  server.engine.tick();
  assert.equal(session.take(), undefined);
  server.engine.tick();
  assert.equal(session.take(), null);
  // Everything is aside now: the next one answers at once.
  assert.equal(session.call(...claim('e')), null);
});

test('within MULTI a claim looks at all in one turn', () => {
  const { session } = pending(GONE);
  session.call('XTRIM', 's', 'MAXLEN', 1);
  session.call('MULTI');
  session.call(...claim('d'));
  assert.match(JSON.stringify(session.call('EXEC')), new RegExp(`"${GONE}-1"`));
});

test('XAUTOCLAIM passes over so many entries and says where it continues', () => {
  const { session } = pending(PASSED + 5000);
  const walk = (start: string) =>
    session.call('XAUTOCLAIM', 's', 'g', 'd', 3_600_000, start, 'COUNT', 1_000_000) as Value[];
  const [next, claimed] = walk('0');
  assert.equal(next, `${PASSED + 1}-1`);
  assert.deepEqual(claimed, []);
  assert.deepEqual(walk(next as string), ['0-0', [], []]);
  // What it claims is in its reply, and not limited by that.
  const all = session.call('XAUTOCLAIM', 's', 'g', 'd', 0, '0', 'COUNT', 1_000_000, 'JUSTID');
  assert.equal(((all as Value[])[1] as Value[]).length, PASSED + 5000);
  assert.equal((all as Value[])[0], '0-0');
});
