/**
 * What of the memory in use is not the clients' data, as Redis counts it for INFO and MEMORY STATS: what
 * the process used when it was ready, what clients have sent and not yet read, and the log's buffers.
 *
 * Cost: one pass over the connections.
 */
import type { ServerState } from '../server-state.ts';

export interface MemoryOverhead {
  /** Bytes of input and output held for clients. */
  readonly clients: number;
  /** Bytes recorded and not on disk yet. */
  readonly log: number;
  readonly total: number;
}

export function memoryOverhead(server: ServerState): MemoryOverhead {
  let clients = 0;
  for (const { heldBytes } of server.connections.values()) clients += heldBytes;
  const { appended, durable } = server.engine.journal;
  const log = appended - durable;
  return { clients, log, total: server.startMemory + clients + log };
}
