/**
 * The operator's log, formatted by pino: JSON lines, or readable text on a terminal.
 *
 * Levels are Redis's. pino is loaded with the first line that is written, so a server that has
 * nothing to say starts faster; lines wait for it in order. Where it cannot be loaded (no file
 * descriptor is left), lines are written as plain JSON, and loading is tried again later.
 * Invariants: writing a line never throws; at most MAX_WAITING lines wait.
 */
import type { Logger as Pino } from 'pino';
import { LogFile } from './log-file.ts';
import type { Logger, LogLevel } from './logger.ts';

const RANK: Record<LogLevel | 'nothing', number> = {
  debug: 0,
  verbose: 1,
  notice: 2,
  warning: 3,
  nothing: 4,
};
const PINO_LEVEL = { debug: 'trace', verbose: 'debug', notice: 'info', warning: 'warn' } as const;
/** pino's numbers for them. */
const NUMBER = { debug: 10, verbose: 20, notice: 30, warning: 40 } as const;
/** Lines that wait for pino; beyond that they are written as plain JSON. */
const MAX_WAITING = 1000;

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export type LoadFormatter = (file: LogFile, readable: boolean) => Promise<Pino>;

export class PinoLogger implements Logger {
  #rank = RANK.notice;
  readonly #file: LogFile;
  readonly #readable: boolean;
  readonly #load: LoadFormatter;
  #waiting: Line[] = [];
  #pino: Pino | null = null;
  #loading: Promise<void> | null = null;

  /** An empty `path` means standard error. */
  constructor(path: string, load: LoadFormatter = loadPino) {
    this.#file = new LogFile(path);
    this.#readable = path === '' && process.stderr.isTTY === true;
    this.#load = load;
  }

  /** Throws a sentence when the log file cannot be opened. */
  open(): void {
    this.#file.open();
  }

  /** SIGHUP: lines go to a new file of the same name. */
  reopen(): void {
    this.#file.reopen();
  }

  setLevel(level: string): void {
    this.#rank = RANK[level as LogLevel] ?? RANK.notice;
  }

  write(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (RANK[level] < this.#rank) return;
    const line = { level, message, fields };
    if (this.#pino !== null) this.#write(line);
    else if (this.#waiting.length < MAX_WAITING) {
      this.#waiting.push(line);
      this.#loading ??= this.#loadAndWrite();
    } else this.#writePlain(line);
  }

  /** Resolves when every line is written. */
  async flush(): Promise<void> {
    while (this.#loading !== null) await this.#loading;
  }

  async #loadAndWrite(): Promise<void> {
    try {
      this.#pino = await this.#load(this.#file, this.#readable);
    } catch {
      // The next line tries again.
    }
    this.#loading = null;
    for (const line of this.#waiting.splice(0)) this.#write(line);
  }

  #write(line: Line): void {
    if (this.#pino === null) {
      this.#writePlain(line);
      return;
    }
    try {
      this.#pino[PINO_LEVEL[line.level]](line.fields, line.message);
    } catch {
      this.#writePlain(line);
    }
  }

  #writePlain({ level, message, fields }: Line): void {
    let more = {};
    try {
      more = JSON.parse(JSON.stringify(fields));
    } catch {
      // What cannot be shown is left out.
    }
    const line = {
      level: NUMBER[level],
      time: Date.now(),
      pid: process.pid,
      ...more,
      msg: message,
    };
    this.#file.write(`${JSON.stringify(line)}\n`);
  }
}

async function loadPino(file: LogFile, readable: boolean): Promise<Pino> {
  const { pino } = await import('pino');
  let write = (text: string): void => file.write(text);
  if (readable) {
    const { default: pretty } = await import('pino-pretty');
    const format = pretty.prettyFactory({ ignore: 'pid,hostname', singleLine: true });
    write = (text) => file.write(format(text) ?? text);
  }
  return pino({ level: 'trace', base: { pid: process.pid } }, { write });
}
