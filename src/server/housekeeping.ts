/**
 * What has to happen now and then: the engine's tick, the log's, rates, memory, idle clients, clients
 * that do not read, the end of a CLIENT PAUSE.
 *
 * Invariant: a duty that fails (no file descriptor is left, say) is noted, and the server goes on.
 * Cost: a tick (ten times a second) is O(1) but for the engine's own bounded work and, with
 * maxmemory-clients set, a sum over all connections; once a second all connections are looked at.
 */

import { clientLine } from './client-info.ts';
import type { Connection } from './connection.ts';
import type { ServerState } from './server-state.ts';

const TICK_MS = 100;
/** A client that was told to read first and takes nothing for so long is cut off. */
const STUCK_READER_MS = 60_000;

export class Housekeeping {
  readonly #server: ServerState;
  readonly #timer: NodeJS.Timeout;
  readonly #logTick: () => void;
  /** What a suspended client's socket still held, and since when it has not become less. */
  readonly #readers = new WeakMap<Connection, { unsent: number; since: number }>();
  #ticks = 0;

  constructor(server: ServerState, logTick: () => void) {
    this.#server = server;
    this.#logTick = logTick;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    server.config.watch('maxmemory', () => this.#checkMemory());
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Each duty by itself: one that fails keeps none of the others from being done. */
  #tick(): void {
    const server = this.#server;
    const { failures } = server;
    server.mark = server.monotonic();
    failures.attempt('the tick', () => server.tick());
    failures.attempt('the tick of the log', this.#logTick);
    failures.attempt('counting', () => server.statistics.sample(server.mark));
    failures.attempt('ending a pause', () => {
      if (server.pause !== null && server.pause.until <= server.engine.time.monotonic)
        server.unpause();
    });
    failures.attempt('checking memory', () => this.#checkMemory());
    failures.attempt('checking the memory of clients', () => this.#checkClientMemory());
    if (++this.#ticks % (1000 / TICK_MS) === 0) this.#eachSecond();
  }

  #checkMemory(): void {
    const server = this.#server;
    const used = server.memory.check();
    if (used > server.statistics.peakMemory) server.statistics.peakMemory = used;
  }

  #eachSecond(): void {
    const server = this.#server;
    const now = server.monotonic();
    const idleMs = server.config.number('timeout') * 1000;
    for (const connection of [...server.connections.values()]) {
      server.failures.attempt('checking a client', () => this.#check(connection, now, idleMs));
    }
  }

  #check(connection: Connection, now: number, idleMs: number): void {
    const server = this.#server;
    connection.checkOutput();
    connection.noteSending(now);
    connection.suspension.readFurther();
    const { exchange } = connection;
    exchange?.roomAgain();
    const idle = now - connection.lastActiveAt;
    const silent = connection.suspension.readPaused ? 0 : now - connection.activeAt;
    if (idleMs > 0 && idle > idleMs && !connection.waits) {
      server.log.write('verbose', 'Closing idle client', { client: clientLine(connection) });
      connection.destroy();
    } else if (exchange !== null && silent > exchange.longestSilence) {
      // It promised to be heard from: those who wait for its replies must not wait for nothing.
      server.log.write('verbose', 'Closing silent responder', { client: clientLine(connection) });
      connection.destroy();
    } else if (connection.outputSuspended && this.#stuck(connection, now)) {
      server.statistics.outputLimitDisconnections++;
      server.log.write('warning', 'Closing client that does not read its replies', {
        client: clientLine(connection),
      });
      connection.destroy();
    }
  }

  #stuck(connection: Connection, now: number): boolean {
    const { unsent } = connection.output;
    const seen = this.#readers.get(connection);
    if (seen === undefined || unsent < seen.unsent) {
      this.#readers.set(connection, { unsent, since: now });
      return false;
    }
    seen.unsent = unsent;
    return now - seen.since > STUCK_READER_MS;
  }

  /** maxmemory-clients: the largest go first. */
  #checkClientMemory(): void {
    const server = this.#server;
    const limit = server.config.number('maxmemory-clients');
    if (limit <= 0) return;
    let excess = -limit;
    for (const connection of server.connections.values()) excess += connection.heldBytes;
    if (excess > 0) this.#evictClients(excess);
  }

  #evictClients(excess: number): void {
    const largest = [...this.#server.connections.values()]
      .filter((client) => !client.noEvict)
      .map((client) => ({ client, bytes: client.heldBytes }))
      .sort((a, b) => b.bytes - a.bytes);
    for (const { client, bytes } of largest) {
      if (excess <= 0) return;
      excess -= bytes;
      this.#server.statistics.evictedClients++;
      this.#server.log.write('warning', 'Evicting client: maxmemory-clients is exceeded', {
        client: clientLine(client),
      });
      client.destroy();
    }
  }
}
