/**
 * Settings as text: what a `MICRO_*` variable or a flag may say, read as go-micro reads it.
 *
 * Invariant: what cannot be read throws an Error that says what to write; nothing is guessed.
 */

export function text(value: string): string {
  return value;
}

/** Go's durations in one unit or several: `500ms`, `5s`, `1m30s`, `1h`. */
function duration(value: string): number {
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let ms = 0;
  let rest = value;
  while (rest !== '') {
    const [all = '', number, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h)/.exec(rest) ?? [];
    if (all === '') throw new Error('write a duration such as 500ms, 5s or 1m');
    ms += Number(number) * (units[unit] as number);
    rest = rest.slice(all.length);
  }
  if (value === '') throw new Error('write a duration such as 500ms, 5s or 1m');
  return ms;
}

/** Seconds, as go-micro's register flags count; a duration with its unit is understood too. */
function seconds(value: string): number {
  return /^\d+$/.test(value) ? Number(value) * 1000 : duration(value);
}

function whole(value: string): number {
  if (!/^\d{1,15}$/.test(value)) throw new Error('write a whole number');
  return Number(value);
}

/** `key=value,key=value` */
function pairs(value: string): Record<string, string> {
  const map: Record<string, string> = Object.create(null);
  for (const part of value.split(',')) {
    if (part === '') continue;
    const at = part.indexOf('=');
    if (at <= 0) throw new Error('write key=value,key=value');
    map[part.slice(0, at).trim()] = part.slice(at + 1).trim();
  }
  return map;
}

export const words = { duration, seconds, whole, pairs } as const;
