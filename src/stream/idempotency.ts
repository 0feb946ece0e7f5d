/**
 * The idempotent producers of one stream (XADD IDMP / IDMPAUTO): which (producer, iid) became which id.
 *
 * Per producer, in order of insertion, at most `maxsize` iids no older than `duration`: size wins
 * over time. Each iid has the time at which it was recorded, on a clock that is never set; only
 * `expire` looks at it, so a lookup depends on no clock. A producer without iids is forgotten.
 * An iid that is recorded again (its window was over) becomes the producer's newest: records of a log
 * are replayed without the expiry between them, and the later one must win.
 * Producer and idempotent ids are given as latin1 text (one character per byte).
 * Cost: O(1) a lookup or record; expire O(producers + what goes).
 */
import { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { StreamId } from './stream-id.ts';

/** What an iid became: an entry of that id, or a scheduled entry whose number the sequence holds. */
export type IdKind = 'entry' | 'scheduled';

/** What is remembered of an iid. */
export interface Remembered {
  readonly id: StreamId;
  readonly kind: IdKind;
  /** Steady ms (the engine's turn-clock.ts). */
  readonly time: number;
}

/** Times and kinds follow from the ids. */
const VERSION = 1;
/** Each id is followed by its kind; times follow from the ids. */
const WITH_KINDS = 2;
/** Each id is followed by its kind and its time. */
const WITH_TIMES = 3;
/** Of a sequence's upper half. In version 1 it says that the id names a scheduled entry. */
export const SCHEDULED_BIT = 0x8000_0000;

class Producer {
  readonly ids: Map<string, Remembered> = new Map();
  /** Iids from oldest to newest; those before `head` have gone. */
  #order: string[] = [];
  #head = 0;

  oldest(): string {
    return this.#order[this.#head];
  }

  add(iid: string, remembered: Remembered): void {
    this.ids.set(iid, remembered);
    this.#order.push(iid);
  }

  /** Reused iids are nearly always the oldest ones, so the search is short. */
  drop(iid: string): void {
    this.#order.splice(this.#order.indexOf(iid, this.#head), 1);
    this.ids.delete(iid);
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
  /**
   * An id whose window is over was recorded (XIDMPRECORD of an old entry): as in Redis, ids are known
   * until the next tick expires them.
   */
  isLate = false;
  readonly #producers: Map<string, Producer> = new Map();
  #tracked = 0;
  /** No iid expires before this steady ms. */
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
  *producers(): Generator<[string, ReadonlyMap<string, Remembered>], void, undefined> {
    for (const [pid, { ids }] of this.#producers) yield [pid, ids];
  }

  /** What this iid became; undefined when it is not known. Changes nothing. */
  find(pid: string, iid: string): Remembered | undefined {
    return this.#producers.get(pid)?.ids.get(iid);
  }

  /** Counts a duplicate that was answered with the first entry's id. */
  countDuplicate(): void {
    this.iidsDuplicates++;
  }

  /**
   * Records that (pid, iid) became `id` at `time` (steady ms), whatever it became before; the
   * producer's oldest iid goes when there are too many.
   */
  record(pid: string, iid: string, id: StreamId, time: number, kind: IdKind = 'entry'): void {
    const known = this.#producers.get(pid);
    if (known?.ids.has(iid)) {
      known.drop(iid);
      this.#tracked--;
    }
    this.#add(pid, iid, { id: id.clone(), kind, time });
    this.iidsAdded++;
  }

  /** Forgets what is `duration` old at `steady` (ms) or older, oldest first. Returns how many. */
  expire(steady: number): number {
    if (steady < this.#nextExpiry) return 0;
    const before = this.#tracked;
    const threshold = steady - this.duration * 1000;
    this.#nextExpiry = Number.POSITIVE_INFINITY;
    for (const [pid, producer] of this.#producers) {
      while (producer.ids.size > 0) {
        const { time } = producer.ids.get(producer.oldest()) as Remembered;
        if (time > threshold) {
          this.#nextExpiry = Math.min(this.#nextExpiry, time + this.duration * 1000);
          break;
        }
        producer.dropOldest();
        this.#tracked--;
      }
      if (producer.ids.size === 0) this.#producers.delete(pid);
    }
    return before - this.#tracked;
  }

  /** The earliest steady ms at which `expire` may have something to do; Infinity when nothing is tracked. */
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
    return Idempotency.import(this.export(), 0);
  }

  export(): Buffer {
    const writer = new ByteWriter(256);
    writer.u8(WITH_TIMES);
    writer.varint(this.duration);
    writer.varint(this.maxsize);
    writer.varint(this.iidsAdded);
    writer.varint(this.iidsDuplicates);
    writer.varint(this.#producers.size);
    for (const [pid, producer] of this.#producers) {
      writer.bytes(Buffer.from(pid, 'latin1'));
      writer.varint(producer.ids.size);
      for (const [iid, { id, kind, time }] of producer.ids) {
        writer.bytes(Buffer.from(iid, 'latin1'));
        id.encode(writer);
        writer.u8(kind === 'entry' ? 0 : 1);
        writer.f64(time);
      }
    }
    return writer.toBuffer();
  }

  /**
   * `stepped`: how far the clock by which ids are made is before the steady one, for what was
   * exported by versions that kept no times. Throws RangeError where the bytes are damaged or of
   * another version.
   */
  static import(bytes: Buffer, stepped: number): Idempotency {
    const reader = new ByteReader(bytes);
    const version = reader.u8();
    if (version < VERSION || version > WITH_TIMES) {
      throw new RangeError(`idempotent producers have format ${version}, not up to ${WITH_TIMES}`);
    }
    const result = new Idempotency(reader.varint(), reader.varint());
    result.iidsAdded = reader.varint();
    result.iidsDuplicates = reader.varint();
    for (let producers = reader.varint(); producers > 0; producers--) {
      const pid = reader.bytes().toString('latin1');
      for (let iids = reader.varint(); iids > 0; iids--) {
        const iid = reader.bytes().toString('latin1');
        if (result.find(pid, iid) !== undefined) {
          throw new RangeError('idempotent producers are damaged: an iid twice');
        }
        result.#add(pid, iid, readRemembered(reader, version, stepped));
      }
    }
    if (!reader.done) throw new RangeError('idempotent producers are damaged: too many bytes');
    return result;
  }

  /** The times as they are on another steady clock, which is `by` ms ahead; none later than `latest`. */
  rebase(by: number, latest: number): void {
    this.#nextExpiry = Number.POSITIVE_INFINITY;
    for (const { ids } of this.#producers.values()) {
      for (const [iid, remembered] of ids) {
        const time = Math.min(latest, remembered.time + by);
        ids.set(iid, { ...remembered, time });
        this.#nextExpiry = Math.min(this.#nextExpiry, time + this.duration * 1000);
      }
    }
  }

  /** The iid is not known. */
  #add(pid: string, iid: string, remembered: Remembered): void {
    let producer = this.#producers.get(pid);
    if (producer === undefined) {
      producer = new Producer();
      this.#producers.set(pid, producer);
    }
    if (producer.ids.size >= this.maxsize) {
      producer.dropOldest();
      this.#tracked--;
    }
    producer.add(iid, remembered);
    this.#tracked++;
    this.#nextExpiry = Math.min(this.#nextExpiry, remembered.time + this.duration * 1000);
  }
}

function readRemembered(reader: ByteReader, version: number, stepped: number): Remembered {
  const id = new StreamId().decode(reader);
  const scheduled = version < WITH_KINDS ? id.seqHi >= SCHEDULED_BIT : reader.u8() === 1;
  const time = version < WITH_TIMES ? id.ms - stepped : reader.f64();
  if (Number.isNaN(time)) throw new RangeError('idempotent producers are damaged: no time');
  return { id, kind: scheduled ? 'scheduled' : 'entry', time };
}
