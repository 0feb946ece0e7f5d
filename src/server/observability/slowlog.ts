/**
 * The slow log: the latest commands that took longer than a threshold, newest first.
 *
 * Cost: one compare per command that is not slow. Kept arguments are cut as Redis cuts them: at most
 * 32 of them, 128 bytes each; passwords are not among them.
 */
export interface SlowCommand {
  readonly id: number;
  /** Unix seconds. */
  readonly at: number;
  readonly microseconds: number;
  readonly args: readonly Buffer[];
  readonly address: string;
  readonly clientName: string;
}

const ARGUMENTS_MAX = 32;
const ARGUMENT_MAX = 128;

export class Slowlog {
  /** Microseconds; negative = off. */
  threshold = 10_000;
  entries: SlowCommand[] = [];
  #max = 128;
  #nextId = 0;

  setMax(max: number): void {
    this.#max = max;
    if (this.entries.length > max) this.entries.length = max;
  }

  add(
    microseconds: number,
    args: readonly Buffer[],
    context: { at: number; address: string; clientName: string },
  ): void {
    if (this.#max === 0) return;
    this.entries.unshift({ id: this.#nextId++, microseconds, args: cut(args), ...context });
    if (this.entries.length > this.#max) this.entries.length = this.#max;
  }

  clear(): void {
    this.entries = [];
  }
}

function cut(args: readonly Buffer[]): Buffer[] {
  const shown = args.length > ARGUMENTS_MAX ? ARGUMENTS_MAX - 1 : args.length;
  const kept: Buffer[] = [];
  for (const bytes of args.slice(0, shown)) {
    if (bytes.length <= ARGUMENT_MAX) {
      kept.push(Buffer.from(bytes));
    } else {
      const more = `... (${bytes.length - ARGUMENT_MAX} more bytes)`;
      kept.push(Buffer.concat([bytes.subarray(0, ARGUMENT_MAX), Buffer.from(more)]));
    }
  }
  if (shown < args.length) kept.push(Buffer.from(`... (${args.length - shown} more arguments)`));
  return kept;
}
