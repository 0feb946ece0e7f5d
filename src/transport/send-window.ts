/**
 * The sending end of a stream of bodies: flow/send-window.ts, where a body costs its bytes and a fixed
 * overhead.
 */
import { ITEM_OVERHEAD } from '../flow/receive-queue.ts';
import { SendWindow as Window } from '../flow/send-window.ts';

export class SendWindow {
  readonly #window: Window<Uint8Array>;

  constructor(credit: number, write: (body: Uint8Array) => void, maxWaiting?: number) {
    this.#window = new Window(credit, write, maxWaiting);
  }

  /** As the window's `send`. */
  send(body: Uint8Array, tooMany: () => Error): Promise<void> {
    return this.#window.send(body, body.length + ITEM_OVERHEAD, tooMany);
  }

  grant(bytes: number): void {
    this.#window.grant(bytes);
  }

  whenEmpty(callback: () => void): void {
    this.#window.whenEmpty(callback);
  }

  fail(error: Error): void {
    this.#window.fail(error);
  }
}
