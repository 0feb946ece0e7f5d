/**
 * The limits of calls: windows in bytes, intervals of signs of life, and the cost of a message.
 *
 * Invariant: both ends of a call compute the same cost for a message; otherwise the credit would drift.
 */
import { ITEM_OVERHEAD } from '../../flow/receive-queue.ts';
import type { RawMessage } from '../message/message.ts';

/** How many bytes of each direction of a stream may be unread. */
export const DEFAULT_WINDOW = 256 * 1024;
/** The largest window, and the largest credit that grants may add up to. */
export const MOST_WINDOW = 2 ** 30;
/** A stream without traffic sends a sign of life this often. After three missed ones it is lost. */
export const PING_EVERY_MS = 10_000;
export const SILENT_FOR_MS = 3 * PING_EVERY_MS;

/** The head of a message on the wire: its headers and key as JSON; empty for a message without both. */
export function headOf({ headers, key }: RawMessage): string {
  for (const _ in headers)
    return JSON.stringify(key === undefined ? { headers } : { headers, key });
  return key === undefined ? '' : JSON.stringify({ key });
}

/** How many bytes of a window a message uses. */
export function costOf(message: RawMessage): number {
  const head = headOf(message);
  return (head === '' ? 0 : Buffer.byteLength(head)) + message.body.length + ITEM_OVERHEAD;
}
