/** Messages of a topic: a page of them, and one. */
import type { DeadOrigin } from './dead-letters.ts';
import type { Decoded } from './decoded.ts';

export interface EntryRow {
  readonly id: string;
  /** The id that its publisher and its consumers have, where that is another one (RabbitMQ). */
  readonly messageId?: string;
  /** Time of the id. */
  readonly at: number | null;
  /** Of all fields. */
  readonly bytes: number;
  readonly bodyBytes: number;
  readonly key: string | null;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Of the first 256 bytes. */
  readonly preview: Decoded;
  readonly contentType: string | null;
  readonly traceId: string | null;
}

export interface EntriesPage {
  /** In the order asked for: rising ids, or falling ones with `newest`. */
  readonly entries: readonly EntryRow[];
  readonly firstId: string | null;
  readonly lastId: string | null;
  /** When the first and the last were stored. */
  readonly firstAt: number | null;
  readonly lastAt: number | null;
  readonly length: number;
  /** The value of `after` that goes on in the same direction; null at the end. */
  readonly next: string | null;
  /** With `where`: how many entries were looked at, and up to which. */
  readonly scanned: number;
  readonly scannedTo: string | null;
  /** Why it ended: the page is full, the topic has no more, or a limit of one request. */
  readonly stopped: 'page' | 'end' | 'entries' | 'bytes' | 'time';
}

export interface EntryDetail extends EntryRow {
  readonly topic: string;
  /** The whole body; null above 1 MiB: download it. */
  readonly body: Decoded | null;
  /** Where it came from, when it is a dead letter. */
  readonly dead: DeadOrigin | null;
  readonly editedFrom: string | null;
  readonly redrivenFrom: string | null;
  readonly cause: string | null;
  readonly previousId: string | null;
  readonly nextId: string | null;
}
