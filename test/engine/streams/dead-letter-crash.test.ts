/**
 * A dead letter and its acknowledgement are one: power may go at any write, and afterwards every
 * entry is pending or dead or acknowledged, exactly one of them; scheduled entries come exactly once.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InProcessSession, type Value } from '../../helpers/in-process-server.ts';
import { seedsOf } from '../../helpers/seed.ts';
import { type Life, World } from '../../simulation/world.ts';

interface Counts {
  dead: number;
  pending: number;
  lost: number;
  crashes: number;
}

/** Entries that the group has been given, by what became of them. */
function fates(life: Life) {
  const session = new InProcessSession({ engine: life.engine }, 2);
  const ids = (session.call('XRANGE', 's', '-', '+') as [string, string[]][]).map(([id]) => id);
  const groups = session.call('XINFO', 'GROUPS', 's');
  const pending = new Set(
    groups instanceof Error
      ? []
      : (session.call('XPENDING', 's', 'g', '-', '+', 10_000) as Value[][]).map(([id]) => id),
  );
  const dead = (session.call('XRANGE', 'dead', '-', '+') as [string, string[]][]).map(
    ([, fields]) => fields[fields.indexOf('rivulet-dead-id') + 1],
  );
  const names = (session.call('XRANGE', 'later', '-', '+') as [string, string[]][]).map(
    ([, fields]) => fields[1],
  );
  const waiting = (session.call('XSCHEDULE', 'LIST', 'later', 'COUNT', 10_000) as Value[][]).map(
    ([, , fields]) => (fields as string[])[1],
  );
  return { ids, pending, dead, later: [...names, ...waiting] };
}

async function run(seed: number, counts: Counts): Promise<void> {
  const world = new World(seed);
  const { random, clock, disk } = world;
  const acknowledged = new Set<string>();
  let scheduled = 0;
  let name = 0;
  for (let lives = 4; lives > 0; lives--) {
    const life = await world.start();
    const at = `seed ${seed}, life ${lives}`;
    const { ids, pending, dead, later } = fates(life);
    assert.equal(new Set(dead).size, dead.length, `${at}: dead twice`);
    assert.equal(new Set(later).size, later.length, `${at}: scheduled entry twice`);
    for (const id of dead) assert.ok(!pending.has(id as string), `${at}: ${id} dead and pending`);
    const last = dead.length + pending.size;
    counts.dead += dead.length;
    counts.pending += pending.size;
    // Acknowledged durably, or still to be read: nothing else may be neither dead nor pending.
    const session = new InProcessSession({ engine: life.engine }, 2);
    const group = session.call('XINFO', 'GROUPS', 's');
    const delivered = Array.isArray(group) && group.length > 0 ? (group[0] as Value[])[7] : '0-0';
    const given = ids.filter(
      (id) => id.localeCompare(String(delivered), 'en', { numeric: true }) <= 0,
    );
    for (const id of given) {
      if (dead.includes(id) || pending.has(id)) continue;
      assert.ok(acknowledged.has(id), `${at}: ${id} is neither dead nor pending, of ${last}`);
    }
    const call = (...args: (string | number)[]) => life.perform([args]);
    call('XGROUP', 'CREATE', 's', 'g', '0', 'MKSTREAM');
    call(
      ...['XGROUP', 'SETPOLICY', 's', 'g', 'ACKWAIT', 50, 'MAXDELIVERIES', 2],
      ...['DEADLETTER', 'dead', 'BACKOFF', 10, 40, 2],
    );
    for (let steps = 150; steps > 0; steps--) {
      const choice = random.below(10);
      const read = session.call('XPENDING', 's', 'g', '-', '+', 10_000) as Value[][];
      const some = read.length === 0 ? '0-1' : String(random.pick(read)[0]);
      if (choice < 3) call('XADD', 's', '*', 'name', name++);
      else if (choice < 5) call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 5, 'STREAMS', 's', '>');
      else if (choice === 5) {
        call('XACK', 's', 'g', some);
        acknowledged.add(some);
      } else if (choice === 6) call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, some);
      else if (choice === 7) {
        call('XADD', 'later', 'DELAY', 1 + random.below(80), '*', 'name', `n${scheduled++}`);
      } else if (choice === 8) {
        clock.advance(random.below(40));
        life.perform([]);
      } else {
        life.log.flush();
        for (let i = random.below(3); i > 0; i--) await life.stepDisk();
      }
    }
    if (life.log.durable < life.log.appended) counts.lost++;
    counts.crashes++;
    await disk.crash();
  }
}

test('never both, never neither, whenever the power goes: 25 seeds, 4 lives each', async (t) => {
  const counts: Counts = { dead: 0, pending: 0, lost: 0, crashes: 0 };
  for (const seed of seedsOf(t, 25)) await run(seed, counts);
  assert.ok(counts.dead > 100 && counts.pending > 100 && counts.lost > 10, JSON.stringify(counts));
});
