/**
 * A node as an instance of Eureka, in go-micro's form, and back.
 *
 * The application is the service; `hostName`, `ipAddr` and the VIP addresses are host:port, as
 * go-micro writes them, or the host alone in the form `plain`, which Spring reads. Eureka writes
 * application names in capitals: the name as it was is in the metadata, and where it does not
 * (go-micro's), the name is read in small letters. Invariant: what cannot be read is null with its
 * reason, never an exception past the reader. Cost: linear in the instance.
 */
import { RivuletError } from '../../errors.ts';
import { isAddress, recordFrom, splitAddress } from '../record.ts';
import type { ServiceNode, ServiceRecord } from '../registry.ts';

const DATA_CENTER = 'com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo';

/** `micro`: addresses with their port, as go-micro writes them. `plain`: as Spring does. */
export type EurekaForm = 'micro' | 'plain';

export interface EurekaInstance {
  readonly instanceId: string;
  readonly app: string;
  readonly [field: string]: unknown;
}

/** The record must have one node. */
export function instanceOf(
  service: ServiceRecord,
  node: ServiceNode,
  ttlMs: number,
  form: EurekaForm,
): EurekaInstance {
  const { host, port } = splitAddress(node.address) as { host: string; port: number };
  const shown = form === 'micro' ? node.address : host;
  const seconds = Math.max(1, Math.ceil(ttlMs / 1000));
  return {
    instanceId: node.id,
    app: service.name,
    hostName: shown,
    ipAddr: shown,
    vipAddress: form === 'micro' ? shown : service.name,
    secureVipAddress: form === 'micro' ? shown : service.name,
    status: 'UP',
    port: { $: port, '@enabled': 'true' },
    securePort: { $: 443, '@enabled': 'false' },
    dataCenterInfo: { '@class': DATA_CENTER, name: 'MyOwn' },
    leaseInfo: {
      renewalIntervalInSecs: Math.max(1, Math.floor(seconds / 3)),
      durationInSecs: seconds,
    },
    metadata: {
      version: service.version,
      instanceId: node.id,
      endpoints: JSON.stringify(service.endpoints),
      metadata: JSON.stringify(node.metadata),
      service: service.name,
      serviceMetadata: JSON.stringify(service.metadata),
    },
  };
}

/**
 * The record of an instance; null where it is no service of go-micro's, or not up. Throws
 * DECODING_FAILED where it says that it is one and is not.
 */
export function recordOf(json: unknown): ServiceRecord | null {
  const instance = objectFrom(json);
  const metadata = objectFrom(instance.metadata);
  if (instance.status !== 'UP' || typeof metadata.version !== 'string') return null;
  const app = String(instance.app ?? '');
  const own = metadata.service;
  const name =
    typeof own === 'string' && own.toUpperCase() === app.toUpperCase() ? own : app.toLowerCase();
  const id = firstText(metadata.instanceId, instance.instanceId, instance.hostName);
  return recordFrom({
    name,
    version: metadata.version,
    metadata: parsed(metadata.serviceMetadata) ?? {},
    endpoints: parsed(metadata.endpoints) ?? [],
    nodes: [{ id, address: addressOf(instance), metadata: parsed(metadata.metadata) ?? {} }],
  });
}

/** Of two the one that says its port itself. */
function addressOf(instance: Record<string, unknown>): string {
  const address = firstText(instance.ipAddr, instance.hostName);
  if (isAddress(address)) return address;
  // The port is a number, or a text, in an object or by itself.
  const port = objectFrom(instance.port).$ ?? instance.port;
  const host = address.includes(':') ? `[${address}]` : address;
  return `${host}:${port}`;
}

export function firstText(...values: readonly unknown[]): string {
  for (const value of values) if (typeof value === 'string' && value !== '') return value;
  return '';
}

function parsed(text: unknown): unknown {
  if (typeof text !== 'string' || text === '') return null;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RivuletError('DECODING_FAILED', 'its metadata is not JSON', { cause });
  }
}

export function objectFrom(json: unknown): Record<string, unknown> {
  return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {};
}

/** Eureka writes a list of one as the one. */
export function listFrom(json: unknown): unknown[] {
  if (json === undefined || json === null) return [];
  return Array.isArray(json) ? json : [json];
}
