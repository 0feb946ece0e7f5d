/**
 * What a registry reports while no caller waits: records of other programs that it cannot read, each
 * once, and a watch that fails.
 *
 * Invariant: at most `MAX_REPORTED` places of `MAX_PLACE_LENGTH` characters are remembered; beyond them nothing is reported, because
 * a registry full of bad records must not fill the log. Cost: one set look-up per bad record.
 */

const MAX_REPORTED = 1000;
const MAX_PLACE_LENGTH = 300;

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
    // A copy: a part of a text keeps the whole text in memory, and another program may have written it.
    const place = Buffer.from(where.slice(0, MAX_PLACE_LENGTH)).toString();
    if (this.#reported.has(place) || this.#reported.size >= MAX_REPORTED) return;
    this.#reported.add(place);
    const reason = cause instanceof Error ? cause.message : String(cause);
    const text = `the ${this.#registry} registry passes over ${place}: ${reason}`;
    this.#listener(new Error(text, { cause }));
  }

  /** The watch has failed several times in a row, and is tried again. */
  watchFails(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const text = `the watch of the ${this.#registry} registry fails and is tried again; changes are not seen meanwhile: ${reason}`;
    this.#listener(new Error(text, { cause }));
  }
}
