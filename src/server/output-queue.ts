/**
 * Bytes on their way to one client, held back until what they tell of is on disk.
 *
 *   reply ──push(bytes, gate)──> held ──durable >= gate──> leaving ──end of the round──> socket ──> client
 *
 * Holds: the pieces whose gate is still ahead of the log's durable position, and those that may leave
 * and wait for the end of the round (departures.ts), in order. A piece is one chunk's worth of replies,
 * so there are a few per connection at most.
 * Invariant: bytes leave in the order they were pushed, none before its gate.
 * Cost: one write to the socket per round; the kernel usually takes it at once.
 */
import type { Socket } from 'node:net';
import type { BufferPool } from './buffer-pool.ts';
import type { OutputLimit } from './config-values.ts';
import type { Departures } from './departures.ts';

/** So much does not wait for the end of the round. */
const ENOUGH = 64 * 1024;

interface Held {
  readonly bytes: Buffer;
  readonly gate: number;
}

export class OutputQueue {
  /** Pieces waiting for the disk. */
  readonly #held: Held[] = [];
  #heldBytes = 0;
  /** Monotonic ms since which the soft limit is exceeded; 0 = it is not. */
  #softSince = 0;
  readonly #socket: Socket;
  readonly #pool: BufferPool;
  readonly #departures: Departures;
  /** Pieces that leave at the end of the round. */
  readonly #leaving: Buffer[] = [];
  #leavingBytes = 0;
  /** Pooled buffers handed to the socket, in order. */
  readonly #lent: Buffer[] = [];
  readonly #giveBack = (): void => {
    this.#pool.give(this.#lent.shift()!);
  };

  constructor(socket: Socket, pool: BufferPool, departures: Departures) {
    this.#socket = socket;
    this.#pool = pool;
    this.#departures = departures;
  }

  /** Bytes not yet taken by the kernel. */
  get pending(): number {
    return this.#heldBytes + this.#leavingBytes + this.#socket.writableLength;
  }

  /** How many pieces wait for the disk. */
  get held(): number {
    return this.#held.length;
  }

  /** Bytes handed to the socket that the kernel has not taken; falls while the client reads. */
  get unsent(): number {
    const handle = (this.#socket as { _handle?: { writeQueueSize?: number } | null })._handle;
    return handle?.writeQueueSize ?? this.#socket.writableLength;
  }

  /** Returns true when the bytes have to wait for `release`. */
  push(bytes: Buffer, gate: number, durable: number): boolean {
    if (this.#held.length === 0 && gate <= durable) {
      this.#leave(bytes);
      return false;
    }
    this.#held.push({ bytes, gate });
    this.#heldBytes += bytes.length;
    return true;
  }

  /** Sends what may leave now; returns true while something still waits. */
  release(durable: number): boolean {
    let ready = 0;
    while (ready < this.#held.length && this.#held[ready]!.gate <= durable) ready++;
    for (let i = 0; i < ready; i++) {
      const { bytes } = this.#held[i]!;
      this.#heldBytes -= bytes.length;
      this.#leave(bytes);
    }
    this.#held.splice(0, ready);
    return this.#held.length > 0;
  }

  /** Hands what may leave to the socket. */
  depart(): void {
    const leaving = this.#leaving;
    const { length } = leaving;
    if (length === 0) return;
    this.#leavingBytes = 0;
    if (length === 1) {
      this.#send(leaving.pop()!);
      return;
    }
    this.#socket.cork();
    for (const bytes of leaving) this.#send(bytes);
    this.#socket.uncork();
    leaving.length = 0;
  }

  #leave(bytes: Buffer): void {
    this.#leavingBytes += bytes.length;
    if (this.#leaving.push(bytes) === 1) this.#departures.add(this);
    if (this.#leavingBytes > ENOUGH) this.depart();
  }

  /**
   * Whether so many bytes break a limit: the hard one now, or the soft one for its number of seconds. To be
   * asked again while something is pending. Redis's checkClientOutputBufferLimits.
   */
  exceeds(limit: OutputLimit, pending: number, monotonic: number): boolean {
    if (limit.hard > 0 && pending > limit.hard) return true;
    if (limit.soft === 0 || pending <= limit.soft) {
      this.#softSince = 0;
      return false;
    }
    if (this.#softSince === 0) this.#softSince = monotonic;
    return monotonic - this.#softSince > limit.softSeconds * 1000;
  }

  clear(): void {
    this.#held.length = this.#leaving.length = 0;
    this.#heldBytes = this.#leavingBytes = 0;
  }

  #send(bytes: Buffer): void {
    // ReplyWriter hands over a whole pooled buffer, seen by its size, once it is worth it.
    if (bytes.buffer.byteLength === this.#pool.size && bytes.byteOffset === 0) {
      this.#lent.push(Buffer.from(bytes.buffer as ArrayBuffer));
      this.#socket.write(bytes, this.#giveBack);
    } else {
      this.#socket.write(bytes);
    }
  }
}
