/**
 * What `micro repair DIR` shows and does: the log frame by frame, and a consistent log made of what
 * is left.
 *
 * `inspect` changes nothing. `salvage` keeps everything before the damage and, when asked to, the
 * whole frames after it, renumbered so that positions run on. It deletes nothing: every file that it
 * replaces or drops gets a second name in DIR/damaged-<time>/ first.
 * Invariant: without `keepAfter` a crash at any moment leaves the log as it was or salvaged. With it,
 * a crash may leave a log that is refused; the originals in damaged-<time>/ can then be put back.
 * What the records mean is the engine's business: replaying frames after a gap may fail there.
 */
import { type Disk, writeAll } from './disk/disk.ts';
import { bodyLength, moveFrame, SECTOR, segmentHeader, segmentName } from './log/frame.ts';
import { damage, listSegments } from './log/recovery.ts';
import { SegmentReader } from './log/segment-reader.ts';
import { StorageError } from './storage-error.ts';
import { CHECKPOINT_DIRECTORY } from './store.ts';

export interface InspectOptions {
  readonly disk: Disk;
  readonly directory: string;
  /** The checkpoint's position; 0 where there is none or it is to be set aside. */
  readonly from: number;
}

export interface Fault {
  readonly kind: 'damaged' | 'missing' | 'torn';
  readonly file: string;
  readonly offset: number;
  /** Log position at which it begins, and at which frames go on (null: they do not). */
  readonly position: number;
  readonly resumes: number | null;
  /** The checkpoint holds what was there, or nothing in it had been acknowledged. */
  readonly harmless: boolean;
  readonly text: string;
}

export interface SegmentInspection {
  readonly name: string;
  readonly start: number;
  readonly bytes: number;
  frames: number;
  records: number;
  /** Position after the last whole frame. */
  end: number;
  /** Offset and length of every whole frame that carries records, in order. */
  readonly places: { readonly offset: number; readonly bytes: number; readonly position: number }[];
}

export interface Inspection {
  readonly directory: string;
  readonly from: number;
  readonly segments: readonly SegmentInspection[];
  readonly faults: readonly Fault[];
  /** Where a salvage without `keepAfter` ends: everything before is whole. */
  readonly soundTo: number;
}

/** Reads the whole log. Rejects with NEWER_FORMAT or FOREIGN_FILE: then there is nothing to judge. */
export async function inspect(options: InspectOptions): Promise<Inspection> {
  const { disk, directory, from } = options;
  const listed = await listSegments(disk, directory);
  const first = Math.max(
    listed.findLastIndex((segment) => segment.start <= from),
    0,
  );
  const segments: SegmentInspection[] = [];
  const faults: Fault[] = [];
  let position = Math.min(listed[first]?.start ?? from, from);
  for (let i = 0; i < listed.length; i++) {
    const { name, start } = listed[i];
    const needed = i >= first;
    if (needed && start > position && !faults.some((fault) => fault.resumes === null)) {
      faults.push(gap(directory, name, position, start, from));
    }
    const found: Fault[] = [];
    const last = i === listed.length - 1;
    const segment = await inspectSegment(options, name, start, last, found);
    segments.push(segment);
    if (needed) {
      // A fault that runs to the end of its segment ends where the next segment begins.
      const next = listed[i + 1]?.start ?? null;
      faults.push(
        ...found
          .filter((fault) => fault.resumes !== null || last || segment.end !== next)
          .map((fault) => resumed(fault, fault.resumes ?? next, from)),
      );
      position = faults.at(-1)?.resumes === next && next !== null ? next : segment.end;
    }
  }
  const fatal = faults.find((fault) => !fault.harmless);
  return {
    directory,
    from,
    segments,
    faults,
    soundTo: fatal?.position ?? Math.max(position, from),
  };
}

function resumed(fault: Fault, resumes: number | null, from: number): Fault {
  return {
    ...fault,
    resumes,
    harmless: fault.kind === 'torn' || (resumes !== null && resumes <= from),
  };
}

async function inspectSegment(
  { disk, directory, from }: InspectOptions,
  name: string,
  start: number,
  last: boolean,
  faults: Fault[],
): Promise<SegmentInspection> {
  const segment = { name, start, bytes: 0, frames: 0, records: 0, end: start, places: [] };
  let reader: SegmentReader;
  try {
    reader = await SegmentReader.open(disk, directory, name, start);
  } catch (error) {
    if (!(error instanceof StorageError) || error.code !== 'LOG_DAMAGED') throw error;
    const text = 'the segment has no readable header, so its frames cannot be verified';
    faults.push(fault('damaged', `${directory}/${name}`, 0, start, null, false, text));
    return segment;
  }
  try {
    const result: SegmentInspection = { ...segment, bytes: reader.size };
    await walk(reader, from, last, result, faults);
    return result;
  } finally {
    await reader.close();
  }
}

/** Frame after frame, stepping over what is not whole. */
async function walk(
  reader: SegmentReader,
  from: number,
  last: boolean,
  segment: SegmentInspection,
  faults: Fault[],
): Promise<void> {
  for (;;) {
    const finding = await reader.find(() => true);
    const { header } = reader;
    if (finding === 'frame' && header.position === segment.end) {
      const bytes = reader.frameBytes;
      if (header.records > 0) {
        segment.places.push({ offset: reader.offset, bytes, position: header.position });
      }
      segment.frames++;
      segment.records += header.records;
      segment.end = header.position + header.bodyLength;
      reader.offset += bytes;
      continue;
    }
    const { offset } = reader;
    if (finding === 'frame' && header.position > segment.end) {
      const harmless = header.position <= from;
      const text = 'records are missing before the frame';
      faults.push(
        fault('missing', reader.path, offset, segment.end, header.position, harmless, text),
      );
      segment.end = header.position;
      continue;
    }
    const remains = await reader.examine(segment.end + 1);
    if (remains.end === offset) return;
    const how = await damage(reader, finding, remains, segment.end);
    const torn = how === null && last && remains.frameAt === null;
    const resumes = remains.frameAt === null ? null : remains.framePosition;
    const harmless = torn || (resumes !== null && resumes <= from);
    const text = torn
      ? 'a write that a crash tore; nothing in it was acknowledged'
      : `the frame ${how ?? 'is not whole'}`;
    faults.push(
      fault(torn ? 'torn' : 'damaged', reader.path, offset, segment.end, resumes, harmless, text),
    );
    if (remains.frameAt === null) return;
    reader.offset = remains.frameAt;
    segment.end = remains.framePosition;
    await reader.load(SECTOR);
  }
}

function fault(
  kind: Fault['kind'],
  file: string,
  offset: number,
  position: number,
  resumes: number | null,
  harmless: boolean,
  text: string,
): Fault {
  return { kind, file, offset, position, resumes, harmless, text };
}

function gap(
  directory: string,
  name: string,
  position: number,
  start: number,
  from: number,
): Fault {
  const text = `no segment holds the log from position ${position} to ${start}`;
  return fault('missing', `${directory}/${name}`, 0, position, start, start <= from, text);
}

type Places = SegmentInspection['places'];

/** The inspection for people. */
export function describeInspection(inspection: Inspection): string {
  const { directory, from, segments, faults, soundTo } = inspection;
  const lines = [`${directory}: checkpoint at position ${from}, ${segments.length} log segments`];
  for (const segment of segments) {
    lines.push(
      `  ${segment.name}  ${segment.bytes} bytes  ${segment.frames} frames  ` +
        `${segment.records} records  positions ${segment.start} to ${segment.end}`,
    );
  }
  for (const each of faults) {
    const lost = each.resumes === null ? 'to the end' : `to ${each.resumes}`;
    lines.push(
      `  ${each.harmless ? 'note' : 'DAMAGE'}: ${each.file} offset ${each.offset}, positions ` +
        `${each.position} ${lost}: ${each.text}`,
    );
  }
  lines.push(
    faults.every((each) => each.harmless)
      ? `The log is sound up to position ${soundTo}.`
      : `Sound up to position ${soundTo}. --apply keeps what is before it; --apply --keep-after keeps ` +
          'the whole frames after it too.',
  );
  return lines.join('\n');
}

export interface SalvageOptions extends InspectOptions {
  /** Keep whole frames after the damage as well. */
  readonly keepAfter: boolean;
  /** Names the directory for the originals: damaged-<stamp>. */
  readonly stamp: string;
  /** Sets DIR/checkpoint aside: for one that is damaged while the log reaches back to 0. */
  readonly dropCheckpoint?: boolean;
}

export interface SalvageReport {
  /** Where the originals are; null when there was nothing to do. */
  readonly aside: string | null;
  readonly keptFrames: number;
  /** Frames that are whole and were dropped, because `keepAfter` was not given. */
  readonly droppedFrames: number;
  readonly position: number;
}

/** Makes a consistent log. The directory must be locked and no server running. */
export async function salvage(options: SalvageOptions): Promise<SalvageReport> {
  const { disk, directory, from, keepAfter } = options;
  const inspection = await inspect(options);
  const fatal = inspection.faults.find((each) => !each.harmless);
  const frames = inspection.segments.reduce((sum, { places }) => sum + places.length, 0);
  const aside = `${directory}/damaged-${options.stamp}`;
  if (options.dropCheckpoint === true) await dropCheckpoint(options, inspection, aside);
  if (fatal === undefined) {
    const kept = options.dropCheckpoint === true ? aside : null;
    return { aside: kept, keptFrames: frames, droppedFrames: 0, position: inspection.soundTo };
  }
  // Everything from the segment of the first damage on is written again or set aside.
  const inSegment = (name: string): boolean =>
    fatal.kind !== 'missing' && `${directory}/${name}` === fatal.file;
  const touched = inspection.segments.filter(
    ({ name, start, end }) => inSegment(name) || start >= fatal.position || end > fatal.position,
  );
  const outputs: { path: string; name: string }[] = [];
  let position = Math.max(fatal.position, from);
  let dropped = 0;
  const output = async (source: string | null, start: number, places: Places): Promise<void> => {
    const path = `${directory}/repair-${outputs.length}.tmp`;
    outputs.push({ path, name: segmentName(start) });
    position = await rewrite(disk, source, places, path, start, fatal.position, from);
  };
  for (const segment of touched) {
    const places = segment.places.filter((place) => keepAfter || place.position < fatal.position);
    dropped += segment.places.length - places.length;
    if (places.length === 0) continue;
    const first = inSegment(segment.name);
    await output(`${directory}/${segment.name}`, first ? segment.start : position, places);
  }
  // An empty segment, because a checkpoint without any log would be refused.
  const hit = touched.find(({ name }) => inSegment(name));
  if (
    outputs.length === 0 &&
    (hit !== undefined || touched.length === inspection.segments.length)
  ) {
    await output(null, hit?.start ?? position, []);
  }
  await disk.makeDirectory(aside);
  for (const { name } of touched) await disk.link(`${directory}/${name}`, `${aside}/${name}`);
  await disk.syncDirectory(aside);
  await disk.syncDirectory(directory);
  // Last first: until the first of them is replaced, the log is refused as it was before.
  const replaced = new Set(outputs.map(({ name }) => name));
  for (const { name } of touched.toReversed()) {
    if (!replaced.has(name)) await disk.remove(`${directory}/${name}`);
  }
  for (const { path, name } of outputs.toReversed())
    await disk.rename(path, `${directory}/${name}`);
  await disk.syncDirectory(directory);
  return { aside, keptFrames: frames - dropped, droppedFrames: dropped, position };
}

async function dropCheckpoint(
  { disk, directory, from }: SalvageOptions,
  inspection: Inspection,
  aside: string,
): Promise<void> {
  if (from !== 0 || inspection.segments[0]?.start !== 0) {
    throw new StorageError(
      'LOG_MISSING',
      'The checkpoint cannot be done without: the log no longer reaches back to the beginning. ' +
        'Restore the directory from a backup.',
      { file: directory },
    );
  }
  await disk.makeDirectory(aside);
  await disk.rename(`${directory}/${CHECKPOINT_DIRECTORY}`, `${aside}/${CHECKPOINT_DIRECTORY}`);
  await disk.syncDirectory(directory);
}

/**
 * Makes a segment of frames: those before the damage keep their positions, those after it follow on.
 * Returns the position after them.
 */
async function rewrite(
  disk: Disk,
  source: string | null,
  places: Places,
  target: string,
  start: number,
  damagedAt: number,
  checkpoint: number,
): Promise<number> {
  const salt = (start ^ 0x5a17_5a17) >>> 0;
  const from = source === null ? null : await disk.open(source);
  const to = await disk.open(target);
  try {
    await to.truncate(0);
    await writeAll(to, segmentHeader(start, salt), 0, false);
    let offset = SECTOR;
    let position = start;
    for (const place of places) {
      position = place.position < damagedAt ? place.position : Math.max(position, checkpoint);
      const frame = await from!.read(place.offset, place.bytes);
      moveFrame(frame, position, salt);
      await writeAll(to, frame, offset, false);
      offset += place.bytes;
      position += bodyLength(frame);
    }
    await to.sync();
    return position;
  } finally {
    await from?.close();
    await to.close();
  }
}
