/**
 * What people write on a command line, as values: durations, counts, positions, headers, bodies.
 *
 * Invariant: text that is not exactly one of the forms is refused with the forms that there are; no
 * number is rounded or cut. Standard input is read only where the argument is `-`, and at most
 * MAX_STDIN bytes of it.
 */
import type { Position } from '../broker/broker.ts';
import { StreamId } from '../stream/stream-id.ts';
import { usage } from './exit-code.ts';

const MAX_STDIN = 64 * 1024 * 1024;
const LF = 10;
const CR = 13;
const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const LONGEST_MS = 100 * 366 * 86_400_000;

/** `500ms`, `5s`, `1m`, `2h`, `7d`; a bare number is milliseconds. */
export function duration(text: string, option = 'a duration'): number {
  const [, number, unit = 'ms'] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text) ?? [];
  const ms = Number(number) * (UNITS[unit] as number);
  if (ms > 0 && ms <= LONGEST_MS) return ms;
  throw usage(`${option} ${JSON.stringify(text)}: write 500ms, 5s, 1m, 2h or 7d`);
}

/** A duration that a timer can wait for: at most 24 days. */
export function timeout(text: string, option = '--timeout'): number {
  const ms = duration(text, option);
  if (ms < 2 ** 31) return ms;
  throw usage(`${option} ${JSON.stringify(text)}: at most 24d`);
}

/** A whole number from `min` to `max`, in digits only. */
export function count(text: string, option: string, min = 1, max = Number.MAX_SAFE_INTEGER) {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw usage(`${option} ${JSON.stringify(text)}: write a whole number from ${min} to ${max}`);
}

/** `earliest`, `new`, an id, a time (ISO 8601), or how long ago (`1h`). */
export function position(text: string, now: number, option = '--from'): Position {
  if (text === 'earliest' || text === 'new') return text;
  if (/^\d+-\d+$/.test(text) && StreamId.parse(text) !== null) return { id: text };
  if (/^\d+(\.\d+)?(ms|s|m|h|d)$/.test(text)) return { time: new Date(now - duration(text)) };
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text) : null;
  if (time !== null && !Number.isNaN(time.getTime())) return { time };
  const forms = 'earliest, new, an id like 1700000000000-0, a time like 2026-01-31T10:00Z, or 1h';
  throw usage(`${option} ${JSON.stringify(text)}: write ${forms}`);
}

/** `Name: value` or `name=value`, each given once. */
export function headers(texts: readonly string[], option = '--header'): Record<string, string> {
  const found: Record<string, string> = Object.create(null);
  for (const text of texts) {
    const [, name, value] = /^([^:=\s][^:=]*?)\s*[:=]\s*(.*)$/s.exec(text) ?? [];
    if (name === undefined)
      throw usage(`${option} ${JSON.stringify(text)}: write 'Name: value' or name=value`);
    found[name] = value as string;
  }
  return found;
}

/** The bytes of an argument: itself, or standard input where it is `-`. */
export async function body(argument: string): Promise<Buffer> {
  return argument === '-' ? readStdin() : Buffer.from(argument);
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    size += chunk.length;
    if (size > MAX_STDIN) throw usage(`standard input has more than ${MAX_STDIN} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The lines of standard input as bytes, without their ends. Throws for a line of more than 64 MiB. */
export async function* stdinLines(): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, from)) {
      yield withoutCr(Buffer.concat([...rest, chunk.subarray(from, at)]));
      rest = [];
      size = 0;
      from = at + 1;
    }
    size += chunk.length - from;
    if (size > MAX_STDIN) throw usage(`a line of standard input has more than ${MAX_STDIN} bytes`);
    if (from < chunk.length) rest.push(chunk.subarray(from));
  }
  if (size > 0) yield withoutCr(Buffer.concat(rest));
}

function withoutCr(line: Buffer): Buffer {
  return line.at(-1) === CR ? line.subarray(0, -1) : line;
}

export function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
    return true;
  } catch {
    return false;
  }
}
