/**
 * The reply of XREAD and XREADGROUP: entries, stream by stream, up to the limits of the call.
 *
 * Cost: an entry goes from the block to the reply in one pass; nothing is allocated per entry.
 */
import type { ClaimSink, HistorySink } from '../../../consumer-groups/claim.ts';
import { countValue } from '../../../consumer-groups/delivery-count.ts';
import type { PendingCursor } from '../../../consumer-groups/pending/pending-cursor.ts';
import type { Stream } from '../../../stream/stream.ts';
import type { StreamId } from '../../../stream/stream-id.ts';
import type { StreamIterator } from '../../../stream/stream-iterator.ts';
import type { Session } from '../../connection/session.ts';
import type { Reply } from '../../output/reply.ts';
import { findEntry, writeEntry, writeFields } from './stream-entry-reply.ts';
import type { ReadOptions } from './stream-read-options.ts';

/** With HANDOVER: this delivery has raised the delivery count. */
const COUNTED = 1;
/** With HANDOVER: a consumer had it, and neither acknowledged it nor gave it back. */
const UNSETTLED = 2;
/** With HANDOVER: it was pending and is no longer in the stream. It has no fields, and has left the group. */
const GONE = 4;

/**
 * The reply as it grows, and its limits: COUNT for each stream, MAXCOUNT and MAXSIZE for the whole.
 * It is also the sink that claims and history reads tell entry by entry.
 */
export class ReadReply implements ClaimSink, HistorySink {
  readonly #options: ReadOptions;
  #reply: Reply | undefined;
  #startsAt = 0;
  #mark = 0;
  #streamMark = 0;
  #streams = 0;
  /** Where the last whole entry ends, and where the present stream begins; -1 = none is begun. */
  #entryEnd = 0;
  #streamStart = -1;
  /** Entries of all streams, of the present one, and how many the present one may have. */
  #total = 0;
  #entries = 0;
  /** Entries of the present stream that are gone: they count towards no limit. */
  #gone = 0;
  limit = 0;
  /** The present stream, which the sinks read entries from. */
  stream: Stream | undefined;
  /** CLAIM's least idle time, ms; -1 where nothing is claimed from here on. */
  claim = -1;

  constructor(options: ReadOptions) {
    this.#options = options;
  }

  begin(session: Session): void {
    this.#reply = session.reply;
    this.#startsAt = session.reply.length;
    this.#streams = 0;
    this.#streamStart = -1;
    this.#total = 0;
    this.#entries = 0;
    this.limit = 0;
  }

  beginStream(session: Session, key: number): void {
    const { args, reply } = session;
    if (this.#streams++ === 0) this.#mark = reply.deferred();
    this.#streamStart = reply.length;
    if (reply.protocol === 2) reply.array(2);
    reply.bulkSlice(args.buffer, args.offsets[key], args.lengths[key]);
    this.#streamMark = reply.deferred();
    this.#entries = 0;
    this.#gone = 0;
    const left = this.#options.maxCount > 0 ? this.#options.maxCount - this.#total : 0;
    this.limit =
      this.#options.count > 0 && (left === 0 || this.#options.count < left)
        ? this.#options.count
        : left;
  }

  /** An entry was written. */
  count(): void {
    this.#entries++;
    this.#total++;
    this.#entryEnd = this.#reply!.length;
  }

  /** Whether the present stream has all that it may have. */
  get full(): boolean {
    return (this.limit > 0 && this.#entries >= this.limit) || this.#isLarge();
  }

  /** Whether the whole reply has. */
  get complete(): boolean {
    return (this.#options.maxCount > 0 && this.#total >= this.#options.maxCount) || this.#isLarge();
  }

  endStream(): void {
    this.#reply!.setLength(this.#streamMark, this.#entries + this.#gone);
    this.#streamStart = -1;
    // What is full is the stream that ends here, not the next one.
    this.limit = 0;
  }

  /** The present stream cannot be read on. False where no entry was written before that. */
  endEarly(): boolean {
    const reply = this.#reply as Reply;
    if (this.#streamStart >= 0) {
      if (this.#entries + this.#gone > 0) {
        reply.truncate(this.#entryEnd);
        this.endStream();
      } else {
        reply.truncate(this.#streamStart);
        this.#streams--;
      }
    }
    return this.#streams > 0;
  }

  /** Returns whether anything was written. */
  end(): boolean {
    if (this.#streams === 0) return false;
    const reply = this.#reply as Reply;
    reply.setLength(this.#mark, this.#streams, reply.protocol === 2 ? 'array' : 'map');
    return true;
  }

  claimed(entry: PendingCursor, idle: number, count: number, unsettled: boolean): void {
    const found = findEntry(this.stream!, entry.id);
    // What a group's policy delivers again looks like any other entry, unless CLAIM asks for more.
    if (found !== undefined) {
      if (this.claim < 0) writeEntry(this.#reply!, found);
      else {
        const flags = (entry.count === count ? 0 : COUNTED) | (unsettled ? UNSETTLED : 0);
        this.#writeClaimed(found, idle, countValue(count), flags);
      }
    }
    this.count();
  }

  /** Claiming by age leaves dangling entries alone; without HANDOVER there is no place for them. */
  deleted(id: StreamId): void {
    if (this.#options.handover < 0) return;
    const reply = this.#reply as Reply;
    reply.array(5);
    reply.id(id);
    reply.nullArray();
    reply.integer(0);
    reply.integer(0);
    reply.integer(GONE);
    this.#gone++;
    this.#entryEnd = reply.length;
  }

  delivered(entry: PendingCursor): void {
    const found = findEntry(this.stream!, entry.id);
    if (found !== undefined) writeEntry(this.#reply!, found);
    this.count();
  }

  missing(id: StreamId): void {
    const reply = this.#reply as Reply;
    reply.array(2);
    reply.id(id);
    reply.nullArray();
    this.count();
  }

  /** A new entry, which has not been pending. `counts`: this delivery has raised its delivery count. */
  fresh(entry: StreamIterator, counts: boolean): void {
    if (this.claim < 0) writeEntry(this.#reply!, entry);
    else this.#writeClaimed(entry, 0, 0, counts ? COUNTED : 0);
  }

  /**
   * With CLAIM an entry also says how long it was pending and how often it was delivered before; with
   * HANDOVER, in `flags`, what kind of delivery it is.
   */
  #writeClaimed(entry: StreamIterator, idle: number, count: number | bigint, flags: number): void {
    const reply = this.#reply as Reply;
    const forHandOver = this.#options.handover >= 0;
    reply.array(forHandOver ? 5 : 4);
    reply.id(entry.id);
    writeFields(reply, entry);
    reply.integer(idle);
    reply.integer(count);
    if (forHandOver) reply.integer(flags);
  }

  /** A first entry is always allowed, however large. */
  #isLarge(): boolean {
    return (
      this.#options.maxSize > 0 &&
      this.#total > 0 &&
      this.#reply!.length - this.#startsAt >= this.#options.maxSize
    );
  }
}
