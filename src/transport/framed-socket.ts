/**
 * A socket that speaks frames: what both ends of a TCP connection of ours share.
 *
 * Holds: the socket, the frames gathered and not yet written, and when the peer was last heard.
 * Invariants: the first frame while nothing else is in flight leaves at once, further ones of the
 * same turn of the loop leave together at its end; a peer that is silent for `LOST_AFTER_MS` while
 * calls are in flight is lost; after `close` nothing is written. Bound: at most `MAX_UNSENT` bytes
 * wait in the socket before `isFull` says so. Cost: one system call per turn.
 */
import type { Socket } from 'node:net';
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/scheduler.ts';
import { Frame, FrameReader, FrameSplitter, FrameWriter } from './tcp-frame.ts';

const PING_EVERY_MS = 1000;
export const LOST_AFTER_MS = 3000;
const MAX_UNSENT = 16 * 1024 * 1024;
/** Written out before the turn ends when this much has gathered, so that the peer can begin. */
const FLUSH_BYTES = 128 * 1024;

export interface FramedSocketOwner {
  onFrame(frame: FrameReader): void;
  /** Called once. */
  onClosed(error: RivuletError): void;
  /** Calls that have not ended. */
  readonly load: number;
}

export class FramedSocket {
  readonly writer = new FrameWriter();
  readonly peer: string;
  readonly #socket: Socket;
  readonly #owner: FramedSocketOwner;
  readonly #scheduler: Scheduler;
  readonly #splitter: FrameSplitter;
  #isFlushDue = false;
  #heardAt: number;
  #stopPing: (() => void) | null = null;
  #error: RivuletError | null = null;
  #whenDrained: (() => void)[] = [];

  constructor(socket: Socket, owner: FramedSocketOwner, scheduler: Scheduler) {
    this.#socket = socket;
    this.#owner = owner;
    this.#scheduler = scheduler;
    this.#heardAt = scheduler.monotonic();
    this.peer = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
    this.#splitter = new FrameSplitter(new FrameReader(), (frame) => this.#onFrame(frame));
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('drain', () => this.#onDrain());
    socket.on('end', () => this.#lost('the peer closed the connection'));
    socket.on('error', (cause) => this.#lost(`the connection failed: ${cause.message}`, cause));
    socket.on('close', () => this.#lost('the connection was closed'));
  }

  get isClosed(): boolean {
    return this.#error !== null;
  }

  get error(): RivuletError | null {
    return this.#error;
  }

  /** Whether more should be written only after `drained`. */
  get isFull(): boolean {
    return this.#socket.writableLength + this.writer.pending >= MAX_UNSENT;
  }

  drained(callback: () => void): void {
    if (this.isFull && !this.isClosed) this.#whenDrained.push(callback);
    else callback();
  }

  /** Writes what has gathered: now when `alone`, else at the end of this turn of the loop. */
  flush(alone: boolean): void {
    if (alone || this.writer.pending >= FLUSH_BYTES) this.#write();
    else if (!this.#isFlushDue) {
      this.#isFlushDue = true;
      setImmediate(() => {
        this.#isFlushDue = false;
        this.#write();
      });
    }
  }

  /** Calls have begun: the peer is asked for a sign of life until none is left. */
  watch(): void {
    if (this.#stopPing !== null || this.isClosed) return;
    this.#heardAt = this.#scheduler.monotonic();
    this.#schedulePing();
  }

  /** Writes what has gathered and ends the connection; with a reason, calls fail with it. */
  close(reason = new RivuletError('CLOSED', 'the connection was closed')): void {
    if (this.isClosed) return;
    this.#write();
    this.#finish(reason);
    this.#socket.end();
    // A peer that does not end its side must not hold the socket.
    const stop = this.#scheduler.after(1000, () => this.#socket.destroy(), false);
    this.#socket.once('close', stop);
  }

  destroy(error: RivuletError): void {
    if (this.isClosed) return;
    this.#write();
    this.#finish(error);
    this.#socket.destroySoon();
  }

  #write(): void {
    if (this.writer.pending === 0) return;
    const chunks = this.writer.take();
    if (this.isClosed || this.#socket.destroyed) return;
    if (chunks.length === 1) {
      this.#socket.write(chunks[0] as Uint8Array);
      return;
    }
    this.#socket.cork();
    for (const chunk of chunks) this.#socket.write(chunk);
    this.#socket.uncork();
  }

  #onData(chunk: Buffer): void {
    if (this.isClosed) return;
    this.#heardAt = this.#scheduler.monotonic();
    try {
      this.#splitter.push(chunk);
    } catch (error) {
      const known = error instanceof RivuletError ? error : null;
      const text = `the peer ${this.peer} broke the protocol`;
      this.destroy(known ?? new RivuletError('PROTOCOL', text, { cause: error }));
    }
  }

  #onFrame(frame: FrameReader): void {
    if (this.isClosed) return;
    if (frame.type === Frame.PING) {
      this.writer.begin(Frame.PONG, 0);
      this.writer.end();
      this.flush(true);
    } else if (frame.type !== Frame.PONG) this.#owner.onFrame(frame);
  }

  #onDrain(): void {
    if (this.isFull) return;
    for (const callback of this.#whenDrained.splice(0)) callback();
  }

  #schedulePing(): void {
    this.#stopPing = this.#scheduler.after(PING_EVERY_MS, () => {
      this.#stopPing = null;
      if (this.isClosed || this.#owner.load === 0) return;
      const silent = this.#scheduler.monotonic() - this.#heardAt;
      if (silent >= LOST_AFTER_MS) {
        this.#lost(`the peer ${this.peer} has been silent for ${Math.round(silent)} ms`);
        return;
      }
      if (silent >= PING_EVERY_MS) {
        this.writer.begin(Frame.PING, 0);
        this.writer.end();
        this.flush(true);
      }
      this.#schedulePing();
    });
  }

  #lost(text: string, cause?: Error): void {
    if (this.isClosed) return;
    this.#finish(new RivuletError('RESPONDER_LOST', text, cause ? { cause } : undefined));
    this.#socket.destroy();
  }

  #finish(error: RivuletError): void {
    this.#error = error;
    this.#stopPing?.();
    this.#stopPing = null;
    for (const callback of this.#whenDrained.splice(0)) callback();
    this.#owner.onClosed(error);
  }
}
