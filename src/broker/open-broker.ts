/**
 * From a URL to a connected broker.
 *
 * Holds: the module of each scheme. Five schemes come with this package. Adapters are separate packages,
 * loaded when a URL with their scheme is first opened. A program can register more schemes.
 */
import { RivuletError } from '../errors.ts';
import { nearestName } from '../util/nearest-name.ts';
import { splitAddresses, withoutPassword } from './addresses.ts';
import type { Broker } from './broker.ts';
import type { BrokerModule } from './broker-factory.ts';
import type { BrokerOptions } from './options/options.ts';

import type { OpenOptions } from './options/scheme-options.ts';

export type { BrokerFactory, BrokerModule } from './broker-factory.ts';

type Load = () => Promise<BrokerModule>;

const schemes = new Map<string, Load>();

for (const [name, owned] of Object.entries({
  '@rivulet/redis': ['redis', 'rediss'],
  '@rivulet/rabbitmq': ['amqp', 'amqps'],
  '@rivulet/nats': ['nats', 'tls'],
})) {
  for (const scheme of owned) registerScheme(scheme, () => loadAdapter(name, scheme));
}

for (const scheme of ['rivulet', 'rivulets']) {
  registerScheme(scheme, () => import('./remote/remote-broker.ts'));
}
registerScheme('http', () => import('./http/http-broker.ts'));

registerScheme('memory', () => import('./embedded/embedded-broker.ts'));
registerScheme('file', () => import('./embedded/embedded-broker.ts'));

/** Makes `openBroker('scheme:...')` work; the module is loaded when it is first needed. */
export function registerScheme(scheme: string, load: Load): void {
  if (!/^[a-z][a-z0-9+.-]*$/.test(scheme)) {
    throw new RivuletError('INVALID_ARGUMENT', `${JSON.stringify(scheme)} is no URL scheme`);
  }
  schemes.set(scheme, load);
}

/**
 * Opens and connects. `url` may name several servers of one cluster, as an array or separated by
 * commas. Rejects with UNKNOWN_SCHEME, ADAPTER_MISSING, INVALID_ARGUMENT, CONNECTION_FAILED or
 * AUTHENTICATION_FAILED.
 */
export async function openBroker<const Url extends string>(
  url: Url | readonly Url[],
  options: OpenOptions<Url> = {},
): Promise<Broker> {
  const given = typeof url === 'string' ? splitAddresses(url) : url;
  if (!Array.isArray(given) || given.some((each) => typeof each !== 'string')) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      'an address is a URL as text, or several in an array',
    );
  }
  const addresses = given.map((address) => address.trim());
  const found = new Set(addresses.map(schemeOf));
  const [scheme] = found;
  if (scheme === undefined) throw new RivuletError('INVALID_ARGUMENT', 'no address was given');
  if (found.size > 1) {
    const text = `addresses of one broker have one scheme, not ${[...found].join(' and ')}`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  const load = schemes.get(scheme);
  if (load === undefined) throw unknownScheme(scheme);
  const { createBroker } = await load();
  const broker = createBroker(addresses, options as Partial<BrokerOptions>);
  try {
    await broker.connect();
  } catch (error) {
    await broker.disconnect();
    throw error;
  }
  return broker;
}

function schemeOf(address: string): string {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(address)?.[1];
  if (scheme === undefined) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `${JSON.stringify(withoutPassword(address))} is no URL: it has no scheme, as in memory: or rivulet://host`,
    );
  }
  return scheme.toLowerCase();
}

async function loadAdapter(name: string, scheme: string): Promise<BrokerModule> {
  try {
    return await import(name);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    // The package itself, or a file or package that it needs in turn.
    const text = message.includes(`'${name}'`)
      ? `${scheme}: needs a package that is not installed: npm install ${name}`
      : `${scheme}: the package ${name} is installed but incomplete: build it (npm run build), or install it again`;
    throw new RivuletError('ADAPTER_MISSING', text, { cause });
  }
}

function unknownScheme(scheme: string): RivuletError {
  const known = [...schemes.keys()].sort();
  const nearest = nearestName(scheme, known);
  const hint = nearest === null ? `there are ${known.join(', ')}` : `did you mean ${nearest}:?`;
  return new RivuletError('UNKNOWN_SCHEME', `no broker has the scheme ${scheme}: ${hint}`);
}
