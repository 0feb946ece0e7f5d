/**
 * From the options of a command line to what they name: a broker, a registry, a stream server.
 *
 * The address is the first of: --broker (--registry), --context, MICRO_BROKER (with go-micro's
 * MICRO_BROKER_ADDRESS), the current context, a server on this machine. Invariant: what was opened is
 * closed when the command ends, however it ends, so that the process can end.
 */
import type { Command } from 'commander';
import { withoutPassword } from '../broker/addresses.ts';
import type { Broker } from '../broker/broker.ts';
import { openBroker } from '../broker/open-broker.ts';
import type { BrokerOptions } from '../broker/options/options.ts';
import { RivuletError } from '../errors.ts';
import { openRegistry } from '../registry/open-registry.ts';
import type { Registry } from '../registry/registry.ts';
import { contextOf } from './contexts.ts';
import { CommandFailure, EXIT, usage } from './exit-code.ts';
import { Output } from './printing/output.ts';

export const LOCAL_BROKER = 'rivulet://127.0.0.1:7488';

export interface BrokerFlags {
  readonly broker?: string;
  readonly context?: string;
  readonly json?: boolean;
  /** Of services; with an http:// broker of its subscribers too. */
  readonly registry?: string;
}

export type RegistryFlags = BrokerFlags;

/** The options that every command about a broker has. */
export function withBroker(command: Command): Command {
  return withAddresses(command).option(
    '-r, --registry <url>',
    'with an http:// broker: where its subscribers are looked for (default mdns)',
  );
}

/** The options that every command about services has. */
export function withRegistry(command: Command): Command {
  return withAddresses(command).option(
    '-r, --registry <url>',
    'where services are looked for: mdns, etcd://host:port, broker (the streams of the broker)',
  );
}

function withAddresses(command: Command): Command {
  return command
    .option('-b, --broker <url>', 'the broker: rivulet://, redis://, amqp://, nats://, http://')
    .option('-c, --context <name>', 'the addresses of a context; see micro context')
    .option('--json', 'print JSON');
}

export function outputOf({ json }: BrokerFlags): Output {
  return new Output(json === true);
}

export function brokerAddress(flags: BrokerFlags): string {
  return namedBroker(flags) ?? LOCAL_BROKER;
}

/** Undefined where none is named. */
export function namedBroker({ broker, context }: BrokerFlags): string | undefined {
  if (broker !== undefined) return broker;
  if (context !== undefined) return contextOf(context)?.broker;
  return environment('MICRO_BROKER') ?? contextOf(undefined)?.broker;
}

/**
 * Where none is named: as services do, the broker's own registry where a broker is named that stores
 * anything, else mdns.
 */
export function registryAddress(flags: RegistryFlags): string {
  const broker = namedBroker(flags);
  const registry = namedRegistry(flags);
  const isStored = broker !== undefined && !isFoundByRegistry(broker);
  if (registry === 'broker' && broker !== undefined && !isStored) {
    const text =
      'an http:// broker stores nothing, so that it is no registry: name one with --registry, as mdns';
    throw usage(text);
  }
  return registry ?? (isStored ? 'broker' : 'mdns');
}

/** go-micro's http broker: its subscribers are nodes of a registry. */
export function isFoundByRegistry(broker: string): boolean {
  return /^http:/i.test(broker);
}

/** Undefined where none is named. */
export function namedRegistry(flags: RegistryFlags): string | undefined {
  if (flags.registry !== undefined) return flags.registry;
  if (flags.context !== undefined) return contextOf(flags.context)?.registry;
  return environment('MICRO_REGISTRY') ?? contextOf(undefined)?.registry;
}

/** go-micro's pairs: MICRO_BROKER is a URL, or a name whose address MICRO_BROKER_ADDRESS says. */
function environment(name: string): string | undefined {
  const value = process.env[name];
  const address = process.env[`${name}_ADDRESS`];
  if (value === undefined || value === '') return undefined;
  if (value.includes(':') || address === undefined || address === '') return value;
  return `${value}://${address}`;
}

/** Opens the broker, runs the work, disconnects. */
export async function onBroker<T>(
  flags: BrokerFlags,
  work: (broker: Broker) => Promise<T>,
  options: Partial<BrokerOptions> = {},
): Promise<T> {
  const address = brokerAddress(flags);
  const all = { connectTimeoutMs: 5000, ...options };
  if (isFoundByRegistry(address)) {
    return onRegistry(flags, async (registry) => {
      const opening = openBroker(address, { ...all, client: { registry } });
      return onOpen(await opening.catch(explainListening), work);
    });
  }
  return onOpen(await openBroker(address, all), work);
}

async function onOpen<T>(broker: Broker, work: (broker: Broker) => Promise<T>): Promise<T> {
  try {
    return await work(broker);
  } finally {
    await broker.disconnect();
  }
}

/** The address of such a broker is no server's: it is where this process listens. */
function explainListening(error: unknown): never {
  if (!(error instanceof RivuletError) || error.code !== 'CONNECTION_FAILED') throw error;
  const text = `${error.message}; an http:// broker listens at its own address: write http://127.0.0.1:0`;
  throw new CommandFailure(text, EXIT.unreachable);
}

/** Opens the registry, and closes it after the work. */
export async function onRegistry<T>(
  flags: RegistryFlags,
  work: (registry: Registry, shown: string) => Promise<T>,
): Promise<T> {
  const address = registryAddress(flags);
  const registry = await openRegistry(address, { broker: brokerAddress(flags) });
  try {
    return await work(registry, withoutPassword(address));
  } finally {
    await registry.close();
  }
}
