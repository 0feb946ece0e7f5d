/**
 * How many clients fit into the process's limit of open files (ulimit -n).
 *
 * As in Redis, `maxclients` is lowered at the start to what the limit allows. 32 descriptors are reserved for
 * the server's own work (segments of the log, checkpoints, system files that it reads), and as many as the
 * HTTP listener may have connections. Node itself raises the soft limit to the hard one.
 * Cost: /proc is read twice at the start. Without /proc the limit is unknown and `maxclients` stays.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Config } from './config/config.ts';
import type { Logger } from './observability/logger.ts';

/** Descriptors that no client gets: Redis's CONFIG_MIN_RESERVED_FDS. */
const KEPT = 32;

export interface OpenFiles {
  /** Of the process. */
  readonly limit: number;
  readonly open: number;
}

/** Null when the system does not report it. */
export function openFiles(): OpenFiles | null {
  try {
    const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
    return line === null
      ? null
      : { limit: Number(line[1]), open: readdirSync('/proc/self/fd').length };
  } catch {
    return null;
  }
}

/** How many clients fit now, besides `others`; Infinity when the system does not report its limit. */
export function roomForClients(others: number, files: OpenFiles | null = openFiles()): number {
  return files === null
    ? Number.POSITIVE_INFINITY
    : Math.max(0, files.limit - files.open - KEPT - others);
}

/**
 * Lowers `maxclients` to what fits, logs that, and refuses a CONFIG SET beyond it. `others`: connections
 * that are not clients, minus the clients that are connected already. Throws when not one client fits.
 */
export function fitMaxClients(
  config: Config,
  log: Logger,
  others: number,
  files: OpenFiles | null = openFiles(),
): void {
  if (files === null) return;
  const room = files.limit - files.open - KEPT - others;
  if (room < 1) {
    throw new Error(
      `the limit of open files is ${files.limit} (ulimit -n), and ${files.open + KEPT + others} are needed before the first client; raise it`,
    );
  }
  const wanted = config.number('maxclients');
  if (wanted > room) {
    log.write(
      'warning',
      `maxclients ${wanted} is lowered to ${room}: the limit of open files is ${files.limit} (ulimit -n), of which the server keeps ${files.limit - room} for itself`,
    );
    config.note('maxclients', String(room));
  }
  config.watch('maxclients', () => {
    if (config.number('maxclients') <= room) return;
    throw new Error(
      `The operating system is not able to handle the specified number of clients, try with ${room}`,
    );
  });
}
