/**
 * The idempotent producers of one stream (XADD IDMP / IDMPAUTO): which (producer, iid) became which id.
 *
 * Per producer, in order of insertion, at most `maxsize` iids no older than `duration`: size wins
 * over time. Age is told by the millisecond part of the entry's id, and only `expire` looks at it, so
 * a lookup depends on no clock. A producer without iids is forgotten.
 * An iid that is recorded again (its window was over) becomes the producer's newest: records of a log
 * are replayed without the expiry between them, and the later one must win.
 * Producer and idempotent ids are given as latin1 text (one character per byte).
 * Cost: O(1) a lookup or record; expire O(producers + what goes).
 */
import { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { StreamId } from './stream-id.ts';

/** What an iid became: an entry of that id, or a scheduled entry whose number the sequence holds. */
export type IdKind = 'entry' | 'scheduled';

const VERSION = 1;
/** Each id is followed by its kind: where an entry's sequence has the bit that marks scheduled ones. */
const WITH_KINDS = 2;
/** Of a sequence's upper half. In version 1 it says that the id stands for a scheduled entry. */
export const SCHEDULED_BIT = 0x8000_0000;

class Producer {
  readonly ids: Map<string, StreamId> = new Map();
  /** Those of `ids` that are entries though their sequence has SCHEDULED_BIT; null = none. */
  high: Set<string> | null = null;
  /** Iids from oldest to newest; those before `head` have gone. */
  #order: string[] = [];
  #head = 0;

  oldest(): string {
    return this.#order[this.#head];
  }

  add(iid: string, id: StreamId, kind: IdKind): void {
    this.ids.set(iid, id.clone());
    this.#order.push(iid);
    if (kind === 'entry' && id.seqHi >= SCHEDULED_BIT) {
      this.high ??= new Set();
      this.high.add(iid);
    }
  }

  kindOf(iid: string, id: StreamId): IdKind {
    return id.seqHi < SCHEDULED_BIT || this.high?.has(iid) ? 'entry' : 'scheduled';
  }

  /** Reused iids are nearly always the oldest ones, so the search is short. */
  drop(iid: string): void {
    this.#order.splice(this.#order.indexOf(iid, this.#head), 1);
    this.#forget(iid);
  }

  dropOldest(): void {
    this.#forget(this.#order[this.#head++]);
    if (this.#head >= 32 && this.#head * 2 >= this.#order.length) {
      this.#order = this.#order.slice(this.#head);
      this.#head = 0;
    }
  }

  #forget(iid: string): void {
    this.ids.delete(iid);
    this.high?.delete(iid);
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
  /**
   * An id whose window is over was recorded (XIDMPRECORD of an old entry): as in Redis, ids are known
   * until the next tick expires them.
   */
  isLate = false;
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

  /** What kind of id `find` has found. */
  kindOf(pid: string, iid: string, id: StreamId): IdKind {
    return this.#producers.get(pid)?.kindOf(iid, id) ?? 'entry';
  }

  /** Counts a duplicate that was answered with the first entry's id. */
  countDuplicate(): void {
    this.iidsDuplicates++;
  }

  /**
   * Records that (pid, iid) became `id`, whatever it became before; the producer's oldest iid goes
   * when there are too many.
   */
  record(pid: string, iid: string, id: StreamId, kind: IdKind = 'entry'): void {
    const known = this.#producers.get(pid);
    if (known?.ids.has(iid)) {
      known.drop(iid);
      this.#tracked--;
    }
    this.#add(pid, iid, id, kind);
    this.iidsAdded++;
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
    const version = this.#hasHighEntries() ? WITH_KINDS : VERSION;
    writer.u8(version);
    writer.varint(this.duration);
    writer.varint(this.maxsize);
    writer.varint(this.iidsAdded);
    writer.varint(this.iidsDuplicates);
    writer.varint(this.#producers.size);
    for (const [pid, producer] of this.#producers) {
      writer.bytes(Buffer.from(pid, 'latin1'));
      writer.varint(producer.ids.size);
      for (const [iid, id] of producer.ids) {
        writer.bytes(Buffer.from(iid, 'latin1'));
        id.encode(writer);
        if (version === WITH_KINDS) writer.u8(producer.kindOf(iid, id) === 'entry' ? 0 : 1);
      }
    }
    return writer.toBuffer();
  }

  #hasHighEntries(): boolean {
    for (const { high } of this.#producers.values())
      if (high !== null && high.size > 0) return true;
    return false;
  }

  /** Throws RangeError where the bytes are damaged or of another version. */
  static import(bytes: Buffer): Idempotency {
    const reader = new ByteReader(bytes);
    const version = reader.u8();
    if (version !== VERSION && version !== WITH_KINDS) {
      throw new RangeError(`idempotent producers have format ${version}, not up to ${WITH_KINDS}`);
    }
    const result = new Idempotency(reader.varint(), reader.varint());
    result.iidsAdded = reader.varint();
    result.iidsDuplicates = reader.varint();
    const id = new StreamId();
    for (let producers = reader.varint(); producers > 0; producers--) {
      const pid = reader.bytes().toString('latin1');
      for (let iids = reader.varint(); iids > 0; iids--) {
        const iid = reader.bytes().toString('latin1');
        id.decode(reader);
        if (result.#producers.get(pid)?.ids.has(iid)) {
          throw new RangeError('idempotent producers are damaged: an iid twice');
        }
        const scheduled = version === VERSION ? id.seqHi >= SCHEDULED_BIT : reader.u8() === 1;
        result.#add(pid, iid, id, scheduled ? 'scheduled' : 'entry');
      }
    }
    if (!reader.done) throw new RangeError('idempotent producers are damaged: too many bytes');
    return result;
  }

  /** The iid is not known. */
  #add(pid: string, iid: string, id: StreamId, kind: IdKind): void {
    let producer = this.#producers.get(pid);
    if (producer === undefined) {
      producer = new Producer();
      this.#producers.set(pid, producer);
    }
    if (producer.ids.size >= this.maxsize) {
      producer.dropOldest();
      this.#tracked--;
    }
    producer.add(iid, id, kind);
    this.#tracked++;
    this.#nextExpiry = Math.min(this.#nextExpiry, id.ms + this.duration * 1000);
  }
}
