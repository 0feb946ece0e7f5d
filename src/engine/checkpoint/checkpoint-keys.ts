/**
 * The names under which the checkpoint keeps things, in byte order.
 *
 *     'b' stream's uid · first id (16)          a block's bytes
 *     'g' stream's uid · group's uid            a group: position, consumers, directory of pages
 *     'i' stream's uid                          idempotent ids of producers
 *     'k' uid                                   a key: keyspace, name, type, expiry, and
 *                                               a string's bytes or a stream's metadata
 *     'm'                                       format version, last uid, keyspace of each database
 *     'p' stream's uid · group's uid · page id  a page of pending entries
 *     'r' stream's uid                          how much of it is kept
 *     's' number                                an entry that waits for its time
 *
 * uids are eight bytes and page ids too, big-endian, so that keys that belong together are neighbours and
 * goes with one range. A stream's uid is its key's.
 */
import type { StreamId } from '../../stream/stream-id.ts';

const BLOCK = 0x62;
const GROUP = 0x67;
const IDEMPOTENCY = 0x69;
const KEY = 0x6b;
const META = 0x6d;
const PAGE = 0x70;
const RETENTION = 0x72;
const SCHEDULED = 0x73;

export const META_KEY = Buffer.of(META);
export const ALL_KEYS_FROM = Buffer.of(KEY);
export const ALL_KEYS_TO = Buffer.of(KEY + 1);
export const ALL_IDS_FROM = Buffer.of(IDEMPOTENCY);
export const ALL_IDS_TO = Buffer.of(IDEMPOTENCY + 1);
export const ALL_GROUPS_FROM = Buffer.of(GROUP);
export const ALL_GROUPS_TO = Buffer.of(GROUP + 1);

export const ALL_RETENTIONS_FROM = Buffer.of(RETENTION);
export const ALL_RETENTIONS_TO = Buffer.of(RETENTION + 1);
export const ALL_SCHEDULED_FROM = Buffer.of(SCHEDULED);
export const ALL_SCHEDULED_TO = Buffer.of(SCHEDULED + 1);

export function keyName(uid: number): Buffer {
  return named(KEY, 8, uid);
}

export function idempotencyName(uid: number): Buffer {
  return named(IDEMPOTENCY, 8, uid);
}

export function retentionName(uid: number): Buffer {
  return named(RETENTION, 8, uid);
}

export function scheduledName(number: number): Buffer {
  return named(SCHEDULED, 8, number);
}

export function groupName(streamUid: number, groupUid: number): Buffer {
  const name = named(GROUP, 16, streamUid);
  writeUid(name, 9, groupUid);
  return name;
}

export function pageName(streamUid: number, groupUid: number, pageId: number): Buffer {
  const name = named(PAGE, 24, streamUid);
  writeUid(name, 9, groupUid);
  writeUid(name, 17, pageId);
  return name;
}

export function blockName(streamUid: number, firstId: StreamId): Buffer {
  const name = named(BLOCK, 24, streamUid);
  firstId.toKey(name, 9);
  return name;
}

/** The blocks of a stream: from this name on and below `blocksEnd`. */
export function blocksBegin(streamUid: number): Buffer {
  return named(BLOCK, 8, streamUid);
}

export function blocksEnd(streamUid: number): Buffer {
  return named(BLOCK, 8, streamUid + 1);
}

export function groupsBegin(streamUid: number): Buffer {
  return named(GROUP, 8, streamUid);
}

export function groupsEnd(streamUid: number): Buffer {
  return named(GROUP, 8, streamUid + 1);
}

export function pagesBegin(streamUid: number): Buffer {
  return named(PAGE, 8, streamUid);
}

export function pagesEnd(streamUid: number): Buffer {
  return named(PAGE, 8, streamUid + 1);
}

export function groupPagesBegin(streamUid: number, groupUid: number): Buffer {
  return pageName(streamUid, groupUid, 0);
}

export function groupPagesEnd(streamUid: number, groupUid: number): Buffer {
  return pageName(streamUid, groupUid + 1, 0);
}

/** The uid that follows the first byte of a name. */
export function uidIn(name: Buffer, at = 1): number {
  return name.readUInt32BE(at) * 0x1_0000_0000 + name.readUInt32BE(at + 4);
}

function named(kind: number, bytes: number, uid: number): Buffer {
  const name = Buffer.allocUnsafe(1 + bytes);
  name[0] = kind;
  writeUid(name, 1, uid);
  return name;
}

function writeUid(name: Buffer, at: number, uid: number): void {
  name.writeUInt32BE(Math.floor(uid / 0x1_0000_0000), at);
  name.writeUInt32BE(uid >>> 0, at + 4);
}
