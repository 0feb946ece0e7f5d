/**
 * When a cron expression is due in a time zone. croner finds times as those of a clock that is never set; which
 * moments these are, and what becomes of them where clocks are set, is found here.
 *
 * A time that does not exist, because clocks are set forward, moves by as much. A time that comes twice, because
 * they are set back, is due the first time; where the hour is `*` it is due both times: what runs each quarter of
 * an hour goes on doing so. Cost: some tens of microseconds for each time that is asked for.
 */
import { Cron } from 'croner';
import { invalid, shown as quoted } from '../../client/option-table.ts';
import { messageOf } from '../errors.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Clocks are set forward or back by less than this. */
const MOST_SET_MS = 3 * HOUR;

interface Change {
  /** Unix ms. */
  readonly at: number;
  /** Below 0 where clocks are set back. */
  readonly by: number;
  /** What the clocks were ahead of UTC by before, ms. */
  readonly ahead: number;
}

/** What a zone's clocks are ahead of UTC by, ms; where they are set in the hours around, before that. */
interface Around {
  readonly ahead: number;
  readonly change: Change | null;
}

export class CronClock {
  readonly #unset: Cron;
  /** Where the expression is one moment. */
  readonly #once: Cron | null;
  readonly #everyHour: boolean;
  readonly #parts: Intl.DateTimeFormat;
  /** What was found around one hour (Unix hours): most questions are about the same one. */
  #near: { readonly hour: number; readonly around: Around } | null = null;

  /** Throws INVALID_ARGUMENT. */
  constructor(cron: string, timeZone: string) {
    try {
      this.#parts = new Intl.DateTimeFormat('en', {
        ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric' },
        ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
      });
      this.#unset = new Cron(cron, { utcOffset: 0, paused: true });
      const isOnce = /^[^@\s]+$/.test(cron.trim());
      this.#once = isOnce ? new Cron(cron, { timezone: timeZone, paused: true }) : null;
    } catch (error) {
      const text = `${quoted(cron)} in ${quoted(timeZone)} is no schedule: ${messageOf(error)}`;
      throw invalid(text);
    }
    this.#everyHour = hourOf(cron) === '*';
  }

  /** Unix ms of the first time after; null where there is none. */
  next(after: number): number | null {
    if (this.#once !== null) return plainNext(this.#once, after);
    const { ahead, change } = this.#around(after);
    if (change === null) return this.#far(after, ahead);
    const { at, by } = change;
    if (after >= at + Math.abs(by)) return this.#far(after, ahead + by);
    return this.#through(change, after) ?? this.#beyond(change);
  }

  /** The first time after, where clocks are not set soon after it. */
  #far(after: number, ahead: number): number | null {
    const found = this.#unsetNext(after, ahead);
    if (found === null) return null;
    const there = this.#around(found);
    if (there.change === null) return found + ahead - there.ahead;
    const { at, by } = there.change;
    if (after >= at + Math.abs(by) - 1) return found;
    // Nothing is due from `after` until hours before the change.
    return (
      this.#through(there.change, Math.max(after, at - 4 * MOST_SET_MS)) ??
      this.#beyond(there.change)
    );
  }

  /** The first time after a change, once what it moves or repeats is over. */
  #beyond({ at, by, ahead }: Change): number | null {
    return this.#far(at + Math.abs(by) - 1, ahead + by);
  }

  /** The first time after that is before a change, moved by it, or repeated by it. */
  #through({ at, by, ahead }: Change, after: number): number | null {
    const end = at + Math.abs(by);
    const before = this.#unsetNext(after, ahead);
    if (by < 0 && before !== null && before < at) return before;
    if (by < 0 && !this.#everyHour) return null;
    const since = this.#unsetNext(Math.max(after, at - 1), ahead + by);
    // By clocks that were not set forward, times that do not exist come after the change.
    const first = Math.min(since ?? end, by < 0 ? end : (before ?? end));
    return first < end ? first : null;
  }

  /** The first time after, as if clocks were ahead of UTC by this for ever. */
  #unsetNext(after: number, ahead: number): number | null {
    const shown = plainNext(this.#unset, after + ahead);
    return shown === null ? null : shown - ahead;
  }

  /** The newest `most` times of those from `from`, which is one, until `until`; the oldest first. */
  newest(from: number, until: number, most: number): number[] {
    const enough = 4 * most + 64;
    const whole = Math.max(MINUTE, until - from + 1);
    let few = 0;
    let many = Number.POSITIVE_INFINITY;
    // How far back they reach is searched for: never are all that were missed looked at.
    for (let span = MINUTE; ; ) {
      const begin = Math.max(from, until - span);
      const found: number[] = [];
      let at = begin === from ? from : this.next(begin - 1);
      while (at !== null && at <= until && found.length <= enough) {
        found.push(at);
        at = this.next(at);
      }
      const areAll = at === null || at > until;
      if (areAll && (found.length >= most || begin === from)) return found.slice(-most);
      // No two times are within a second, so what is too few is never next to what is too many.
      if (areAll) few = span;
      else many = span;
      span = few > 0 && 4 * few < many ? Math.min(whole, 4 * few) : Math.ceil((few + many) / 2);
    }
  }

  #around(time: number): Around {
    const hour = Math.floor(time / HOUR);
    if (this.#near?.hour !== hour) this.#near = { hour, around: this.#aroundHour(hour * HOUR) };
    return this.#near.around;
  }

  #aroundHour(hour: number): Around {
    let [first, last] = [hour - MOST_SET_MS, hour + HOUR + MOST_SET_MS];
    const ahead = this.#offset(first);
    const by = this.#offset(last) - ahead;
    if (by === 0) return { ahead, change: null };
    while (last - first > 1) {
      const middle = Math.floor((first + last) / 2);
      if (this.#offset(middle) === ahead) first = middle;
      else last = middle;
    }
    return { ahead, change: { at: last, by, ahead } };
  }

  /** What the zone's clocks are ahead of UTC by, ms. */
  #offset(at: number): number {
    const second = Math.floor(at / 1000) * 1000;
    const parts = this.#parts.formatToParts(second);
    const of = (type: string) => Number(parts.find((part) => part.type === type)?.value);
    const local = Date.UTC(
      ...([of('year'), of('month') - 1, of('day')] as [number, number, number]),
      ...[of('hour'), of('minute'), of('second')],
    );
    return local - second;
  }
}

function plainNext(cron: Cron, after: number): number | null {
  try {
    return cron.nextRun(new Date(after))?.getTime() ?? null;
  } catch (error) {
    // It calls itself once for each month that has no such day.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function hourOf(cron: string): string | undefined {
  const fields = cron.trim().split(/\s+/);
  if (fields.length === 1) return fields[0] === '@hourly' ? '*' : undefined;
  return fields.length === 5 ? fields[1] : fields[2];
}
