/**
 * A stream with its consumer groups: the value that a stream key holds.
 *
 * A stream that comes from the checkpoint is made when it is first used: a restart with very many
 * streams is quick, and unused ones cost only the bytes that describe them.
 * Cost: `stream` is one check.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { PendingList } from '../../consumer-groups/pending/pending-list.ts';
import type { RivuletError } from '../../errors.ts';
import type { Idempotency } from '../../stream/idempotency.ts';
import type { Stream } from '../../stream/stream.ts';
import type { Timed } from '../schedule/deadline-heap.ts';

/** How much of a stream is kept; 0 = no limit. Never changed, only replaced. */
export interface Retention {
  /** Milliseconds. */
  readonly maxAge: number;
  /** Bytes of all nodes as Redis counts them. */
  readonly maxBytes: number;
  readonly maxLen: number;
}

/**
 * A stream's place in a heap of its keyspace. `entry` is the KeyEntry that holds the stream; a key is
 * above its value, so its type is not named here.
 */
export interface StreamDeadline extends Timed {
  readonly entry: object;
}

/** Where the streams of a checkpoint come from: one for all. */
export interface StreamSource {
  /** The stream that these bytes (Stream.export) describe; its blocks are stored under `uid`. */
  load(uid: number, metadata: Buffer): Stream;
}

export function pendingListsOf(value: StreamValue): PendingList[] {
  return Array.from(value.groups.values(), (group) => group.pending);
}

export class StreamValue {
  readonly type = 'stream';
  /** Producers' idempotent ids and the window's bounds; null as long as only defaults apply. */
  idempotency: Idempotency | null = null;
  /** null as long as none was ever set. */
  retention: Retention | null = null;
  /** Its place in the keyspace's RetentionDeadlines; null without a maximum age. */
  retentionDeadline: StreamDeadline | null = null;
  /** Its place in the keyspace's IdempotencyDeadlines. */
  idempotencyDeadline: StreamDeadline | null = null;
  /** Whether the stream knows where the checkpoint keeps its blocks: from its first checkpoint on. */
  coldAttached = false;
  /** Its resident bytes when the memory budget counted them last. */
  countedBytes = 0;
  /** Why a record of the stream could not be replayed; the stream is then closed. */
  damage: RivuletError | null = null;
  private made: Stream | null;
  private ownGroups: Map<string, ConsumerGroup> | null = null;
  private source: StreamSource | null = null;
  private uid = 0;
  private bytes: Buffer | null = null;
  private bytesAt = 0;
  private bytesEnd = 0;

  constructor(stream: Stream | null) {
    this.made = stream;
  }

  /** A stream of the checkpoint, which `bytes` from `at` to `end` describe; they are kept. */
  static stored(
    source: StreamSource,
    uid: number,
    bytes: Buffer,
    at: number,
    end: number,
  ): StreamValue {
    const value = new StreamValue(null);
    value.source = source;
    value.uid = uid;
    value.bytes = bytes;
    value.bytesAt = at;
    value.bytesEnd = end;
    value.coldAttached = true;
    return value;
  }

  /** By the group's name as latin1. Iterate in the byte order of names, as Redis's rax does. */
  get groups(): Map<string, ConsumerGroup> {
    this.ownGroups ??= new Map();
    return this.ownGroups;
  }

  get stream(): Stream {
    return this.made ?? this.make();
  }

  /** False for a stream of the checkpoint that was not used yet: none of its blocks is resident. */
  get isMade(): boolean {
    return this.made !== null;
  }

  /** Closes the stream: what memory has of it lacks a record that the log has. */
  close(damage: RivuletError): void {
    this.damage = damage;
    this.made = null;
  }

  private make(): Stream {
    if (this.damage !== null) throw this.damage;
    this.made = this.source!.load(this.uid, this.bytes!.subarray(this.bytesAt, this.bytesEnd));
    this.source = this.bytes = null;
    return this.made;
  }
}
