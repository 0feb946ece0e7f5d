/**
 * A bar for work that takes a while: on a terminal only, rewritten at most ten times a second.
 *
 * Invariant: it is written to standard error and erased when the work ends, so that a pipe or a log file
 * never holds a part of it.
 */
const WIDTH = 24;
const EVERY_MS = 100;

export class Progress {
  readonly #what: string;
  readonly #stream: NodeJS.WriteStream;
  readonly #startedAt = performance.now();
  #shownAt = Number.NEGATIVE_INFINITY;

  constructor(what: string, stream = process.stderr) {
    this.#what = what;
    this.#stream = stream;
  }

  /** `done` of `total`, a total of 0 being unknown; `unit` follows the count. */
  show(done: number, total: number, unit = ''): void {
    const now = performance.now();
    if (this.#stream.isTTY !== true || now - this.#shownAt < EVERY_MS) return;
    this.#shownAt = now;
    const seconds = (now - this.#startedAt) / 1000;
    const rate = seconds > 0 ? Math.round(done / seconds) : 0;
    const share = total > 0 ? Math.min(1, done / total) : 0;
    const full = Math.round(share * WIDTH);
    const bar = `[${'#'.repeat(full)}${' '.repeat(WIDTH - full)}] ${Math.floor(share * 100)}%`;
    const left = share > 0 ? `, ${Math.ceil((seconds / share) * (1 - share))} s left` : '';
    const text = `${this.#what} ${total > 0 ? `${bar} ` : ''}${done}${total > 0 ? `/${total}` : ''} ${unit}, ${rate}/s${left}`;
    this.#stream.write(`\r\x1b[K${text.slice(0, (this.#stream.columns ?? 80) - 1)}`);
  }

  /** Removes the bar. */
  end(): void {
    if (this.#shownAt > Number.NEGATIVE_INFINITY) this.#stream.write('\r\x1b[K');
  }
}
