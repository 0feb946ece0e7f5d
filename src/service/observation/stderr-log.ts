/**
 * A log on standard error: one JSON object a line, from a level on.
 *
 * Invariant: a line holds no line break, and writing one never throws. Cost: one JSON.stringify.
 */
import type { Log } from '../../rpc/context.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
type Level = (typeof LOG_LEVELS)[number];

export function stderrLog(from: Level, scheduler: Scheduler): Log {
  const least = LOG_LEVELS.indexOf(from);
  const write = (level: Level) => (fields: object | string, text?: string) => {
    if (LOG_LEVELS.indexOf(level) < least) return;
    const message = typeof fields === 'string' ? fields : text;
    const more = typeof fields === 'string' ? {} : fields;
    process.stderr.write(`${lineOf({ time: scheduler.now(), level, ...more, msg: message })}\n`);
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}

function lineOf(record: object): string {
  try {
    return JSON.stringify(record, (_key, value) => {
      if (value instanceof Error) return value.message;
      return typeof value === 'bigint' ? String(value) : value;
    });
  } catch (error) {
    return JSON.stringify({ level: 'error', msg: `a record has no JSON form: ${String(error)}` });
  }
}
