/**
 * The server's product, version and abilities, read once per connect.
 *
 * Invariant: a server that lacks a needed command is refused with its name. Cost: three commands.
 */
import type { Capabilities } from 'rivulet/adapter';
import { RivuletError } from 'rivulet/adapter';
import type { Connection } from './connection.ts';

export interface ServerFacts {
  /** `redis`, `valkey`, `rivulet`. */
  readonly product: string;
  readonly version: string;
  /** Rivulet's own server: no scripts, but its own commands. */
  readonly isRivulet: boolean;
  readonly cluster: boolean;
  /** SPUBLISH and SSUBSCRIBE, from 7.0: in a cluster only these count their receivers. */
  readonly shardedPubSub: boolean;
  readonly durability: Capabilities['durability'];
}

/** The first version with XAUTOCLAIM and XPENDING IDLE. */
const OLDEST = [6, 2];

export async function askServer(connection: Connection): Promise<ServerFacts> {
  const info = parseInfo(String(await connection.call('INFO')));
  const version = info.get('redis_version') ?? '0.0.0';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    const text = `this server is Redis ${version}: the redis broker needs 6.2 or later`;
    throw new RivuletError('SERVER_TOO_OLD', text);
  }
  const isRivulet = info.has('rivulet_version');
  const needed = isRivulet ? ['xnack', 'xschedule'] : ['eval', 'zadd', 'xautoclaim', 'sadd'];
  const found = (await connection.call('COMMAND', 'INFO', ...needed)) as unknown[];
  const missing = needed.filter((_, index) => !found[index]);
  if (missing.length > 0) {
    const text = `this server lacks ${missing.join(', ').toUpperCase()}, which the redis broker needs`;
    throw new RivuletError('UNSUPPORTED', text);
  }
  return {
    product: isRivulet ? 'rivulet' : (info.get('server_name') ?? 'redis'),
    version: info.get('rivulet_version') ?? info.get('valkey_version') ?? version,
    isRivulet,
    cluster: info.get('redis_mode') === 'cluster' || info.get('cluster_enabled') === '1',
    shardedPubSub: major >= 7,
    durability: await askDurability(connection, info),
  };
}

async function askDurability(
  connection: Connection,
  info: ReadonlyMap<string, string>,
): Promise<Capabilities['durability']> {
  if (info.get('aof_enabled') !== '1') return 'memory';
  try {
    const [, policy] = (await connection.call('CONFIG', 'GET', 'appendfsync')) as Buffer[];
    return policy?.toString() === 'always' ? 'fsync' : 'os';
  } catch {
    // Managed servers refuse CONFIG: then only the weaker durability is certain.
    return 'os';
  }
}

function parseInfo(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0 && line[0] !== '#') fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return fields;
}
