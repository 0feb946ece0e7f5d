/**
 * Numbers, sizes, durations and times as text.
 *
 * Invariant: a value that is not known is an em dash, never 0. Digits are grouped by thin spaces, so that
 * no locale's comma is taken for another's point.
 */
export const UNKNOWN = '—';

export function count(value: number | string | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  const text = typeof value === 'number' ? String(Math.round(value)) : value;
  return text.replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

/** Few digits: 0.4, 12, 1 204, 15.3 k, 2.1 M. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  if (value < 10) return value.toFixed(1).replace(/\.0$/, '');
  if (value < 10_000) return count(value);
  if (value < 1e6) return `${digits(value / 1e3)}\u202fk`;
  if (value < 1e9) return `${digits(value / 1e6)}\u202fM`;
  return `${digits(value / 1e9)}\u202fG`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  if (value < 1024) return `${Math.round(value)}\u202fB`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let size = value;
  let unit = -1;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${digits(size)}\u202f${units[unit]}`;
}

function digits(value: number): string {
  return value < 100 ? value.toFixed(1).replace(/\.0$/, '') : String(Math.round(value));
}

/** The two largest units: 340 ms, 12.4 s, 3 min 20 s, 2 d 4 h. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return UNKNOWN;
  const value = Math.max(0, ms);
  if (value < 1000)
    return `${value < 10 && value % 1 !== 0 ? value.toFixed(1) : Math.round(value)}\u202fms`;
  if (value < 60_000) return `${digits(value / 1000)}\u202fs`;
  const units: [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1000, 's'],
  ];
  const at = units.findIndex(([size]) => value >= size);
  const [size, name] = units[at] as [number, string];
  const [smaller, smallerName] = units[at + 1] as [number, string];
  const rest = Math.floor((value % size) / smaller);
  const whole = `${Math.floor(value / size)}\u202f${name}`;
  return rest === 0 ? whole : `${whole} ${rest}\u202f${smallerName}`;
}

export function ago(ms: number): string {
  if (ms < -1500) return `in ${duration(-ms)}`;
  return ms < 1500 ? 'now' : `${duration(Math.floor(ms / 1000) * 1000)} ago`;
}

const pad = (value: number, width = 2) => String(value).padStart(width, '0');

/** `2026-11-30 17:04:05.123`, here or UTC (with a Z). */
export function dateTime(at: number, zone: 'local' | 'utc', withMs = true): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return UNKNOWN;
  if (zone === 'utc') {
    const text = date.toISOString().replace('T', ' ');
    return withMs ? text : `${text.slice(0, 19)}Z`;
  }
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return `${day} ${time}${withMs ? `.${pad(date.getMilliseconds(), 3)}` : ''}`;
}

export function clock(at: number, zone: 'local' | 'utc'): string {
  return dateTime(at, zone, false).slice(11);
}

/** "1 message", "2 messages". */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

/** Control and direction characters would change how the text around them reads: they are shown. */
export function visible(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for
    /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (character) => {
      const code = character.charCodeAt(0);
      if (code < 0x20) return String.fromCharCode(0x2400 + code);
      if (code === 0x7f) return '\u2421';
      return `\u2329${code.toString(16).padStart(4, '0')}\u232a`;
    },
  );
}
