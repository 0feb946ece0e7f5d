/**
 * What the server does for a group without a command: how long it waits for an acknowledgement, how
 * often it delivers an entry, after what delay it retries one, where an entry goes that was delivered
 * too often.
 *
 * Invariant: a policy is never changed, only replaced; so groups and records may share it.
 * As bytes, version 1:
 *
 *     u8 version (1) · varint ack wait · varint max deliveries
 *     u8 backoff (0 none, 1 plain, 2 with jitter), then unless 0: varint min · varint max · f64 factor
 *     u8 dead letter (0 none, 1 key follows) · bytes key
 */

import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import type { Backoff } from '../util/time/backoff.ts';
import { countValue } from './delivery-count.ts';

export interface GroupPolicy {
  /** Milliseconds after which a delivered entry that was not acknowledged is due again. */
  readonly ackWait: number;
  /** Deliveries after which an entry is not delivered again; 0 = no limit. */
  readonly maxDeliveries: number;
  /** The delay of an entry that its consumer returned (XNACK); null = none. */
  readonly backoff: Backoff | null;
  /** The stream for entries whose deliveries are used up; null = they are dropped. */
  readonly deadLetter: Buffer | null;
}

export const defaultPolicy: GroupPolicy = {
  ackWait: 30_000,
  maxDeliveries: 0,
  backoff: null,
  deadLetter: null,
};

/** Whether an entry with this delivery count (as kept in memory, FATAL included) is not delivered again. */
export function isSpent(policy: GroupPolicy, deliveries: number): boolean {
  return policy.maxDeliveries > 0 && countValue(deliveries) >= policy.maxDeliveries;
}

export function samePolicy(a: GroupPolicy, b: GroupPolicy): boolean {
  const [x, y] = [a.backoff, b.backoff];
  return (
    a.ackWait === b.ackWait &&
    a.maxDeliveries === b.maxDeliveries &&
    (x === null || y === null
      ? x === y
      : x.minMs === y.minMs &&
        x.maxMs === y.maxMs &&
        x.factor === y.factor &&
        x.jitter === y.jitter) &&
    (a.deadLetter === null || b.deadLetter === null
      ? a.deadLetter === b.deadLetter
      : a.deadLetter.equals(b.deadLetter))
  );
}

const VERSION = 1;

export function encodePolicy(policy: GroupPolicy, writer: ByteWriter): void {
  const { backoff, deadLetter } = policy;
  writer.u8(VERSION);
  writer.varint(policy.ackWait);
  writer.varint(policy.maxDeliveries);
  writer.u8(backoff === null ? 0 : backoff.jitter ? 2 : 1);
  if (backoff !== null) {
    writer.varint(backoff.minMs);
    writer.varint(backoff.maxMs);
    writer.f64(backoff.factor);
  }
  writer.u8(deadLetter === null ? 0 : 1);
  if (deadLetter !== null) writer.bytes(deadLetter);
}

/** Throws an Error where the bytes are damaged. */
export function decodePolicy(reader: ByteReader): GroupPolicy {
  const version = reader.u8();
  if (version !== VERSION) throw new Error(`group policy: version ${version} is not known`);
  const ackWait = reader.varint();
  const maxDeliveries = reader.varint();
  const kind = reader.u8();
  const backoff =
    kind === 0
      ? null
      : {
          minMs: reader.varint(),
          maxMs: reader.varint(),
          factor: reader.f64(),
          jitter: kind === 2,
        };
  const deadLetter = reader.u8() === 0 ? null : Buffer.from(reader.bytes());
  return { ackWait, maxDeliveries, backoff, deadLetter };
}
