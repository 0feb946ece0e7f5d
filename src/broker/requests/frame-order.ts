/**
 * Puts the frames of one direction into the order of their numbers.
 *
 * Holds: frames that arrived before one of a lower number. Invariant: each number is passed on once, in
 * order; a repeated frame is dropped. Bound: `limit` bytes wait; a frame beyond it breaks the protocol.
 * Cost: nothing while frames come in order.
 */
import { RivuletError } from '../../errors.ts';

interface Early<T> {
  readonly frame: T;
  readonly cost: number;
}

export class FrameOrder<T> {
  readonly #early = new Map<number, Early<T>>();
  readonly #limit: number;
  readonly #take: (frame: T, cost: number) => void;
  #next = 0;
  #bytes = 0;
  #total = Number.POSITIVE_INFINITY;

  constructor(limit: number, take: (frame: T, cost: number) => void) {
    this.#limit = limit;
    this.#take = take;
  }

  /** Whether every frame up to the end has been passed on. */
  get isComplete(): boolean {
    return this.#next >= this.#total;
  }

  /** Throws PROTOCOL for what is no number, and when more waits than the limit allows. */
  push(number: number, frame: T, cost: number): void {
    if (!Number.isSafeInteger(number) || number < 0) {
      throw new RivuletError('PROTOCOL', `a frame numbered ${number}`);
    }
    if (number < this.#next || this.#early.has(number)) return;
    if (number > this.#next) {
      if (this.#bytes >= this.#limit) {
        throw new RivuletError('PROTOCOL', 'the peer sent more than its credit allows');
      }
      this.#early.set(number, { frame, cost });
      this.#bytes += cost;
      return;
    }
    this.#next++;
    this.#take(frame, cost);
    for (let early = this.#early.get(this.#next); early !== undefined; ) {
      this.#early.delete(this.#next++);
      this.#bytes -= early.cost;
      this.#take(early.frame, early.cost);
      early = this.#early.get(this.#next);
    }
  }

  /** The number of all frames. */
  end(total: number): void {
    if (!Number.isSafeInteger(total) || total < 0) {
      throw new RivuletError('PROTOCOL', `an end after ${total} frames`);
    }
    this.#total = total;
  }
}
