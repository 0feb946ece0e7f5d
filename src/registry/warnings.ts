/**
 * What a registry found wrong with records of other programs: each place is reported once.
 *
 * Invariant: at most `MAX_REPORTED` places are remembered; beyond them nothing is reported, because
 * a registry full of bad records must not fill the log. Cost: one set look-up per bad record.
 */

const MAX_REPORTED = 1000;

export type WarningListener = (error: Error) => void;

export class Warnings {
  readonly #registry: string;
  readonly #listener: WarningListener;
  readonly #reported = new Set<string>();

  /** Without a listener a warning goes where Node's own warnings go. */
  constructor(registry: string, listener?: WarningListener) {
    this.#registry = registry;
    this.#listener = listener ?? ((error) => process.emitWarning(error.message, 'RivuletWarning'));
  }

  /** `where` names the key, the sender or the message that held the record. */
  badRecord(where: string, cause: unknown): void {
    if (this.#reported.has(where) || this.#reported.size >= MAX_REPORTED) return;
    this.#reported.add(where);
    const reason = cause instanceof Error ? cause.message : String(cause);
    const text = `the ${this.#registry} registry passes over ${where.slice(0, 300)}: ${reason}`;
    this.#listener(new Error(text, { cause }));
  }
}
