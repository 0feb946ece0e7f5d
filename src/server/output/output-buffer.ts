/**
 * The output of one client: what its commands wrote, held back until what it shows is on disk.
 *
 *   reply ──handOver──> held ──log durable up to the barrier──> ready ──end of the turn──> socket
 *
 * A piece is one flush's worth of replies, so there are a few per client. Its barrier is the position that
 * the log had reached when the piece was made: whatever the replies show was recorded before it. Where it
 * is known what they show, it is the position behind that (reply-barriers.ts).
 * Invariants: pieces are sent in the order in which they were made; no piece is sent before the log is
 * durable up to its barrier. A reply that shows no stored data has barrier 0, and may wait a millisecond
 * for other bytes (turn-scheduler.ts).
 * Cost: nothing per command; per flush one compare and one entry in a list. The socket is written to once
 * per turn, and usually the kernel takes all of it at once.
 */
import type { Socket } from 'node:net';
import type { Journal } from '../../storage/log/journal.ts';
import type { OutputLimit } from '../config/config-values.ts';
import type { ServerState } from '../server-state.ts';
import type { ScheduledClient } from '../turn-scheduler.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { PendingWrites } from './pending-writes.ts';
import type { ReplyWriter } from './reply-writer.ts';

/** A reply that is longer is handed over before its chunk of input is done. */
export const OUTPUT_CHUNK = 256 * 1024;

/** Ready bytes that are sent without waiting for the end of the turn. */
const SEND_AT_ONCE = 64 * 1024;

/** The client that owns the output. */
export interface OutputOwner extends ScheduledClient {
  readonly reply: ReplyWriter;
  readonly socket: Socket;
  /** The connection has ended, or is cut off: output is dropped. */
  readonly drops: boolean;
  /** Monotonic ms when bytes were last sent. */
  sentAt: number;
  /** More than `outputNotice` bytes are pending: its limits are to be checked. */
  boundOutput(): void;
}

/** What the output needs of the server. */
export type OutputServices = Pick<
  ServerState,
  'pool' | 'pendingWrites' | 'turns' | 'statistics' | 'outputNotice' | 'lastCommandEndedAt'
>;

interface Held {
  readonly bytes: Buffer;
  readonly barrier: number;
}

export class OutputBuffer {
  /** Bytes handed over since the connection began. */
  total = 0;
  readonly #owner: OutputOwner;
  readonly #server: OutputServices;
  readonly #journal: Journal;
  readonly #socket: Socket;
  readonly #pool: BufferPool;
  readonly #pendingWrites: PendingWrites;
  /** The reply's length up to which it is known what it shows, and the position behind that. */
  #knownUpTo = 0;
  #shownUpTo = 0;
  /** The reply's length up to which it may wait for other bytes. */
  #deferredUpTo = 0;
  /** The scheduler will call `release`. */
  #awaitsDurable = false;
  /** Pieces that wait for the disk. */
  readonly #held: Held[] = [];
  #heldBytes = 0;
  /** Pieces that are sent at the end of the turn. */
  readonly #ready: Buffer[] = [];
  #readyBytes = 0;
  /** Monotonic ms since which the soft limit is exceeded; 0 = it is not. */
  #softSince = 0;
  /** Pooled buffers that the socket still uses, in order. */
  readonly #lent: Buffer[] = [];
  readonly #giveBack = (): void => {
    this.#pool.give(this.#lent.shift()!);
  };

  constructor(owner: OutputOwner, server: OutputServices, journal: Journal) {
    this.#owner = owner;
    this.#server = server;
    this.#journal = journal;
    this.#socket = owner.socket;
    this.#pool = server.pool;
    this.#pendingWrites = server.pendingWrites;
  }

  /** Bytes not yet taken by the kernel; what is still in the reply is not counted. */
  get pending(): number {
    return this.#heldBytes + this.#readyBytes + this.#socket.writableLength;
  }

  /** How many pieces wait for the disk. */
  get held(): number {
    return this.#held.length;
  }

  /** Bytes handed to the socket that the kernel has not taken; becomes smaller while the client reads. */
  get unsent(): number {
    const handle = (this.#socket as { _handle?: { writeQueueSize?: number } | null })._handle;
    return handle?.writeQueueSize ?? this.#socket.writableLength;
  }

  // ---- From the reply

  /** The reply from `start` on shows no stored data. */
  showsNothingStored(start: number): void {
    this.showsUpTo(start, 0);
  }

  /** The reply from `start` on shows nothing that was recorded at this position or behind it. */
  showsUpTo(start: number, position: number): void {
    if (start !== this.#knownUpTo) return;
    this.#knownUpTo = this.#owner.reply.length;
    if (position > this.#shownUpTo) this.#shownUpTo = position;
  }

  /** As `showsNothingStored`, and it may wait for other bytes to be sent with. */
  deferrable(start: number): void {
    this.showsNothingStored(start);
    if (start !== this.#deferredUpTo) return;
    if (start === 0) this.#server.turns.defer(this.#owner);
    this.#deferredUpTo = this.#owner.reply.length;
  }

  /** Part of the reply was taken back. */
  truncated(): void {
    this.#knownUpTo = this.#shownUpTo = this.#deferredUpTo = 0;
  }

  flush(): void {
    if (this.#owner.reply.length > this.#deferredUpTo) this.handOver();
  }

  /** Deferred replies have waited long enough. */
  flushDeferred(): void {
    this.#deferredUpTo = 0;
    this.flush();
  }

  /** Makes a piece of what was written to the reply. */
  handOver(): void {
    const owner = this.#owner;
    const { reply } = owner;
    if (owner.drops) {
      reply.release();
      return;
    }
    const server = this.#server;
    const barrier = reply.length <= this.#knownUpTo ? this.#shownUpTo : this.#journal.gate;
    this.#knownUpTo = this.#shownUpTo = this.#deferredUpTo = 0;
    const bytes = reply.take();
    server.statistics.writes++;
    server.statistics.outputBytes += bytes.length;
    this.total += bytes.length;
    owner.sentAt = server.lastCommandEndedAt;
    this.#add(bytes, barrier);
    if (this.pending > server.outputNotice) owner.boundOutput();
  }

  // ---- Past the barrier

  #add(bytes: Buffer, barrier: number): void {
    if (this.#held.length === 0 && barrier <= this.#journal.safe) {
      this.#makeReady(bytes);
      return;
    }
    this.#held.push({ bytes, barrier });
    this.#heldBytes += bytes.length;
    if (this.#awaitsDurable) return;
    this.#awaitsDurable = true;
    this.#server.turns.awaitDurable(this.#owner);
  }

  /** The log is durable further than before. True while pieces still wait: then it is called again. */
  release(): boolean {
    const { safe } = this.#journal;
    let ready = 0;
    while (ready < this.#held.length && this.#held[ready]!.barrier <= safe) ready++;
    for (let i = 0; i < ready; i++) {
      const { bytes } = this.#held[i]!;
      this.#heldBytes -= bytes.length;
      this.#makeReady(bytes);
    }
    this.#held.splice(0, ready);
    this.#awaitsDurable = this.#held.length > 0;
    return this.#awaitsDurable;
  }

  // ---- To the socket

  #makeReady(bytes: Buffer): void {
    this.#readyBytes += bytes.length;
    if (this.#ready.push(bytes) === 1) this.#pendingWrites.add(this);
    if (this.#readyBytes > SEND_AT_ONCE) this.send();
  }

  /** Hands the ready pieces to the socket. */
  send(): void {
    const ready = this.#ready;
    const { length } = ready;
    if (length === 0) return;
    this.#readyBytes = 0;
    if (length === 1) {
      this.#write(ready.pop()!);
      return;
    }
    this.#socket.cork();
    for (const bytes of ready) this.#write(bytes);
    this.#socket.uncork();
    ready.length = 0;
  }

  #write(bytes: Buffer): void {
    // ReplyWriter hands over a whole pooled buffer, recognised by its size, when it is full enough.
    if (bytes.buffer.byteLength === this.#pool.size && bytes.byteOffset === 0) {
      this.#lent.push(Buffer.from(bytes.buffer as ArrayBuffer));
      this.#socket.write(bytes, this.#giveBack);
    } else {
      this.#socket.write(bytes);
    }
  }

  // ---- Limits and end

  /**
   * Whether `bytes` break a limit: the hard one now, or the soft one for its number of seconds. To be
   * called again while output is pending. Redis's checkClientOutputBufferLimits.
   */
  exceeds(limit: OutputLimit, bytes: number, monotonic: number): boolean {
    if (limit.hard > 0 && bytes > limit.hard) return true;
    if (limit.soft === 0 || bytes <= limit.soft) {
      this.#softSince = 0;
      return false;
    }
    if (this.#softSince === 0) this.#softSince = monotonic;
    return monotonic - this.#softSince > limit.softSeconds * 1000;
  }

  /** Forgets what was not handed to the socket. */
  clear(): void {
    this.#held.length = this.#ready.length = 0;
    this.#heldBytes = this.#readyBytes = 0;
  }
}
