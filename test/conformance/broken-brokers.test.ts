/**
 * Every case of the suite can fail: for each promise there is a broker that breaks it, and the case
 * that says so notices. On a virtual clock, so that waiting for what never comes takes no time.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CaseContext } from '../../src/conformance/case-context.ts';
import { type Case, cases, type Fixture } from '../../src/conformance/index.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { breakages, over } from './broken-brokers.ts';
import { memoryFixture } from './embedded-fixture.ts';
import { playTime } from './virtual-time.ts';

let scheduler: VirtualScheduler;
let stop = () => {};
let topics = 0;

before(() => {
  scheduler = new VirtualScheduler(1);
  stop = playTime(scheduler);
});
after(() => stop());

for (const { promise, noticedBy, breaks } of breakages) {
  const [group, name] = noticedBy;
  test(`${promise}: noticed by "${name}"`, { timeout: 60_000 }, async () => {
    const found = cases[group]?.find((each) => each.name === name);
    assert.ok(found !== undefined, `the suite has no case "${group}: ${name}"`);
    await using sound = await memoryFixture({ scheduler });
    assert.equal(await outcome(found, sound), null, 'the case passes on a sound broker');
    await using other = await memoryFixture({ scheduler });
    const broken: Fixture = {
      ...other,
      open: async (options) => {
        const broker = await other.open(options);
        return over(broker, breaks(broker));
      },
    };
    assert.notEqual(await outcome(found, broken), null, 'the case fails on the broken broker');
  });
}

/** Why the case failed; null when it passed. */
async function outcome(each: Case, fixture: Fixture): Promise<unknown> {
  const world = new CaseContext(fixture, `broken.c${topics++}`);
  try {
    await each.run(world);
    return null;
  } catch (error) {
    return error;
  } finally {
    await world.end();
  }
}
