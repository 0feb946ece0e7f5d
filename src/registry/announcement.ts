/**
 * What registries publish to each other on a topic: JSON, one announcement per message.
 *
 * Invariants: what is read is checked and bounded as records are; an announcement of a later version
 * with an action that is not known is refused, which passes it over. Cost: linear in the record.
 */
import { RivuletError } from '../errors.ts';
import { MAX_RECORD_BYTES, recordFrom } from './record.ts';
import type { ServiceRecord } from './registry.ts';

export type Announcement =
  | {
      readonly action: 'register' | 'deregister';
      /** The registry that publishes. */
      readonly from: string;
      readonly ttlMs: number;
      readonly service: ServiceRecord;
    }
  | {
      /** `query`: announce what you hold. `marker`: the publisher has read up to here. */
      readonly action: 'query' | 'marker';
      readonly from: string;
      readonly ttlMs: 0;
      readonly service: null;
    };

/** What an announcement needs beside its record. */
const ENVELOPE_BYTES = 1024;
const MAX_TTL_MS = 366 * 24 * 3600_000;

export function encodeAnnouncement(announcement: Announcement): Uint8Array {
  return Buffer.from(JSON.stringify(announcement));
}

/** Throws DECODING_FAILED with the reason. */
export function decodeAnnouncement(bytes: Uint8Array): Announcement {
  if (bytes.length > MAX_RECORD_BYTES + ENVELOPE_BYTES) refuse(`it has ${bytes.length} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
  } catch {
    refuse('it is not JSON');
  }
  const { action, from, ttlMs, service } = (json ?? {}) as Record<string, unknown>;
  if (typeof from !== 'string') refuse('it names no sender');
  if (action === 'query' || action === 'marker') {
    return { action, from: from as string, ttlMs: 0, service: null };
  }
  if (action !== 'register' && action !== 'deregister') refuse('its action is not known');
  const isTtl = typeof ttlMs === 'number' && ttlMs >= 0 && ttlMs <= MAX_TTL_MS;
  if (!isTtl) refuse('its ttlMs is no number of milliseconds');
  return {
    action: action as 'register',
    from: from as string,
    ttlMs: ttlMs as number,
    service: recordFrom(service),
  };
}

function refuse(reason: string): never {
  throw new RivuletError('DECODING_FAILED', `not an announcement of a service: ${reason}`);
}
