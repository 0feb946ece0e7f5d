/**
 * What runs periodically: the ticks of engine and log, rates, memory checks, the end of CLIENT PAUSE, and
 * once a second a check of each client.
 *
 * Invariant: a duty that fails (no file descriptor is left, for example) is noted, and the others run.
 * Cost: a tick, ten times a second, is O(1), apart from the engine's bounded work and, with
 * maxmemory-clients set, a sum over all clients. Once a second: O(clients).
 */

import type { ClientView } from './connection/client-view.ts';
import { clientLine } from './observability/client-info.ts';
import type { ServerState } from './server-state.ts';

const TICK_MS = 100;
/** A client whose commands wait until it reads, and that reads nothing for this long, is closed. */
const STUCK_READER_MS = 60_000;

export class Housekeeping {
  readonly #server: ServerState;
  readonly #timer: NodeJS.Timeout;
  readonly #logTick: () => void;
  /** Bytes in the socket of a suspended client, and since when they have not become fewer. */
  readonly #readers = new WeakMap<ClientView, { unsent: number; since: number }>();
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

  /** Runs each duty separately: one that fails does not stop the others. */
  #tick(): void {
    const server = this.#server;
    const { failures } = server;
    server.lastCommandEndedAt = server.monotonic();
    failures.attempt('the tick', () => server.turns.tick());
    failures.attempt('the tick of the log', this.#logTick);
    failures.attempt('counting', () => server.statistics.sample(server.lastCommandEndedAt));
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

  #check(connection: ClientView, now: number, idleMs: number): void {
    const server = this.#server;
    connection.eachSecond(now);
    const { requests } = connection;
    const idle = now - connection.lastActiveAt;
    const silent = connection.readPaused ? 0 : now - connection.activeAt;
    if (idleMs > 0 && idle > idleMs && !connection.waits) {
      server.log.write('verbose', 'Closing idle client', { client: clientLine(connection) });
      connection.destroy();
    } else if (requests !== null && silent > requests.aliveMs) {
      // It has broken ALIVE: callers that wait for its answers must get RESPONDERLOST.
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

  #stuck(connection: ClientView, now: number): boolean {
    const { unsent } = connection.output;
    const seen = this.#readers.get(connection);
    if (seen === undefined || unsent < seen.unsent) {
      this.#readers.set(connection, { unsent, since: now });
      return false;
    }
    seen.unsent = unsent;
    return now - seen.since > STUCK_READER_MS;
  }

  /** maxmemory-clients: closes the clients that hold the most bytes. */
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
