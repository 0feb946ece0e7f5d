/**
 * How many clients fit into the process's limit of open files (ulimit -n).
 *
 * As Redis does, `maxclients` is lowered at the start to what the limit allows: 32 descriptors are kept
 * free for the server's own work (segments of the log, checkpoints, system files it reads), and those of
 * the HTTP listener are kept too. Node raises the soft limit to the hard one by itself.
 * Cost: two readings of /proc at the start; where there is no /proc nothing is known and nothing lowered.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Config } from './config.ts';
import type { Logger } from './logger.ts';

/** Descriptors that no client gets: Redis's CONFIG_MIN_RESERVED_FDS. */
const KEPT = 32;

export interface OpenFiles {
  /** Of the process. */
  readonly limit: number;
  readonly open: number;
}

/** Null where the system does not tell. */
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

/** How many clients fit now, beside `others`; Infinity where the system does not tell. */
export function roomForClients(others: number, files: OpenFiles | null = openFiles()): number {
  return files === null
    ? Number.POSITIVE_INFINITY
    : Math.max(0, files.limit - files.open - KEPT - others);
}

/**
 * Lowers `maxclients` to what fits, says so, and refuses a CONFIG SET beyond it. `others`: connections
 * that are no clients, less the clients that are connected already. Throws a sentence when not one client fits.
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
