/** Schedules where clocks change: in both hemispheres, by an hour and by half of one, at night and at midnight. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workflow } from '../../../src/workflow/index.ts';
import { CronClock } from '../../../src/workflow/schedules/cron-clock.ts';
import { createTestWorkflows } from '../../../src/workflow/testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

interface Change {
  readonly zone: string;
  /** Half a day before the change, and a day and a half after. */
  readonly from: string;
  /** Minutes by which clocks are set forward, or back where it is negative. */
  readonly by: number;
}

const CHANGES: readonly Change[] = [
  { zone: 'Europe/Berlin', from: '2026-03-28T13:00Z', by: 60 },
  { zone: 'Europe/Berlin', from: '2026-10-24T13:00Z', by: -60 },
  { zone: 'America/New_York', from: '2026-03-07T19:00Z', by: 60 },
  { zone: 'America/New_York', from: '2026-10-31T18:00Z', by: -60 },
  { zone: 'Australia/Sydney', from: '2026-10-03T04:00Z', by: 60 },
  { zone: 'Australia/Sydney', from: '2026-04-04T04:00Z', by: -60 },
  { zone: 'Australia/Lord_Howe', from: '2026-10-03T03:30Z', by: 30 },
  { zone: 'Australia/Lord_Howe', from: '2026-04-04T03:00Z', by: -30 },
  // At midnight.
  { zone: 'America/Santiago', from: '2026-09-05T16:00Z', by: 60 },
  { zone: 'America/Santiago', from: '2026-04-04T15:00Z', by: -60 },
];

function timesOf(clock: CronClock, from: number, ms = 48 * HOUR): number[] {
  const times: number[] = [];
  for (let at = clock.next(from); at !== null && at <= from + ms; at = clock.next(at)) {
    times.push(at);
  }
  return times;
}

/** `25 02:30`: day, hour and minute by the clocks of the zone. */
function localOf(zone: string, at: number): string {
  const options = { timeZone: zone, hourCycle: 'h23' } as const;
  const numbers = { day: '2-digit', hour: '2-digit', minute: '2-digit' } as const;
  return new Intl.DateTimeFormat('en-GB', { ...options, ...numbers }).format(at).replace(',', '');
}

/** By the definition, one minute after the other: the times of `minutes` of `hours`, or of any hour. */
function definedTimes(
  zone: string,
  from: number,
  minutes: readonly number[],
  hours: readonly number[] | '*',
): number[] {
  const isNamed = (shown: number) => {
    const [hour, minute] = [new Date(shown).getUTCHours(), new Date(shown).getUTCMinutes()];
    return minutes.includes(minute) && (hours === '*' || hours.includes(hour));
  };
  const format = new Intl.DateTimeFormat('sv', {
    ...{ timeZone: zone, dateStyle: 'short', timeStyle: 'short' },
  });
  const shownAt = (at: number) => Date.parse(`${format.format(at).replace(' ', 'T')}Z`);
  const seen = new Set<number>();
  const due = new Set<number>();
  let expected = shownAt(from);
  for (let at = from; at < from + 36 * HOUR; at += MINUTE) {
    const shown = shownAt(at);
    // Clocks were set forward: what they left out moves by as much.
    for (let left = expected; left < shown; left += MINUTE) {
      if (isNamed(left)) due.add(at + left - expected);
    }
    if (isNamed(shown) && (hours === '*' || !seen.has(shown))) due.add(at);
    seen.add(shown);
    expected = shown + MINUTE;
  }
  return [...due].sort((a, b) => a - b);
}

for (const { zone, from, by } of CHANGES) {
  const begin = Date.parse(from);
  const where = `${zone}, ${by > 0 ? 'forward' : 'back'} by ${Math.abs(by)} minutes`;

  test(`what runs each quarter of an hour or each minute does so all the time: ${where}`, () => {
    for (const [cron, minutes] of [
      ['*/15 * * * *', 15],
      ['* * * * *', 1],
      ['30 */5 * * * *', 5],
    ] as const) {
      const times = timesOf(new CronClock(cron, zone), begin + 10 * HOUR, 4 * HOUR);
      const gaps = new Set(times.slice(1).map((at, i) => (at - (times[i] as number)) / MINUTE));
      assert.deepEqual([...gaps], [minutes], cron);
      assert.ok(times.length >= (4 * 60) / minutes - 1);
    }
  });

  test(`what runs at a time of the day runs once a day: ${where}`, () => {
    for (let minute = 0; minute < 4 * 60; minute += 30) {
      const [h, m] = [Math.floor(minute / 60), minute % 60];
      const cron = `${m} ${h} * * *`;
      const times = timesOf(new CronClock(cron, zone), begin);
      const days = times.map((at) => localOf(zone, at).slice(0, 2));
      assert.equal(
        new Set(days).size,
        days.length,
        `${cron}: ${times.map((at) => localOf(zone, at))}`,
      );
      const named = `${String(h).padStart(2, '0')}:${String(m).padStart(2, '0')}`;
      const others = times.map((at) => localOf(zone, at).slice(3)).filter((at) => at !== named);
      // Only where clocks are set forward, and only once, a time does not exist.
      assert.ok(others.length <= (by > 0 ? 1 : 0), `${cron}: ${others}`);
      assert.ok(times.length >= 1, cron);
    }
  });

  test(`from whatever moment on, the next time is that of the definition: ${where}`, () => {
    for (const [cron, minutes, hours] of [
      ['0,30 2 * * *', [0, 30], [2]],
      ['30 1,2 * * *', [30], [1, 2]],
      ['10,35 0,2,23 * * *', [10, 35], [0, 2, 23]],
      ['*/20 0-3 * * *', [0, 20, 40], [0, 1, 2, 3]],
      ['*/20 * * * *', [0, 20, 40], '*'],
    ] as const) {
      const times = definedTimes(zone, begin, minutes, hours);
      const last = times.at(-1) as number;
      const clock = new CronClock(cron, zone);
      for (let after = begin; after < last; after += 7 * MINUTE) {
        const next = clock.next(after) as number;
        const expected = times.find((at) => at > after) as number;
        assert.equal(localOf(zone, next), localOf(zone, expected), `${cron} ${new Date(after)}`);
        assert.equal(next, expected, cron);
      }
    }
  });

  test(`the newest times are those that come one after the other: ${where}`, () => {
    for (const cron of ['*/15 * * * *', '0 * * * *', '30 2 * * *', '*/20 1-3 * * *']) {
      const clock = new CronClock(cron, zone);
      const times = timesOf(clock, begin + 8 * HOUR, 40 * HOUR);
      const first = times[0] as number;
      for (let until = begin + 9 * HOUR; until <= begin + 17 * HOUR; until += 73 * MINUTE) {
        if (until < first) continue;
        const known = times.filter((at) => at <= until);
        for (const most of [1, 4]) {
          assert.deepEqual(clock.newest(first, until, most), known.slice(-most), cron);
        }
      }
    }
  });

  test(`runs that were missed while clocks changed are made up for, each once: ${where}`, async () => {
    const ran: string[] = [];
    const flow = workflow({ name: 'tick' }, async (wf) => {
      await wf.step('note', () => ran.push(wf.id));
    });
    // Ten hours later they have not changed yet, and sixteen hours later they have.
    const now = new Date(begin + 10 * HOUR);
    await using t = await createTestWorkflows({ definitions: [flow], now });
    const rule = { cron: '*/15 * * * *', timeZone: zone, overlap: 'allow', catchUp: 40 } as const;
    await t.schedule('quarter', flow, rule);
    await t.kill();
    await t.advance(6 * HOUR);
    await t.restart();
    await t.advance(1000);
    assert.equal(ran.length, new Set(ran).size);
    assert.equal(ran.length, 24);
    const [counts] = await t.counts('tick');
    assert.deepEqual([counts?.running, counts?.done], [0, 24]);
  });
}

test('an hour that comes twice is due twice where the hour is any hour, and once elsewhere', () => {
  const begin = Date.parse('2026-10-25T00:15Z');
  const timesIn = (cron: string) =>
    timesOf(new CronClock(cron, 'Europe/Berlin'), begin)
      .slice(0, 3)
      .map((at) => new Date(at).toISOString().slice(8, 16));
  assert.deepEqual(timesIn('30 * * * *'), ['25T00:30', '25T01:30', '25T02:30']);
  assert.deepEqual(timesIn('30 2 * * *'), ['25T00:30', '26T01:30']);
  assert.deepEqual(timesIn('30 1-3 * * *'), ['25T00:30', '25T02:30', '26T00:30']);
  assert.deepEqual(timesIn('@hourly'), ['25T01:00', '25T02:00', '25T03:00']);
});

test('a schedule that is set in an hour that comes twice begins with a time that is to come', async () => {
  const ran: string[] = [];
  const flow = workflow({ name: 'tick' }, async (wf) => {
    await wf.step('note', () => ran.push(wf.id.slice(-13, -8)));
  });
  // It is 2:05 for the second time.
  const now = new Date('2026-10-25T01:05:00Z');
  await using t = await createTestWorkflows({ definitions: [flow], now });
  const timeZone = 'Europe/Berlin';
  await t.schedule('a', flow, { cron: '30 2 * * *', timeZone });
  const { next } = await t.flows.schedule('b', flow, { cron: '30 * * * *', timeZone });
  assert.equal(next.toISOString(), '2026-10-25T01:30:00.000Z');
  await t.advance(2 * HOUR);
  assert.deepEqual(ran, ['01:30', '02:30']);
  await t.advance(23 * HOUR);
  assert.equal(ran.filter((at) => at === '01:30').length, 3);
});

test('the newest times of a rare schedule and of one of every second take few looks', () => {
  const until = Date.parse('2026-07-01T00:00Z');
  const rare = new CronClock('0 0 29 2 *', 'UTC');
  const leap = Date.parse('2024-02-29T00:00Z');
  assert.deepEqual(rare.newest(leap, until, 3), [leap]);
  assert.deepEqual(rare.newest(leap, leap - 1, 3), []);
  const busy = new CronClock('* * * 1 1 *', 'UTC');
  let asked = 0;
  const { next } = busy;
  busy.next = (after) => {
    asked++;
    return next.call(busy, after);
  };
  const last = Date.parse('2026-01-01T23:59:59Z');
  assert.deepEqual(busy.newest(Date.parse('2021-01-01T00:00Z'), until, 2), [last - 1000, last]);
  assert.ok(asked < 5000, `${asked} times were asked for`);
});

test('a schedule goes on through the hour that comes twice, with a worker', async () => {
  const ran: string[] = [];
  const flow = workflow({ name: 'tick' }, async (wf) => {
    await wf.step('note', () => ran.push(wf.id.slice(-13, -8)));
  });
  const now = new Date('2026-10-25T00:20:00Z');
  await using t = await createTestWorkflows({ definitions: [flow], now });
  const timeZone = 'Europe/Berlin';
  await t.schedule('quarter', flow, { cron: '*/15 * * * *', timeZone, catchUp: 10 });
  await t.advance(2 * HOUR);
  assert.deepEqual(ran, ['00:30', '00:45', '01:00', '01:15', '01:30', '01:45', '02:00', '02:15']);
});

test('a day that no month has is no time, however many months are named', async () => {
  const flow = workflow({ name: 'tick' }, async () => {});
  const now = new Date('2026-06-01T00:00:00Z');
  await using t = await createTestWorkflows({ definitions: [flow], now });
  for (const cron of ['0 0 30 2 *', '0 0 31 2,4,6,9,11 *']) {
    const timeZone = 'Europe/Berlin';
    await assert.rejects(t.flows.schedule('never', flow, { cron, timeZone }), {
      code: 'INVALID_ARGUMENT',
      message: /no time that is to come/,
    });
  }
});

test('a moment is a schedule of one time, which has no next one', () => {
  const clock = new CronClock('2027-03-28T02:30:00', 'Europe/Berlin');
  const at = Date.parse('2027-03-28T01:30Z');
  assert.equal(clock.next(Date.parse('2026-01-01T00:00Z')), at);
  assert.equal(clock.next(at), null);
});
