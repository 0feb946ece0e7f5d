/**
 * The room that one subscription has for messages, shared by its readers.
 *
 * Invariant: what the dispatcher holds and what reads may still bring is together at most
 * `maxInFlight`, however many topics and readers there are.
 */
import type { Dispatcher } from 'rivulet';
import type { Delivered } from './settlements.ts';

export class Room {
  readonly #dispatcher: Dispatcher<Delivered>;
  readonly #onRoom: () => void;
  /** What reads that are under way may still bring. */
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

  /** The read has ended: what it brought is the dispatcher's. */
  release(count: number): void {
    this.#reserved -= count;
    if (this.left > 0) this.#onRoom();
  }
}
