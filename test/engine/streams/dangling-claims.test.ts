/** XREADGROUP CLAIM where pending entries are gone from the stream: they are looked at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InProcessServer } from '../../helpers/in-process-server.ts';

const CLAIM = [
  'XREADGROUP',
  'GROUP',
  'g',
  'c',
  'CLAIM',
  1,
  'COUNT',
  1,
  'STREAMS',
  's',
  '>',
] as const;

/** 2000 pending entries, of which only the last is still in the stream. */
function dangling() {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XGROUP', 'CREATE', 's', 'g', '0', 'MKSTREAM');
  for (let i = 1; i <= 2000; i++) session.call('XADD', 's', `${i}-1`, 'f', i);
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 2000, 'STREAMS', 's', '>');
  session.call('XTRIM', 's', 'MAXLEN', 1);
  const value = server.engine.databases[0]?.peekKey(Buffer.from('s'))?.value;
  assert.ok(value?.type === 'stream');
  const { stream } = value;
  const has = stream.has.bind(stream);
  let searches = 0;
  stream.has = (id) => {
    searches++;
    return has(id);
  };
  /** What was claimed, and how many entries were searched for it. */
  const claim = () => {
    server.advance(10);
    const before = searches;
    const text = JSON.stringify(session.call(...CLAIM));
    return { ids: [...text.matchAll(/"(\d+-1)"/g)].map(([, id]) => id), cost: searches - before };
  };
  return { server, session, claim };
}

test('a claim does not search again for entries that are gone', () => {
  const { session, claim } = dangling();
  assert.deepEqual(claim().ids, ['2000-1']);
  for (let n = 0; n < 5; n++) {
    const { ids, cost } = claim();
    assert.deepEqual(ids, ['2000-1']);
    assert.ok(cost < 10, `${cost} searches`);
  }
  // They stay pending, and can be acknowledged and claimed by their ids as before.
  assert.equal(session.call('XACK', 's', 'g', '5-1', '6-1'), 2);
  assert.deepEqual(session.call('XCLAIM', 's', 'g', 'd', 0, '7-1'), []);
  assert.equal((session.call('XPENDING', 's', 'g') as unknown[])[0], 1997);
});

test('an entry whose id is given again after XSETID is claimed', () => {
  const { session, claim } = dangling();
  assert.deepEqual(claim().ids, ['2000-1']);
  session.call('XTRIM', 's', 'MAXLEN', 0);
  assert.deepEqual(claim().ids, []);
  assert.equal(session.call('XSETID', 's', '99-1'), 'OK');
  session.call('XADD', 's', '100-1', 'f', 'again');
  assert.deepEqual(claim().ids, ['100-1']);
});
