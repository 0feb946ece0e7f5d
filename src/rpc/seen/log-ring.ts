/**
 * The log of a service: the last records, for Debug.Log, and whatever stands behind it.
 *
 * Holds: the last `MAX_RECORDS` records, each at most 8 KiB of text. Invariants: a record reaches the
 * ring and, where there is one, the log of the user; a log that throws fails no call; a follower that
 * does not read holds at most `MAX_RECORDS` records. Cost: one object per record.
 */
import { errorText } from '../../util/error-text.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { Log } from '../context.ts';

export type Level = 'debug' | 'info' | 'warn' | 'error';

export interface LogRecord {
  /** Unix milliseconds. */
  readonly at: number;
  readonly level: Level;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

const MAX_RECORDS = 1000;
const MAX_TEXT = 8192;

export class LogRing implements Log {
  readonly #scheduler: Scheduler;
  readonly #behind: Log | null;
  readonly #records: LogRecord[] = [];
  readonly #followers = new Set<(record: LogRecord) => void>();

  constructor(scheduler: Scheduler, behind: Log | null) {
    this.#scheduler = scheduler;
    this.#behind = behind;
  }

  debug(fields: object | string, text?: string): void {
    this.#write('debug', fields, text);
  }

  info(fields: object | string, text?: string): void {
    this.#write('info', fields, text);
  }

  warn(fields: object | string, text?: string): void {
    this.#write('warn', fields, text);
  }

  error(fields: object | string, text?: string): void {
    this.#write('error', fields, text);
  }

  /** The log of one call: every record says which. */
  child(bound: Readonly<Record<string, string>>): Log {
    const write = (level: Level) => (fields: object | string, text?: string) => {
      if (typeof fields === 'string') this.#write(level, bound, fields);
      else {
        const written = asWritten(fields, text);
        if (typeof written.fields === 'string') this.#write(level, bound, written.fields);
        else this.#write(level, { ...bound, ...written.fields }, written.text);
      }
    };
    return {
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
    };
  }

  /** The last `count` records that are not older than `sinceMs`, oldest first. */
  records(count = MAX_RECORDS, sinceMs = Number.POSITIVE_INFINITY): LogRecord[] {
    const from = this.#scheduler.now() - sinceMs;
    const young = this.#records.filter(({ at }) => at >= from);
    return count > 0 ? young.slice(-count) : young;
  }

  /** Records from now on; the returned function ends that. */
  follow(listener: (record: LogRecord) => void): () => void {
    this.#followers.add(listener);
    return () => this.#followers.delete(listener);
  }

  #write(level: Level, given: object | string, said: string | undefined): void {
    const { fields, text } = asWritten(given, said);
    const message = (typeof fields === 'string' ? fields : errorText(text ?? '')).slice(
      0,
      MAX_TEXT,
    );
    const record: LogRecord = {
      at: this.#scheduler.now(),
      level,
      message,
      fields: typeof fields === 'string' ? {} : textsOf(fields),
    };
    this.#records.push(record);
    if (this.#records.length > MAX_RECORDS) this.#records.shift();
    for (const follower of this.#followers) follower(record);
    try {
      this.#behind?.[level](fields, text);
    } catch {
      // A log that cannot be written must not fail what it is about.
    }
  }
}

/** As pino takes them: an error alone gives its text, and what is no object is the text itself. */
function asWritten(
  fields: unknown,
  text: string | undefined,
): { readonly fields: object | string; readonly text: string | undefined } {
  if (fields instanceof Error)
    return { fields: { error: fields }, text: text ?? errorText(fields) };
  if (typeof fields === 'object' && fields !== null) return { fields, text };
  return text === undefined ? { fields: errorText(fields), text } : { fields: {}, text };
}

function textsOf(fields: object): Record<string, string> {
  const texts: Record<string, string> = Object.create(null);
  for (const name of Object.keys(fields).slice(0, 50)) {
    texts[name] = textOf(fields, name).slice(0, MAX_TEXT);
  }
  return texts;
}

/** Handlers log what they have: also what throws when it is read or written as text. */
function textOf(fields: object, name: string): string {
  try {
    const value: unknown = fields[name as keyof typeof fields];
    if (typeof value === 'string') return value;
    if (value instanceof Error) return errorText(value);
    return JSON.stringify(value) ?? String(value);
  } catch (error) {
    return errorText(error);
  }
}
