/**
 * The operator's log, written by pino: JSON lines, or readable text on a terminal.
 *
 * Levels are Redis's. pino is loaded with the first line that is written, so a server that has
 * nothing to say starts faster; lines wait for it in order. Writing is synchronous: the last words
 * before a crash are not lost.
 */
import type { Logger as Pino } from 'pino';
import type { Logger, LogLevel } from './logger.ts';

const RANK: Record<LogLevel | 'nothing', number> = {
  debug: 0,
  verbose: 1,
  notice: 2,
  warning: 3,
  nothing: 4,
};
const PINO_LEVEL = { debug: 'trace', verbose: 'debug', notice: 'info', warning: 'warn' } as const;

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export class PinoLogger implements Logger {
  #rank = RANK.notice;
  readonly #file: string;
  #waiting: Line[] | null = null;
  #pino: Pino | null = null;

  /** An empty `file` means standard error. */
  constructor(file: string) {
    this.#file = file;
  }

  setLevel(level: string): void {
    this.#rank = RANK[level as LogLevel] ?? RANK.notice;
  }

  write(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (RANK[level] < this.#rank) return;
    if (this.#pino !== null) {
      this.#pino[PINO_LEVEL[level]](fields, message);
      return;
    }
    if (this.#waiting === null) {
      this.#waiting = [];
      void this.#load();
    }
    this.#waiting.push({ level, message, fields });
  }

  /** Resolves when every line is written. */
  async flush(): Promise<void> {
    if (this.#waiting !== null) await this.#load();
  }

  #loading: Promise<void> | null = null;

  #load(): Promise<void> {
    this.#loading ??= this.#open();
    return this.#loading;
  }

  async #open(): Promise<void> {
    const { pino } = await import('pino');
    const readable = this.#file === '' && process.stderr.isTTY === true;
    const destination = readable
      ? (await import('pino-pretty')).default({
          destination: 2,
          sync: true,
          ignore: 'pid,hostname',
          singleLine: true,
        })
      : pino.destination({ dest: this.#file === '' ? 2 : this.#file, sync: true, mkdir: true });
    this.#pino = pino({ level: 'trace', base: { pid: process.pid } }, destination);
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const { level, message, fields } of waiting) {
      this.#pino[PINO_LEVEL[level]](fields, message);
    }
  }
}
