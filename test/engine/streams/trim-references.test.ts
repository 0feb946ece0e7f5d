/** XTRIM DELREF: what it takes out of pending lists, and what that costs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import {
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';
import { seedsOf } from '../../helpers/seed.ts';
import { pictureOf } from '../state-picture.ts';

function ids(session: InProcessSession): Set<string> {
  const entries = session.call('XRANGE', 's', '-', '+') as [string, Value][];
  return new Set(entries.map(([id]) => id));
}

function pendingOf(session: InProcessSession, group: string): string[] {
  const rows = session.call('XPENDING', 's', group, '-', '+', 9999) as Value[][];
  return rows.map((row) => row.join(' '));
}

test('XTRIM DELREF takes the references of what it removes, and leaves all others', (t) => {
  for (const seed of seedsOf(t, 60)) {
    const random = new Random(seed);
    const server = new InProcessServer();
    server.engine.nodeLimits.maxEntries = 1 + random.below(12);
    const session = server.session();
    const count = 20 + random.below(1500);
    for (let i = 1; i <= count; i++) session.call('XADD', 's', `${i}-1`, 'n', i);
    for (const group of ['g', 'h']) {
      session.call('XGROUP', 'CREATE', 's', group, '0');
      for (let reads = random.below(8); reads > 0; reads--) {
        const consumer = random.pick(['ann', 'bob']);
        const amount = 1 + random.below(400);
        session.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', amount, 'STREAMS', 's', '>');
      }
    }
    const pick = () => `${1 + random.below(count)}-1`;
    for (let i = random.below(6); i > 0; i--)
      session.call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, pick());
    for (let i = random.below(6); i > 0; i--) session.call('XACK', 's', 'h', pick());
    // Deleted before and still pending: no trim takes these.
    if (random.chance(0.5)) session.call('XDEL', 's', pick());
    for (let trims = 0; trims < 3; trims++) {
      const before = ids(session);
      const expected = new Map(['g', 'h'].map((group) => [group, pendingOf(session, group)]));
      const rule = random.chance(0.5)
        ? ['MAXLEN', random.below(count)]
        : ['MINID', `${random.below(count + 9)}`];
      session.call('XTRIM', 's', ...rule, 'DELREF');
      const after = ids(session);
      for (const [group, rows] of expected) {
        const kept = rows.filter((row) => {
          const [id] = row.split(' ') as [string];
          return !before.has(id) || after.has(id);
        });
        assert.deepEqual(pendingOf(session, group), kept, `seed ${seed}: ${rule.join(' ')}`);
      }
    }
    assert.deepEqual(pictureOf(server.replayed().engine), pictureOf(server.engine), `seed ${seed}`);
  }
});
