/**
 * When a cron expression is due in a time zone. croner knows expressions and zones; what it leaves to do is the
 * hour that comes twice.
 *
 * A time that does not exist, because clocks are set forward, moves by as much. A time that comes twice, because
 * they are set back, is due the first time; where the hour is `*` it is due both times: what runs each quarter of
 * an hour goes on doing so. Cost: a few microseconds for each time that is asked for.
 */
import { Cron } from 'croner';
import { invalid, shown as quoted } from '../../client/option-table.ts';
import { messageOf } from '../errors.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Clocks are set forward or back by less than this. */
const MOST_SET_MS = 3 * HOUR;

interface SetBack {
  /** Unix ms. */
  readonly at: number;
  readonly ms: number;
  /** What the clocks were ahead of UTC by before, ms. */
  readonly ahead: number;
}

export class CronClock {
  readonly #cron: Cron;
  readonly #unset: Cron;
  readonly #everyHour: boolean;
  readonly #parts: Intl.DateTimeFormat;
  /** What was found around one hour (Unix hours): most questions are about the same one. */
  #near: { readonly hour: number; readonly change: SetBack | null } | null = null;

  /** Throws INVALID_ARGUMENT. */
  constructor(cron: string, timeZone: string) {
    try {
      // It says what is wrong with the zone; Cron would, with its first time.
      this.#parts = new Intl.DateTimeFormat('en', {
        ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric' },
        ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
      });
      this.#cron = new Cron(cron, { timezone: timeZone, paused: true });
      this.#unset = new Cron(cron, { timezone: 'UTC', paused: true });
    } catch (error) {
      const text = `${quoted(cron)} in ${quoted(timeZone)} is no schedule: ${messageOf(error)}`;
      throw invalid(text);
    }
    this.#everyHour = hourOf(cron) === '*';
  }

  /** Unix ms of the first time after; null where there is none. */
  next(after: number): number | null {
    const change = this.#changeNear(after);
    if (change === null || after >= change.at + change.ms) return plainNext(this.#cron, after);
    // Of a time that comes twice croner knows one, also where that has passed: such times are found as those of
    // a clock that is never set, which shows what the zone's clocks show.
    const { at, ms, ahead } = change;
    const shown = plainNext(this.#unset, after + ahead);
    if (after < at && shown !== null && shown < at + ahead) return shown - ahead;
    if (this.#everyHour) {
      const again = plainNext(this.#unset, Math.max(after, at - 1) + ahead - ms);
      if (again !== null && again < at + ahead) return again - ahead + ms;
    }
    return plainNext(this.#cron, at + ms - 1000);
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
      let at = begin === from ? from : this.#firstFrom(begin);
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

  /** A time that has moved is found only by a search that begins before the time that does not exist. */
  #firstFrom(begin: number): number | null {
    const isNear = this.#offset(begin) > this.#offset(begin - MOST_SET_MS);
    let at = this.next(isNear ? begin - MOST_SET_MS : begin - 1);
    while (at !== null && at < begin) at = this.next(at);
    return at;
  }

  #changeNear(time: number): SetBack | null {
    const hour = Math.floor(time / HOUR);
    if (this.#near?.hour !== hour) this.#near = { hour, change: this.#setBackNear(hour * HOUR) };
    return this.#near.change;
  }

  /** When clocks are set back in the hours around, and by how much. */
  #setBackNear(hour: number): SetBack | null {
    let [first, last] = [hour - MOST_SET_MS, hour + HOUR + MOST_SET_MS];
    const before = this.#offset(first);
    const ms = before - this.#offset(last);
    if (ms <= 0) return null;
    while (last - first > 1) {
      const middle = Math.floor((first + last) / 2);
      if (this.#offset(middle) === before) first = middle;
      else last = middle;
    }
    return { at: last, ms, ahead: before };
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
  return cron.nextRun(new Date(after))?.getTime() ?? null;
}

function hourOf(cron: string): string | undefined {
  const fields = cron.trim().split(/\s+/);
  if (fields.length === 1) return fields[0] === '@hourly' ? '*' : undefined;
  return fields.length === 5 ? fields[1] : fields[2];
}
