/**
 * Which producers' entries a stream has already taken: XADD's IDMP.
 *
 *   producer id -> (idempotent id -> id of the entry), each in the order of insertion
 *
 * Holds: for each producer a window of its latest idempotent ids, bounded by number (the oldest goes
 * when there are more than `maxSize`) and by time (`expire`, by the milliseconds of the entry's id).
 * Invariant: a producer that is held has at least one idempotent id.
 * Cost: O(1) an operation; names are latin1 strings, so that any bytes make a key.
 * Source: the IDMP part of Redis 8.6's t_stream.c, whose window and counters these are.
 */
import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { StreamId } from './stream-id.ts';

export const DEFAULT_IDMP_DURATION = 100;
export const DEFAULT_IDMP_MAXSIZE = 100;

export class Idempotency {
  /** Seconds that an idempotent id is remembered. */
  duration: number;
  /** Idempotent ids remembered of one producer. */
  maxSize: number;
  /** Idempotent ids ever recorded (XINFO's iids-added). */
  added = 0;
  /** Entries ever refused as duplicates (iids-duplicates). */
  duplicates = 0;
  readonly #producers = new Map<string, Map<string, StreamId>>();

  constructor(duration = DEFAULT_IDMP_DURATION, maxSize = DEFAULT_IDMP_MAXSIZE) {
    this.duration = duration;
    this.maxSize = maxSize;
  }

  /** Producers held now. */
  get producers(): number {
    return this.#producers.size;
  }

  /** Idempotent ids held now, of all producers. */
  get size(): number {
    let size = 0;
    for (const window of this.#producers.values()) size += window.size;
    return size;
  }

  /** The entry that was added under this idempotent id. A view: read, never kept or changed. */
  find(producer: string, idempotent: string): StreamId | undefined {
    return this.#producers.get(producer)?.get(idempotent);
  }

  /** Remembers an entry as the producer's newest; the oldest goes where there are too many. */
  record(producer: string, idempotent: string, id: StreamId): void {
    let window = this.#producers.get(producer);
    if (window === undefined) {
      window = new Map();
      this.#producers.set(producer, window);
    }
    // Replay may meet an id that had expired when the log was written: it becomes the newest again.
    window.delete(idempotent);
    window.set(idempotent, id.clone());
    this.added++;
    if (window.size > this.maxSize) window.delete(window.keys().next().value as string);
  }

  /** Sets the window's bounds; a change of either forgets everything, as in Redis. */
  configure(duration: number, maxSize: number): void {
    if (duration !== this.duration || maxSize !== this.maxSize) this.#producers.clear();
    this.duration = duration;
    this.maxSize = maxSize;
  }

  /**
   * Forgets what is older than the window, from each producer's oldest on. Returns the unix ms at
   * which there will be something to forget again, Infinity when nothing is held.
   */
  expire(now: number): number {
    const last = now - this.duration * 1000;
    let next = Number.POSITIVE_INFINITY;
    for (const [producer, window] of this.#producers) {
      for (const [idempotent, id] of window) {
        if (id.ms > last) {
          next = Math.min(next, id.ms + this.duration * 1000);
          break;
        }
        window.delete(idempotent);
      }
      if (window.size === 0) this.#producers.delete(producer);
    }
    return next;
  }

  clone(): Idempotency {
    const copy = new Idempotency(this.duration, this.maxSize);
    copy.added = this.added;
    copy.duplicates = this.duplicates;
    for (const [producer, window] of this.#producers) copy.#producers.set(producer, new Map(window));
    return copy;
  }

  encode(writer: ByteWriter): void {
    writer.varint(this.duration);
    writer.varint(this.maxSize);
    writer.varint(this.added);
    writer.varint(this.duplicates);
    writer.varint(this.#producers.size);
    for (const [producer, window] of this.#producers) {
      writer.bytes(Buffer.from(producer, 'latin1'));
      writer.varint(window.size);
      for (const [idempotent, id] of window) {
        writer.bytes(Buffer.from(idempotent, 'latin1'));
        id.encode(writer);
      }
    }
  }

  /** What `encode` wrote. Throws RangeError where the data ends too early. */
  static decode(reader: ByteReader): Idempotency {
    const idempotency = new Idempotency(reader.varint(), reader.varint());
    idempotency.added = reader.varint();
    idempotency.duplicates = reader.varint();
    for (let producers = reader.varint(); producers > 0; producers--) {
      const window = new Map<string, StreamId>();
      idempotency.#producers.set(reader.bytes().latin1Slice(), window);
      for (let size = reader.varint(); size > 0; size--) {
        window.set(reader.bytes().latin1Slice(), new StreamId().decode(reader));
      }
    }
    return idempotency;
  }
}
