/**
 * The option `trace`: which spans a service stores for the console.
 *
 * Invariant: without the option spans are stored where the broker is a server of this machine that the
 * console can read (`rivulet://` or `redis://` on a loopback address), and nowhere else.
 */

import { parseAddress, splitAddresses } from '../../broker/addresses.ts';
import type { Broker } from '../../broker/broker.ts';
import { count, type OptionTable } from '../../client/option-table.ts';

export interface TraceOptions {
  /**
   * The share of traces whose spans are stored, from 0 (none) to 1 (all); above 0, spans with an error
   * are stored always. Default: 1 with a broker on a loopback address, else 0.
   */
  readonly store?: number;
  /** Spans that may wait for the next batch; further ones are dropped and counted. Default 10 000. */
  readonly maxQueued?: number;
}

export const traceTable: OptionTable = {
  store: { kind: 'number', min: 0, max: 1, integer: false, unit: '' },
  maxQueued: count(1, 1_000_000),
};

/** `MICRO_TRACE_STORE=0.01` */
export function readTraceShare(value: string): TraceOptions {
  const store = Number(value);
  if (!/^\d*\.?\d+$/.test(value) || store > 1) throw new Error('write a share from 0 to 1');
  return { store };
}

interface TraceSettings {
  readonly trace: { readonly value: TraceOptions | undefined };
  readonly broker: { readonly value: string | Broker | undefined };
}

/** What the observation of a service needs of it. */
export function traceOf({ trace, broker }: TraceSettings): { share: number; maxQueued: number } {
  const { store, maxQueued = 10_000 } = trace.value ?? {};
  const isLocal = broker.value !== undefined && isLoopbackBroker(broker.value);
  return { share: broker.value === undefined ? 0 : (store ?? (isLocal ? 1 : 0)), maxQueued };
}

const READABLE = new Set(['rivulet', 'rivulets', 'redis', 'rediss']);

function isLoopbackBroker(broker: string | Broker): boolean {
  const text = typeof broker === 'string' ? broker : broker.address;
  if (!/^[a-z]+:\/\//.test(text)) return false;
  return splitAddresses(text).every((address) => {
    try {
      const { scheme, host } = parseAddress(address);
      return READABLE.has(scheme) && isLoopback(host);
    } catch {
      // The broker itself reports what is wrong with its address.
      return false;
    }
  });
}

function isLoopback(host: string): boolean {
  return host === '' || host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host);
}
