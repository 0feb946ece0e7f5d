/**
 * The messages of one client of a topic, in order.
 *
 * Invariants: what is pushed is read once, in order; a reader for which more than `maxQueued` messages or
 * `maxQueuedBytes` wait is ended, but not because of one message. Cost: one queue entry per message.
 */

export interface TopicMessage {
  readonly topic: string;
  readonly id: string;
  readonly publishedAt: Date;
  readonly key: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Messages behind `after` that the topic may have lost. */
export interface TopicGap {
  readonly topic: string;
  /** Null where the client has no message yet: messages since it came. */
  readonly gap: { readonly after: string | null };
}

export interface ReaderLimits {
  /** Messages that wait. */
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
}

/** The bytes that an item holds, its body above all. */
export function sizeOf(item: TopicMessage | TopicGap): number {
  return 'gap' in item ? 0 : item.body.length;
}

/** The part of the limits that may wait while the past of the topic is read for a client. */
const PAST_SHARE = 0.1;

/** Iterate it; `end` when the client leaves. */
export class TopicReader implements AsyncIterable<TopicMessage | TopicGap> {
  /** Called when it was ended because it did not read: its connection is to be cut. */
  onSlow: () => void = () => {};
  readonly #queue: (TopicMessage | TopicGap)[] = [];
  readonly #onLeave: () => Promise<void>;
  readonly #limits: ReaderLimits;
  #bytes = 0;
  #wake: (() => void) | null = null;
  #room: (() => void)[] = [];
  #isOver = false;
  #isSlow = false;

  constructor(onLeave: () => Promise<void>, limits: ReaderLimits) {
    this.#onLeave = onLeave;
    this.#limits = limits;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  push(message: TopicMessage | TopicGap): void {
    if (this.#isOver) return;
    this.#queue.push(message);
    this.#bytes += sizeOf(message);
    this.#wake?.();
    if (this.#isOver || this.#queue.length < 2) return;
    const { maxQueued, maxQueuedBytes } = this.#limits;
    if (this.#queue.length > maxQueued || this.#bytes > maxQueuedBytes) this.endSlow();
  }

  /** Null where there is room for more of the past, else what resolves when there is. */
  room(): Promise<void> | null {
    const { maxQueued, maxQueuedBytes } = this.#limits;
    const hasRoom =
      this.#queue.length < Math.ceil(maxQueued * PAST_SHARE) &&
      this.#bytes < Math.ceil(maxQueuedBytes * PAST_SHARE);
    if (this.#isOver || hasRoom) return null;
    return new Promise((resolve) => {
      this.#room.push(resolve);
    });
  }

  /** Ends a reader that does not read. */
  endSlow(): void {
    if (this.#isOver) return;
    this.#isSlow = true;
    this.end();
    this.onSlow();
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const resolve of this.#room.splice(0)) resolve();
    this.#wake?.();
    void this.#onLeave();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TopicMessage | TopicGap> {
    try {
      for (;;) {
        const message = this.#queue.shift();
        if (message !== undefined) this.#bytes -= sizeOf(message);
        for (const resolve of this.#room.splice(0)) resolve();
        if (message !== undefined) yield message;
        else if (this.#isOver) return;
        else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = null;
        }
        if (this.#isSlow) return;
      }
    } finally {
      this.end();
    }
  }
}
