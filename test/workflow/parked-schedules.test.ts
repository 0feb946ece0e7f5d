/** A schedule that cannot start its run says so wherever parked instances are shown, and goes on when it is set again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JournalStore } from '../../src/broker/journal.ts';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import { workflow } from '../../src/workflow/index.ts';
import { createTestWorkflows, type TestWorld } from '../../src/workflow/testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const CRON = '0 * * * *';

function only<T>(kind: string): StandardSchema<T, T> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) =>
        typeof value === kind
          ? { value: value as T }
          : { issues: [{ message: `it is no ${kind}` }] },
    },
  };
}

const numbers = () =>
  workflow({ name: 'report', input: only<number>('number') }, async (_wf, n) => n);
const texts = () =>
  workflow({ name: 'report', input: only<string>('string') }, async (_wf, text) => text);

async function parkedIn(t: TestWorld) {
  const found = [];
  for await (const run of t.list({ status: 'parked' })) found.push(run);
  return found;
}

async function completedIn(t: TestWorld): Promise<number> {
  let count = 0;
  for await (const _ of t.list({ status: 'completed' })) count++;
  return count;
}

test('a schedule whose input fits its schema no longer is parked, seen, and goes on when it is set again', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  // An instance of the same name is another thing.
  await t.start(numbers(), 7, { id: 'hourly' });
  await t.advance(HOUR);
  assert.equal(await completedIn(t), 2);
  const flows = await t.restart({ definitions: [texts()] });
  const warnings: unknown[] = [];
  flows.onWarning((error) => warnings.push(error));
  await t.advance(3 * HOUR);
  const [parked, ...others] = await parkedIn(t);
  assert.deepEqual(others, [], 'once');
  assert.deepEqual(
    [parked?.id, parked?.schedule, parked?.code, parked?.status, parked?.version],
    ['hourly', true, 'VALIDATION_FAILED', 'parked', 1],
  );
  assert.match(
    parked?.reason ?? '',
    /^schedule hourly starts nothing: the input of report\/hourly-.*it is no string; set it again/,
  );
  const [info] = await flows.schedules();
  assert.deepEqual([info?.status, info?.code], ['parked', 'VALIDATION_FAILED']);
  assert.match(info?.reason ?? '', /it is no string/);
  const [counts] = await t.counts('report');
  assert.deepEqual([counts?.parked, counts?.waiting], [1, []]);
  assert.ok(counts?.oldestParkedAt !== undefined);
  assert.deepEqual(warnings, [], 'it is not tried again and again');
  // What still does not fit is refused where it is set.
  await assert.rejects(t.schedule('hourly', texts(), { cron: CRON, input: 1 as never }), {
    code: 'VALIDATION_FAILED',
  });
  const set = await t.schedule('hourly', texts(), { cron: CRON, input: 'now' });
  assert.equal(set.status, 'active');
  assert.deepEqual(await parkedIn(t), []);
  await t.advance(2 * HOUR);
  assert.equal(await completedIn(t), 4, 'what was missed while it was parked is not made up for');
});

test('the same schedule that is set again is tried again, and a parked one can be removed', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  await t.restart({ definitions: [texts()] });
  await t.advance(2 * HOUR);
  assert.equal((await parkedIn(t)).length, 1);
  await t.restart({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  assert.deepEqual(await parkedIn(t), []);
  await t.advance(HOUR);
  assert.equal(await completedIn(t), 1);
  await t.restart({ definitions: [texts()] });
  await t.advance(HOUR);
  assert.equal((await parkedIn(t)).length, 1);
  assert.equal(await t.unschedule('hourly', 'report'), true);
  assert.deepEqual([await parkedIn(t), await t.flows.schedules()], [[], []]);
  assert.equal(await t.unschedule('hourly', 'report'), false);
});

test('any number of workers park a schedule once', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, overlap: 'allow', catchUp: 5, input: 1 });
  await t.kill();
  await t.advance(5 * HOUR);
  await Promise.all([1, 2, 3].map(() => t.open({ definitions: [texts()] })));
  await t.advance(HOUR);
  assert.equal((await parkedIn(t)).length, 1);
  assert.equal(await completedIn(t), 0);
});

test('a timer that is left from before a change does not park a parked schedule again', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  await t.schedule('hourly', numbers(), { cron: '50 * * * *', input: 1 });
  await t.restart({ definitions: [texts()] });
  await t.advance(3 * HOUR);
  assert.equal((await parkedIn(t)).length, 1);
});

test('a state that another program wrote parks its schedule with that', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  const journal = t.broker.journal as JournalStore;
  const key = 'wf:{report}:s:hourly';
  await journal.apply([{ kind: 'add', key, fields: ['t', 'schedule', 'd', 'no json'] }]);
  await t.advance(2 * HOUR);
  const [parked] = await parkedIn(t);
  assert.deepEqual([parked?.id, parked?.code], ['hourly', 'STORAGE_DAMAGED']);
  assert.deepEqual(await t.flows.schedules(), []);
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  assert.deepEqual(await parkedIn(t), []);
  await t.advance(HOUR);
  assert.equal(await completedIn(t), 1);
});

test('a zone that is known no longer parks its schedule', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  await t.schedule('hourly', numbers(), { cron: CRON, input: 1 });
  const journal = t.broker.journal as JournalStore;
  const key = 'wf:{report}:s:hourly';
  const [entry] = await journal.read(key, { newestFirst: true, limit: 1 });
  const state = JSON.parse(entry?.fields.d ?? '');
  const d = JSON.stringify({ ...state, timeZone: 'Atlantis/Capital' });
  await journal.apply([{ kind: 'add', key, fields: ['t', 'schedule', 'd', d] }]);
  await t.advance(2 * HOUR);
  const [parked] = await parkedIn(t);
  assert.match(parked?.reason ?? '', /"0 \* \* \* \*" in "Atlantis\/Capital" is no schedule/);
  const timeZone = 'Atlantis/Capital';
  await assert.rejects(t.schedule('other', numbers(), { cron: CRON, timeZone, input: 1 }), {
    code: 'INVALID_ARGUMENT',
  });
  assert.deepEqual(
    (await t.flows.schedules()).map(({ name }) => name),
    ['hourly'],
  );
});

test('a schedule without a further time is over, and has a date', async () => {
  await using t = await createTestWorkflows({ definitions: [numbers()] });
  const at = '2023-11-15T00:00:00';
  const set = await t.schedule('once', numbers(), { cron: at, input: 1 });
  assert.equal(set.next.toISOString(), '2023-11-15T00:00:00.000Z');
  await t.advance(5 * HOUR);
  assert.equal(await completedIn(t), 1);
  const [info] = await t.flows.schedules();
  assert.deepEqual([info?.status, info?.next.toISOString()], ['over', set.next.toISOString()]);
  assert.equal((await t.schedule('once', numbers(), { cron: at, input: 1 })).status, 'over');
});
