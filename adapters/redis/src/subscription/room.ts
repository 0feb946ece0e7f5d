/**
 * How many more messages one subscription may receive, shared by its readers.
 *
 * Invariant: the deliveries of the dispatcher and what reads may still bring are together at most
 * `maxInFlight`, for any number of topics and readers. Cost: two numbers.
 */
import type { Dispatcher } from 'rivulet/adapter';
import type { Delivered } from './settlements.ts';

export class Room {
  readonly #dispatcher: Dispatcher<Delivered>;
  readonly #onRoom: () => void;
  /** What unanswered reads may still bring. */
  #reserved = 0;

  constructor(dispatcher: Dispatcher<Delivered>, onRoom: () => void) {
    this.#dispatcher = dispatcher;
    this.#onRoom = onRoom;
  }

  get left(): number {
    return Math.max(0, this.#dispatcher.free - this.#reserved);
  }

  reserve(count: number): void {
    this.#reserved += count;
  }

  /** The read has ended, and its messages were pushed. */
  release(count: number): void {
    this.#reserved -= count;
    if (this.left > 0) this.#onRoom();
  }
}
