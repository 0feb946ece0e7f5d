/**
 * What has to happen now and then: the engine's tick, the log's, rates, memory, idle clients, clients
 * that do not read, the end of a CLIENT PAUSE.
 *
 * Cost: a tick (ten times a second) is O(1) but for the engine's own bounded work; once a second all
 * connections are looked at.
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

  #tick(): void {
    const server = this.#server;
    server.mark = server.monotonic();
    server.tick();
    this.#logTick();
    server.statistics.sample(server.mark);
    if (server.pause !== null && server.pause.until <= server.engine.time.monotonic)
      server.unpause();
    this.#checkMemory();
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
    let memory = 0;
    for (const connection of [...server.connections.values()]) {
      connection.checkOutput();
      if (
        idleMs > 0 &&
        now - connection.activeAt > idleMs &&
        !connection.blocked &&
        !connection.listening
      ) {
        server.log.write('verbose', 'Closing idle client', { client: clientLine(connection) });
        connection.destroy();
      } else if (now - connection.activeAt > (connection.exchange?.longestSilence ?? Infinity)) {
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
      memory += connection.heldBytes;
    }
    const limit = server.config.number('maxmemory-clients');
    if (limit > 0 && memory > limit) this.#evictClients(memory - limit);
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
  #evictClients(excess: number): void {
    const largest = [...this.#server.connections.values()]
      .filter((client) => !client.noEvict)
      .sort((a, b) => b.heldBytes - a.heldBytes);
    for (const client of largest) {
      if (excess <= 0) return;
      excess -= client.heldBytes;
      this.#server.log.write('warning', 'Evicting client: maxmemory-clients is exceeded', {
        client: clientLine(client),
      });
      client.destroy();
    }
  }
}
