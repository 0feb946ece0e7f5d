/**
 * A registry from its name or URL: `memory`, `memory:name`, `static:users=host:port`, `mdns`,
 * `etcd://host:port`, ...
 *
 * Invariant: what a name cannot give is an error that lists the names. A registry's module loads when
 * it is first asked for.
 */
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/scheduler.ts';
import { MemoryRegistry } from './memory.ts';
import type { Registry } from './registry.ts';
import { parseStaticRecords, StaticRegistry } from './static.ts';

export interface OpenRegistryOptions {
  readonly scheduler?: Scheduler;
}

type Opener = (rest: string, options: OpenRegistryOptions) => Promise<Registry>;

const OPENERS: ReadonlyMap<string, Opener> = new Map<string, Opener>([
  ['memory', async (rest) => MemoryRegistry.shared(rest)],
  ['etcd', async (rest, options) => (await import('./etcd.ts')).etcdRegistryFrom(rest, options)],
  [
    'etcds',
    async (rest, options) =>
      (await import('./etcd.ts')).etcdRegistryFrom(rest, { tls: {}, ...options }),
  ],
  [
    'static',
    async (rest, { scheduler }) => new StaticRegistry(parseStaticRecords(rest), scheduler),
  ],
]);

export async function openRegistry(
  url: string,
  options: OpenRegistryOptions = {},
): Promise<Registry> {
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+-]*)(?::(?:\/\/)?(.*))?$/s.exec(url) ?? [];
  const opener = OPENERS.get(scheme);
  if (opener === undefined) {
    const names = [...OPENERS.keys()].join(', ');
    const text = `registry ${JSON.stringify(scheme || '?')} is not known; known are ${names}`;
    throw new RivuletError('UNKNOWN_SCHEME', text);
  }
  return opener(rest, options);
}
