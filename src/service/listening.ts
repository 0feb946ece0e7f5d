/**
 * Where a service can be called: one port for every protocol that can share one, a listener for each
 * other transport, and the metadata that the registry gets of them.
 *
 * Invariant: the address of the node is the one of the listener that other machines can dial; when one
 * transport cannot listen, those that did are closed again and the start fails. Cost: none per call.
 */
import { networkInterfaces } from 'node:os';
import { isAddress } from '../registry/record.ts';
import { isPortTransport, listenOnPort } from '../transport/port.ts';
import type { Listener, ListenOptions, Transport } from '../transport/transport.ts';
import type { Scheduler } from '../util/time/scheduler.ts';

export interface Listening {
  /** host:port for the node's record. */
  readonly address: string;
  /** Node metadata of every listener together. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Refuses new calls, lets those in flight finish for at most `drainMs`. Idempotent. */
  close(drainMs?: number): Promise<void>;
}

/** The address of a node that only this process can call. */
const NOWHERE = '127.0.0.1:1';

export async function listenOnAll(
  transports: readonly Transport[],
  options: ListenOptions,
  scheduler: Scheduler,
): Promise<Listening> {
  const onPort = transports.filter(isPortTransport);
  const alone = transports.filter((transport) => !isPortTransport(transport));
  const listeners: Listener[] = [];
  const close = async (drainMs?: number) => {
    await Promise.all(listeners.map((listener) => listener.close(drainMs)));
  };
  const metadata: Record<string, string> = {};
  let address = NOWHERE;
  try {
    for (const listen of [
      ...(onPort.length === 0 ? [] : [() => listenOnPort(onPort, options, scheduler)]),
      ...alone.map((transport) => () => transport.listen(options)),
    ]) {
      const listener = await listen();
      listeners.push(listener);
      for (const [name, value] of Object.entries(listener.metadata)) {
        metadata[name] = value === listener.address ? reachable(value) : value;
      }
      if (address === NOWHERE && isAddress(listener.address)) address = reachable(listener.address);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { address, metadata, close };
}

/** Where others dial what listens on every address: the first of this machine that is not loopback. */
export function reachable(address: string): string {
  const match = /^(?:0\.0\.0\.0|\[::\]):(\d+)$/.exec(address);
  if (match === null) return address;
  const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const found = own.find(({ family, internal }) => family === 'IPv4' && !internal);
  return `${found?.address ?? '127.0.0.1'}:${match[1]}`;
}
