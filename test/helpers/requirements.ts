/**
 * What a test needs from the machine beyond Node, and the reason for its skip where that is missing.
 *
 * Under CI=true nothing may be skipped: a missing program is an error there.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's own python: python3-redis is installed for that one. */
export const PYTHON = '/usr/bin/python3';

export type Requirement =
  | 'gcc'
  | 'redis-server'
  | 'redis-cli'
  | 'redis-benchmark'
  | 'redis-py'
  | 'rabbitmq-server'
  | 'nats-server'
  | 'etcd';

/** For `test(name, { skip: missing('redis-server') }, ...)`: false, or why the test is skipped. */
export function missing(...requirements: Requirement[]): string | false {
  const absent = requirements.filter((requirement) => !isThere(requirement));
  if (absent.length === 0) return false;
  const reason = `needs ${absent.join(', ')}, which this machine does not have`;
  if (process.env.CI === 'true') throw new Error(`${reason}; CI=true allows no skips`);
  return reason;
}

function isThere(requirement: Requirement): boolean {
  if (requirement === 'redis-py') {
    return spawnSync(PYTHON, ['-c', 'import redis'], { stdio: 'ignore' }).status === 0;
  }
  // Debian keeps servers where the PATH of an ordinary user does not look.
  const paths = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/lib/rabbitmq/bin'];
  return paths.some((path) => existsSync(join(path, requirement)));
}
