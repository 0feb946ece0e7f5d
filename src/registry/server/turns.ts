/**
 * Operations on the nodes of a registry, one after the other for each key, until the registry is closed.
 *
 * Invariants: two operations of one key never run at once; one that failed holds up none behind it; a
 * registry that is closed begins nothing: CLOSED. Cost: one entry for each key with an operation.
 */
import { RivuletError } from '../../errors.ts';

export class Turns {
  readonly #last = new Map<string, Promise<void>>();
  #isClosed = false;

  get isClosed(): boolean {
    return this.#isClosed;
  }

  async run(key: string, work: () => Promise<void>): Promise<void> {
    this.mustBeOpen();
    const turn = (this.#last.get(key) ?? Promise.resolve()).then(work);
    const settled = turn.catch(() => {});
    this.#last.set(key, settled);
    await turn.finally(() => {
      if (this.#last.get(key) === settled) this.#last.delete(key);
    });
  }

  mustBeOpen(): void {
    if (this.#isClosed) {
      throw new RivuletError('CLOSED', 'the registry is closed; open another one');
    }
  }

  /** False where it was closed before. */
  close(): boolean {
    const wasOpen = !this.#isClosed;
    this.#isClosed = true;
    return wasOpen;
  }
}
