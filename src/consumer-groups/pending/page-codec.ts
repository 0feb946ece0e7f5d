/**
 * A pending page as bytes, for the checkpoint. Version 1, and 2 for a page with delayed entries:
 *
 *     u8 version · u8 form (0 narrow, 1 wide) · varint entries
 *     per entry: id · time · varint count · varint consumer + 1 (0 = unowned)
 *
 * id, narrow: varint ms minus the previous entry's (the first: minus the page's low), then varint seq
 * minus the previous one's where ms is the same, else whole. id, wide: sixteen bytes, big-endian.
 * time: zigzag varint of the difference from the previous entry's (the first: from 0); for an
 * unowned entry its place in the list of unowned entries, for a delayed one the end of its delay. (In
 * version 1 that end is earlier by the policy's time for an acknowledgement.) Holes are left out.
 * `low`, the number of entries and the consumers' summary are in the group's metadata
 * (group-codec.ts); a page that differs from them is refused. The checkpoint finds flipped bits: it
 * keeps a checksum of every value.
 */
import { StreamId } from '../../stream/stream-id.ts';
import { ByteReader, type ByteWriter } from '../../util/byte-writer.ts';
import { readCount, writeCount } from '../delivery-count.ts';
import { PAGE_ENTRIES, takeColumns } from './pending-columns.ts';
import { DELAYED, type PendingPage, UNOWNED } from './pending-page.ts';

const VERSION = 1;
const WITH_RESTS = 2;
const NARROW = 0;
const WIDE = 1;
/** Numbers of an entry of a narrow page, and so its least bytes. */
const SHORT = 5;

export function encodePage(page: PendingPage, writer: ByteWriter): void {
  const columns = page.columns!;
  writer.u8(page.mayHave(DELAYED) ? WITH_RESTS : VERSION);
  writer.u8(columns.wide ? WIDE : NARROW);
  writer.varint(page.live);
  let ms = 0;
  let seq = 0;
  let time = 0;
  for (let at = page.nextLive(0); at < page.used; at = page.nextLive(at + 1)) {
    if (columns.wide) {
      page.readId(at, id).encode(writer);
    } else {
      const step = columns.ms[at] - ms;
      writer.varint(step);
      writer.varint(step === 0 ? columns.seq[at] - seq : columns.seq[at]);
      ms = columns.ms[at];
      seq = columns.seq[at];
    }
    writer.varint(zigzag(columns.time[at] - time));
    time = columns.time[at];
    writeCount(writer, columns.count[at]);
    writer.varint(columns.consumer[at] === UNOWNED ? 0 : columns.consumer[at] + 1);
  }
}

/**
 * Fills an unloaded page; `delayShift` is added to the ends of delays of version 1. Throws an Error that
 * says what is wrong with the bytes.
 */
export function decodePage(page: PendingPage, bytes: Buffer, delayShift = 0): void {
  try {
    fill(page, new ByteReader(bytes), delayShift);
  } catch (cause) {
    page.columns = null;
    throw new Error(`pending page ${page.id} is damaged: ${(cause as Error).message}`, { cause });
  }
}

function fill(page: PendingPage, reader: ByteReader, delayShift: number): void {
  const version = reader.u8();
  if (version !== VERSION && version !== WITH_RESTS)
    throw new Error(`version ${version} is not known`);
  const form = reader.u8();
  if (form > WIDE) throw new Error(`form ${form} is not known`);
  const count = reader.varint();
  if (count > PAGE_ENTRIES || count !== page.live) {
    throw new Error(`${count} entries where ${page.live} were expected`);
  }
  const columns = takeColumns(Math.max(1, count), form === WIDE, false);
  page.columns = columns;
  previous.copy(page.low);
  let ms = 0;
  let seq = 0;
  let time = 0;
  for (let at = 0; at < count; at++) {
    if (form === WIDE) {
      page.writeId(at, id.decode(reader));
      if (id.compare(previous) < (at === 0 ? 0 : 1)) throw new Error('ids do not ascend');
      previous.copy(id);
      time += unzigzag(reader.varint());
      place(page, at, time, readCount(reader), reader.varint());
      continue;
    }
    let { at: next } = reader;
    const { buffer } = reader;
    let step = buffer[next];
    let more = buffer[next + 1];
    let elapsed = buffer[next + 2];
    let deliveries = buffer[next + 3];
    let consumer = buffer[next + 4];
    // Most numbers are of one byte: no call for each of them.
    if (next + SHORT <= reader.end && (step | more | elapsed | deliveries | consumer) < 128) {
      next += SHORT;
      reader.at = next;
    } else {
      step = reader.varint();
      more = reader.varint();
      elapsed = reader.varint();
      deliveries = readCount(reader);
      consumer = reader.varint();
    }
    // Neither is negative, so ids ascend unless both are 0; the first is not before the page's low.
    if (step === 0 && (at === 0 ? isBefore(more, page.low) : more === 0)) {
      throw new Error('ids do not ascend');
    }
    ms += step;
    seq = step === 0 ? seq + more : more;
    if (ms > U32_MAX || seq > U32_MAX) throw new Error('an id beyond the page');
    columns.ms[at] = ms;
    columns.seq[at] = seq;
    time += unzigzag(elapsed);
    place(page, at, time, deliveries, consumer);
  }
  if (version === VERSION && page.mayHave(DELAYED)) shiftDelays(page, count, delayShift);
  if (!reader.done) throw new Error('bytes left over');
}

/** `consumer` as it is stored: one more than the index, 0 = of no consumer. */
function place(page: PendingPage, at: number, time: number, count: number, consumer: number): void {
  const columns = page.columns!;
  if (consumer > UNOWNED) throw new Error('a number out of range');
  columns.time[at] = time;
  columns.count[at] = count;
  columns.consumer[at] = consumer === 0 ? UNOWNED : consumer - 1;
  if (consumer !== 0 && !page.mayHave(consumer - 1)) {
    throw new Error(`consumer ${consumer - 1} was not expected`);
  }
}

/** The ends of delays, of which version 1 holds each too early. */
function shiftDelays(page: PendingPage, count: number, shift: number): void {
  const { consumer, time } = page.columns!;
  for (let at = 0; at < count; at++) if (consumer[at] === DELAYED) time[at] += shift;
}

/** Whether a sequence of 32 bits is below the id's. */
function isBefore(seq: number, { seqHi, seqLo }: StreamId): boolean {
  return seqHi > 0 || seq < seqLo;
}

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

const U32_MAX = 0xffff_ffff;
const id = new StreamId();
const previous = new StreamId();
