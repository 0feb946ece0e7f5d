/**
 * From a URL to a connected broker.
 *
 * Holds: which scheme is whose. Ours come with this package; adapters are packages of their own,
 * loaded when their scheme is first asked for; anybody can register a scheme.
 */
import { RivuletError } from '../errors.ts';
import { nearestName } from '../util/nearest-name.ts';
import { splitAddresses, withoutPassword } from './addresses.ts';
import type { Broker } from './broker.ts';
import type { BrokerOptions } from './options.ts';

/** Makes a broker that is not connected yet. All addresses have one scheme. */
export type BrokerFactory = (
  addresses: readonly string[],
  options: Partial<BrokerOptions>,
) => Broker;

/** What an adapter's module exports. */
export interface BrokerModule {
  readonly createBroker: BrokerFactory;
}

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
  registerScheme(scheme, () => import('./remote-broker.ts'));
}
registerScheme('http', () => import('./http-broker.ts'));

registerScheme('memory', () => import('./embedded-broker.ts'));
registerScheme('file', () => import('./embedded-broker.ts'));

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
export async function openBroker(
  url: string | readonly string[],
  options: Partial<BrokerOptions> = {},
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
  const broker = createBroker(addresses, options);
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
      `${JSON.stringify(withoutPassword(address))} is no URL: it begins with no scheme`,
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
      : `${scheme}: the package ${name} is there and not whole: build it (npm run build), or install it again`;
    throw new RivuletError('ADAPTER_MISSING', text, { cause });
  }
}

function unknownScheme(scheme: string): RivuletError {
  const known = [...schemes.keys()].sort();
  const nearest = nearestName(scheme, known);
  const hint = nearest === null ? `there are ${known.join(', ')}` : `did you mean ${nearest}:?`;
  return new RivuletError('UNKNOWN_SCHEME', `no broker has the scheme ${scheme}: ${hint}`);
}
