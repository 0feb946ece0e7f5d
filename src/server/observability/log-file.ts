/**
 * Where log lines go: a file, or standard error.
 *
 * Invariants: writing never throws and never ends the process. A line that cannot be written (disk
 * full, an input/output error) is lost and counted; the first loss is reported on standard error, and
 * the next line that can be written is preceded by the number of lost ones.
 * Cost: one system call a line, synchronous: the last lines before a crash are not lost.
 */
import { closeSync, existsSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

const STANDARD_ERROR = 2;

export class LogFile {
  /** Lines that could not be written, since the last one that could. */
  lost = 0;
  readonly #path: string;
  #descriptor: number | null = null;

  /** An empty path means standard error. */
  constructor(path: string) {
    this.#path = path;
    if (path === '') this.#descriptor = STANDARD_ERROR;
  }

  /** Throws a sentence when the file cannot be opened. */
  open(): void {
    if (this.#descriptor !== null) return;
    try {
      makeDirectory(dirname(this.#path));
      this.#descriptor = openSync(this.#path, 'a');
    } catch (error) {
      throw new Error(`can't open the log file '${this.#path}': ${(error as Error).message}`);
    }
  }

  /** SIGHUP: the file was moved away, and lines go to a new one. Keeps the old one if that fails. */
  reopen(): void {
    if (this.#path === '') return;
    const old = this.#descriptor;
    this.#descriptor = null;
    try {
      this.open();
    } catch (error) {
      this.#descriptor = old;
      throw error;
    }
    if (old !== null) closeSync(old);
  }

  /** Lines, each with its line break. */
  write(text: string): void {
    try {
      this.open();
      if (this.lost > 0) {
        this.#writeAll(
          `${JSON.stringify({ level: 40, msg: `${this.lost} log lines were lost` })}\n`,
        );
        this.lost = 0;
      }
      this.#writeAll(text);
    } catch (error) {
      if (++this.lost === 1 && this.#path !== '') this.#complain(error as Error);
    }
  }

  #writeAll(text: string): void {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(this.#descriptor!, bytes, at);
    }
  }

  #complain({ message }: Error): void {
    try {
      writeSync(
        STANDARD_ERROR,
        `micro: the log file '${this.#path}' cannot be written: ${message}; the server goes on\n`,
      );
    } catch {
      // There is no place left to report it to.
    }
  }
}

/** With its parents. (Node's recursive mkdir never returns where a parent takes no directories, as /proc.) */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  makeDirectory(dirname(path));
  mkdirSync(path);
}
