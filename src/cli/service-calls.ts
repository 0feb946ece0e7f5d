/**
 * Calls of services by commands: bodies stay the text that they are.
 *
 * Invariant: what was opened for the work is closed after it, however it ends.
 */
import { CallClient } from '../gateway/handlers/call-client.ts';
import type { Registry } from '../registry/registry.ts';
import { Nouns } from '../service/nouns.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { namedBroker, type RegistryFlags, registryAddress } from './connect.ts';

export interface ServiceWork {
  readonly client: CallClient;
  readonly registry: () => Promise<Registry>;
}

export async function onServices<T>(
  flags: RegistryFlags & { readonly address?: string },
  timeoutMs: number,
  work: (found: ServiceWork) => Promise<T>,
): Promise<T> {
  const broker = namedBroker(flags);
  const nouns = new Nouns({
    scheduler: systemScheduler,
    registry: flags.address === undefined ? registryAddress(flags) : 'memory',
    ...(broker === undefined ? {} : { broker }),
  });
  const client = new CallClient(nouns, { name: 'micro', timeoutMs });
  try {
    return await work({ client, registry: () => nouns.registry() });
  } finally {
    await client.close();
    await nouns.close();
  }
}
