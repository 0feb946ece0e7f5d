/**
 * Where in its block the first live entry of a stream is.
 *
 * A stream capped by `MAXLEN = n`, or consumed with XDEL, deletes its first entry again and again. The
 * place is remembered as the state of a cursor just before that entry, so the tombstones in front of
 * it are passed once and not at every call.
 * Invariant: in `block`, every entry before the remembered place is a tombstone. Tombstones never come
 * back to life, so the place may be behind but not wrong; a block that is no longer the first is
 * simply not asked for again.
 */
import type { Block } from './block/block.ts';
import type { BlockCursor } from './block/block-cursor.ts';
import { TOMBSTONE } from './block/entry-format.ts';
import { StreamId } from './stream-id.ts';

export class StreamHead {
  #block: Block | null = null;
  /** Of the entry's header, from the block's start: blocks move when they are sealed. */
  #offset = 0;
  /** The id of the entry before. */
  readonly #previous: StreamId = new StreamId();

  /** Stands before the first entry of `block` that may be live. */
  attach(cursor: BlockCursor, block: Block): void {
    cursor.attach(block);
    if (block !== this.#block) return;
    cursor.at = block.start + this.#offset;
    cursor.id.copy(this.#previous);
  }

  /** Moves to the first live entry of `block` and remembers its place; false when it has none. */
  find(cursor: BlockCursor, block: Block): boolean {
    this.attach(cursor, block);
    this.#block = block;
    do {
      this.#offset = cursor.at - block.start;
      this.#previous.copy(cursor.id);
      if (!cursor.next()) return false;
    } while ((cursor.header & TOMBSTONE) !== 0);
    return true;
  }

  /** Lets go of the block. */
  forget(): void {
    this.#block = null;
  }
}
