/**
 * A registry from its name or URL: `memory`, `memory:name`, `static:users=host:port`, `mdns`,
 * `etcd://host:port`, `consul://host:port`,
 * `zookeeper://host:port`, `eureka://host:port`, `gossip://key@host:port`, `broker`, `broker:<URL of a
 * broker>`, or several of them at once.
 *
 * Invariant: what a name cannot give is an error that lists the names. A registry's module loads when
 * it is first asked for; a server that cannot be reached is an error of the first call, not of this.
 */
import { splitAddresses } from '../broker/addresses.ts';
import type { Broker } from '../broker/broker.ts';
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { MemoryRegistry } from './memory.ts';
import type { Registry } from './registry.ts';
import { parseStaticRecords, StaticRegistry } from './static.ts';

export interface OpenRegistryOptions {
  readonly scheduler?: Scheduler;
  /** The broker of `broker`: one that is open, and stays open, or a URL. */
  readonly broker?: Broker | string;
}

type Opener = (rest: string, options: OpenRegistryOptions) => Promise<Registry>;

const OPENERS: ReadonlyMap<string, Opener> = new Map<string, Opener>([
  ['memory', async (rest) => MemoryRegistry.shared(rest)],
  [
    'static',
    async (rest, { scheduler }) => new StaticRegistry(parseStaticRecords(rest), scheduler),
  ],
  [
    'mdns',
    async (rest, options) => (await import('./mdns/mdns.ts')).mdnsRegistryFrom(rest, options),
  ],
  [
    'etcd',
    async (rest, options) => (await import('./etcd/etcd.ts')).etcdRegistryFrom(rest, options),
  ],
  [
    'etcds',
    async (rest, options) =>
      (await import('./etcd/etcd.ts')).etcdRegistryFrom(rest, { tls: {}, ...options }),
  ],
  [
    'eureka',
    async (rest, options) =>
      (await import('./eureka/eureka.ts')).eurekaRegistryFrom(rest, ownOf(options)),
  ],
  [
    'eurekas',
    async (rest, options) =>
      (await import('./eureka/eureka.ts')).eurekaRegistryFrom(rest, { tls: {}, ...ownOf(options) }),
  ],
  [
    'zookeeper',
    async (rest, options) =>
      (await import('./zookeeper/zookeeper.ts')).zookeeperRegistryFrom(rest, ownOf(options)),
  ],
  [
    'zookeepers',
    async (rest, options) =>
      (await import('./zookeeper/zookeeper.ts')).zookeeperRegistryFrom(rest, {
        tls: {},
        ...ownOf(options),
      }),
  ],
  [
    'consul',
    async (rest, options) =>
      (await import('./consul/consul.ts')).consulRegistryFrom(rest, ownOf(options)),
  ],
  [
    'consuls',
    async (rest, options) =>
      (await import('./consul/consul.ts')).consulRegistryFrom(rest, { tls: {}, ...ownOf(options) }),
  ],
  [
    'nats',
    async (rest, options) => {
      const { natsRegistryFrom } = await import('./nats.ts');
      return natsRegistryFrom(`nats://${rest === '' ? '127.0.0.1:4222' : rest}`, ownOf(options));
    },
  ],
  [
    'gossip',
    async (rest, options) =>
      (await import('./gossip/gossip.ts')).gossipRegistryFrom(rest, ownOf(options)),
  ],
  ['broker', async (rest, options) => openBrokerOf(rest, options)],
]);

function ownOf({ scheduler }: OpenRegistryOptions): { readonly scheduler?: Scheduler } {
  return scheduler === undefined ? {} : { scheduler };
}

/** One registry, or several as one: writes go to all, reads merge, and one may be down. */
export async function openRegistry(
  registry: string | Registry | readonly (string | Registry)[],
  options: OpenRegistryOptions = {},
): Promise<Registry> {
  if (typeof registry === 'string') return openOne(registry, options);
  if (!isList(registry)) return registry;
  const opened: Registry[] = [];
  try {
    for (const each of registry) {
      opened.push(typeof each === 'string' ? await openOne(each, options) : each);
    }
    const { MultiRegistry } = await import('./multi.ts');
    return new MultiRegistry(opened);
  } catch (error) {
    const own = opened.filter((each) => !registry.includes(each));
    await Promise.all(own.map((each) => each.close()));
    throw error;
  }
}

async function openOne(given: string, options: OpenRegistryOptions): Promise<Registry> {
  const url = asOneAddress(given);
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+-]*)(?::(?:\/\/)?(.*))?$/s.exec(url) ?? [];
  const opener = OPENERS.get(scheme);
  if (opener === undefined) {
    const names = [...OPENERS.keys()].join(', ');
    const text = `registry ${JSON.stringify(scheme || '?')} is not known; known are ${names}`;
    throw new RivuletError('UNKNOWN_SCHEME', text);
  }
  return opener(rest, options);
}

/**
 * `etcd://a:2379,etcd://b:2379`, as MICRO_REGISTRY_ADDRESS gives several servers, is `etcd://a:2379,b:2379`.
 * User and password are the first one's.
 */
function asOneAddress(url: string): string {
  const [first = '', ...others] = splitAddresses(url);
  const scheme = /^[a-z][a-z0-9+-]*:\/\//.exec(first)?.[0];
  if (scheme === undefined || !others.every((each) => each.startsWith(scheme))) return url;
  const hosts = others.map((each) => {
    const rest = each.slice(scheme.length);
    return rest.slice(rest.lastIndexOf('@') + 1);
  });
  return [first, ...hosts].join(',');
}

async function openBrokerOf(rest: string, options: OpenRegistryOptions): Promise<Registry> {
  const broker = rest === '' ? options.broker : rest;
  if (broker === undefined) {
    const text =
      'the registry "broker" needs a broker: write broker:rivulet://host:port, or give one';
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  const { BrokerRegistry } = await import('./broker/broker.ts');
  const { scheduler } = options;
  return new BrokerRegistry(broker, scheduler === undefined ? {} : { scheduler });
}

function isList(
  registry: Registry | readonly (string | Registry)[],
): registry is readonly (string | Registry)[] {
  return Array.isArray(registry);
}
