/**
 * The idempotent producers of one stream (XADD IDMP / IDMPAUTO): which (producer, iid) became which id.
 *
 * Per producer, in order of insertion, at most `maxsize` iids no older than `duration`: size wins
 * over time. Age is told by the millisecond part of the entry's id, and only `expire` looks at it, so
 * a lookup depends on no clock. A producer without iids is forgotten.
 * Producer and idempotent ids are given as latin1 text (one character per byte).
 * Cost: O(1) a lookup or record; expire O(producers + what goes).
 */
import { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { StreamId } from './stream-id.ts';

const VERSION = 1;

class Producer {
  readonly ids: Map<string, StreamId> = new Map();
  /** Iids from oldest to newest; those before `head` have gone. */
  #order: string[] = [];
  #head = 0;

  oldest(): string {
    return this.#order[this.#head];
  }

  add(iid: string, id: StreamId): void {
    this.ids.set(iid, id.clone());
    this.#order.push(iid);
  }

  dropOldest(): void {
    this.ids.delete(this.#order[this.#head++]);
    if (this.#head >= 32 && this.#head * 2 >= this.#order.length) {
      this.#order = this.#order.slice(this.#head);
      this.#head = 0;
    }
  }
}

export class Idempotency {
  /** Seconds. */
  duration: number;
  /** Entries per producer. */
  maxsize: number;
  /** iids-added: since the stream was created. */
  iidsAdded = 0;
  /** iids-duplicates: since the stream was created. */
  iidsDuplicates = 0;
  readonly #producers: Map<string, Producer> = new Map();
  #tracked = 0;
  /** No iid expires before this unix ms. */
  #nextExpiry = Number.POSITIVE_INFINITY;

  constructor(duration: number, maxsize: number) {
    this.duration = duration;
    this.maxsize = maxsize;
  }

  /** pids-tracked. */
  get pidsTracked(): number {
    return this.#producers.size;
  }

  /** iids-tracked. */
  get iidsTracked(): number {
    return this.#tracked;
  }

  /** Producers, and of each its iids from oldest to newest with the entries that they became. */
  *producers(): Generator<[string, ReadonlyMap<string, StreamId>], void, undefined> {
    for (const [pid, { ids }] of this.#producers) yield [pid, ids];
  }

  /** Sets `into` to the id that this iid became; false when it is not known. Changes nothing. */
  find(pid: string, iid: string, into: StreamId): boolean {
    const id = this.#producers.get(pid)?.ids.get(iid);
    if (id === undefined) return false;
    into.copy(id);
    return true;
  }

  /** Counts a duplicate that was answered with the first entry's id. */
  countDuplicate(): void {
    this.iidsDuplicates++;
  }

  /**
   * Records that (pid, iid) became `id`; the producer's oldest iid goes when there are too many. An
   * iid that is known already keeps its first id.
   */
  record(pid: string, iid: string, id: StreamId): void {
    if (this.#add(pid, iid, id)) this.iidsAdded++;
  }

  /** Forgets what is `duration` old at `now` (unix ms) or older, oldest first. Returns how many. */
  expire(now: number): number {
    if (now < this.#nextExpiry) return 0;
    const before = this.#tracked;
    const threshold = now - this.duration * 1000;
    this.#nextExpiry = Number.POSITIVE_INFINITY;
    for (const [pid, producer] of this.#producers) {
      while (producer.ids.size > 0) {
        const { ms } = producer.ids.get(producer.oldest()) as StreamId;
        if (ms > threshold) {
          this.#nextExpiry = Math.min(this.#nextExpiry, ms + this.duration * 1000);
          break;
        }
        producer.dropOldest();
        this.#tracked--;
      }
      if (producer.ids.size === 0) this.#producers.delete(pid);
    }
    return before - this.#tracked;
  }

  /** The earliest unix ms at which `expire` may have something to do; Infinity when nothing is tracked. */
  nextExpiry(): number {
    return this.#nextExpiry;
  }

  /** XCFGSET: a changed value clears everything tracked; true when it changed. */
  configure(duration: number, maxsize: number): boolean {
    if (duration === this.duration && maxsize === this.maxsize) return false;
    this.duration = duration;
    this.maxsize = maxsize;
    this.#producers.clear();
    this.#tracked = 0;
    this.#nextExpiry = Number.POSITIVE_INFINITY;
    return true;
  }

  copy(): Idempotency {
    return Idempotency.import(this.export());
  }

  export(): Buffer {
    const writer = new ByteWriter(256);
    writer.u8(VERSION);
    writer.varint(this.duration);
    writer.varint(this.maxsize);
    writer.varint(this.iidsAdded);
    writer.varint(this.iidsDuplicates);
    writer.varint(this.#producers.size);
    for (const [pid, { ids }] of this.#producers) {
      writer.bytes(Buffer.from(pid, 'latin1'));
      writer.varint(ids.size);
      for (const [iid, id] of ids) {
        writer.bytes(Buffer.from(iid, 'latin1'));
        id.encode(writer);
      }
    }
    return writer.toBuffer();
  }

  /** Throws RangeError where the bytes are damaged or of another version. */
  static import(bytes: Buffer): Idempotency {
    const reader = new ByteReader(bytes);
    const version = reader.u8();
    if (version !== VERSION) {
      throw new RangeError(`idempotent producers have format ${version}, not ${VERSION}`);
    }
    const result = new Idempotency(reader.varint(), reader.varint());
    result.iidsAdded = reader.varint();
    result.iidsDuplicates = reader.varint();
    const id = new StreamId();
    for (let producers = reader.varint(); producers > 0; producers--) {
      const pid = reader.bytes().toString('latin1');
      for (let iids = reader.varint(); iids > 0; iids--) {
        const iid = reader.bytes().toString('latin1');
        if (!result.#add(pid, iid, id.decode(reader))) {
          throw new RangeError('idempotent producers are damaged: an iid twice');
        }
      }
    }
    if (!reader.done) throw new RangeError('idempotent producers are damaged: too many bytes');
    return result;
  }

  /** False when the iid is known already. */
  #add(pid: string, iid: string, id: StreamId): boolean {
    let producer = this.#producers.get(pid);
    if (producer === undefined) {
      producer = new Producer();
      this.#producers.set(pid, producer);
    }
    if (producer.ids.has(iid)) return false;
    if (producer.ids.size >= this.maxsize) {
      producer.dropOldest();
      this.#tracked--;
    }
    producer.add(iid, id);
    this.#tracked++;
    this.#nextExpiry = Math.min(this.#nextExpiry, id.ms + this.duration * 1000);
    return true;
  }
}
