/**
 * A pending page as bytes, for the checkpoint. Version 1, and 2 for a page with resting entries:
 *
 *     u8 version · u8 form (0 narrow, 1 wide) · varint entries
 *     per entry: id · time · varint count · varint consumer + 1 (0 = nobody)
 *
 * id, narrow: varint ms minus the previous entry's (the first: minus the page's low), then varint seq
 * minus the previous one's where ms is the same, else whole. id, wide: sixteen bytes, big-endian.
 * time: zigzag varint of the difference from the previous entry's (the first: from 0); for an entry of
 * nobody it is the place in the row of such, for a resting one the end of its rest. (Version 1 holds
 * that end as much too early as the group's policy waits for an acknowledgement.) Holes are left out.
 * `low`, the number of entries and the consumers' summary stand in the group's metadata
 * (group-codec.ts) and are checked against. Flipped bits are the checkpoint's to find: it checksums
 * every value.
 */
import { StreamId } from '../stream/stream-id.ts';
import { ByteReader, type ByteWriter } from '../util/byte-writer.ts';
import { PAGE_ENTRIES, takeColumns } from './pending-columns.ts';
import { NOBODY, PARKED, type PendingPage } from './pending-page.ts';

const VERSION = 1;
const WITH_RESTS = 2;
const NARROW = 0;
const WIDE = 1;

export function encodePage(page: PendingPage, writer: ByteWriter): void {
  const columns = page.columns!;
  writer.u8(page.mayHave(PARKED) ? WITH_RESTS : VERSION);
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
    writer.varint(columns.count[at]);
    writer.varint(columns.consumer[at] === NOBODY ? 0 : columns.consumer[at] + 1);
  }
}

/**
 * Fills an unloaded page; `restShift` is added to the ends of rests of version 1. Throws an Error that
 * says what is wrong with the bytes.
 */
export function decodePage(page: PendingPage, bytes: Buffer, restShift = 0): void {
  try {
    fill(page, new ByteReader(bytes), restShift);
  } catch (cause) {
    page.columns = null;
    throw new Error(`pending page ${page.id} is damaged: ${(cause as Error).message}`, { cause });
  }
}

function fill(page: PendingPage, reader: ByteReader, restShift: number): void {
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
  previous.setMin();
  let ms = 0;
  let seq = 0;
  let time = 0;
  for (let at = 0; at < count; at++) {
    if (form === WIDE) {
      page.writeId(at, id.decode(reader));
    } else {
      const step = reader.varint();
      ms += step;
      seq = reader.varint() + (step === 0 ? seq : 0);
      if (ms > U32_MAX || seq > U32_MAX) throw new Error('an id beyond the page');
      columns.ms[at] = ms;
      columns.seq[at] = seq;
    }
    page.readId(at, id);
    if (id.compare(at === 0 ? page.low : previous) < (at === 0 ? 0 : 1)) {
      throw new Error('ids do not ascend');
    }
    previous.copy(id);
    time += unzigzag(reader.varint());
    columns.time[at] = time;
    const deliveries = reader.varint();
    const consumer = reader.varint();
    if (deliveries > U32_MAX || consumer > NOBODY) throw new Error('a number out of range');
    columns.count[at] = deliveries;
    columns.consumer[at] = consumer === 0 ? NOBODY : consumer - 1;
    if (version === VERSION && columns.consumer[at] === PARKED) columns.time[at] += restShift;
    if (consumer !== 0 && !page.mayHave(consumer - 1)) {
      throw new Error(`consumer ${consumer - 1} was not expected`);
    }
  }
  if (!reader.done) throw new Error('bytes left over');
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
