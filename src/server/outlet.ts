/**
 * The way out of one connection: what was written to its reply leaves behind the gate of its moment.
 *
 *   reply ──flush──> outlet (which gate, how patient) ──> output queue (held to the gate) ──> socket
 *
 * Holds: up to where the reply tells of nothing that is stored, and up to where it may wait for company.
 * Invariant: a reply leaves only when the log is safe up to where it was when the reply was written,
 * unless it tells of nothing stored.
 * Cost: nothing per command; per flush one compare, and per piece handed over a few.
 */
import type { Connection } from './connection.ts';
import { OutputQueue } from './output-queue.ts';

/** Output that is handed to the queue before the chunk is done. */
export const OUTPUT_CHUNK = 256 * 1024;

export class Outlet {
  readonly queue: OutputQueue;
  /** Handed over since the connection began. */
  bytes = 0;
  readonly #connection: Connection;
  #gated = false;
  /** The reply's length up to which nothing in it tells of what is stored: no gate for it. */
  #freeTo = 0;
  /** The reply's length up to which it may wait for company. */
  #patientTo = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
    const { socket, server } = connection;
    this.queue = new OutputQueue(socket, server.pool, server.departures);
  }

  /** What was written from `start` on tells of nothing that is stored. */
  free(start: number): void {
    if (start === this.#freeTo) this.#freeTo = this.#connection.reply.length;
  }

  /** As `free`, and it may wait for other bytes to leave with. */
  unhurried(start: number): void {
    const { length } = this.#connection.reply;
    if (start === this.#freeTo) this.#freeTo = length;
    if (start !== this.#patientTo) return;
    if (start === 0) this.#connection.server.later(this.#connection);
    this.#patientTo = length;
  }

  /** A reply was taken back. */
  reconsider(): void {
    this.#freeTo = this.#patientTo = 0;
  }

  /** What waited for company has waited long enough. */
  hurry(): void {
    this.#patientTo = 0;
    this.flush();
  }

  flush(): void {
    if (this.#connection.reply.length > this.#patientTo) this.handOver();
  }

  /** Hands what was written to the output queue, behind the gate of this moment. */
  handOver(): void {
    const { server, reply, engine, drops } = this.#connection;
    if (drops) {
      reply.release();
      return;
    }
    const { journal } = engine;
    const gate = reply.length <= this.#freeTo ? 0 : journal.gate;
    this.#freeTo = this.#patientTo = 0;
    const bytes = reply.take();
    server.statistics.writes++;
    server.statistics.outputBytes += bytes.length;
    this.bytes += bytes.length;
    this.#connection.sentAt = server.mark;
    if (this.queue.push(bytes, gate, journal.safe) && !this.#gated) {
      this.#gated = true;
      server.gate(this.#connection);
    }
    if (this.queue.pending > server.outputNotice) this.#connection.boundOutput();
  }

  /** The log is durable further than before: true while output still waits. */
  release(): boolean {
    this.#gated = this.queue.release(this.#connection.engine.journal.safe);
    return this.#gated;
  }
}
