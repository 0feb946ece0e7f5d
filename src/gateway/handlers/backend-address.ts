/**
 * Which addresses requests are passed to: those of the registry, but never where clouds keep secrets.
 *
 * Invariant: a forbidden address is refused in every way of writing it and behind every name. Cost: one
 * look-up in a list.
 */
import { lookup } from 'node:dns';
import { BlockList, isIP, isIPv6, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { splitAddress } from '../../registry/record.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import { HttpError } from '../http-error.ts';

/**
 * Link-local addresses and the addresses of metadata services that are not. `check` of a mapped IPv4
 * address looks at the IPv4 rules.
 */
const FORBIDDEN = new BlockList();
FORBIDDEN.addSubnet('169.254.0.0', 16, 'ipv4');
FORBIDDEN.addSubnet('fe80::', 10, 'ipv6');
// Amazon's over IPv6, Alibaba's, Azure's.
FORBIDDEN.addAddress('fd00:ec2::254', 'ipv6');
FORBIDDEN.addAddress('100.100.100.200', 'ipv4');
FORBIDDEN.addAddress('168.63.129.16', 'ipv4');

function isForbidden(host: string): boolean {
  const address = host.replace(/%.*$/, '');
  return FORBIDDEN.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

export interface BackendAddress {
  readonly host: string;
  readonly port: number;
  readonly origin: string;
}

/** Looked at once for each node, and again when its record changes. */
const known = new WeakMap<ServiceNode, BackendAddress & { readonly of: string }>();

/** Only host:port of a record, never a forbidden address. */
export function addressOf(node: ServiceNode, service: string): BackendAddress {
  const before = known.get(node);
  if (before !== undefined && before.of === node.address) return before;
  const address = splitAddress(node.address);
  if (address === null || (isIP(address.host) !== 0 && isForbidden(address.host))) {
    throw new HttpError(502, `${service} has an address that requests are not passed to`);
  }
  const { host, port } = address;
  const origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  const made = { host, port, origin, of: node.address };
  known.set(node, made);
  return made;
}

/** A name may resolve to a forbidden address. */
export const lookUp: LookupFunction = (name, options, callback) => {
  lookup(name, options, (error, address, family) => {
    const found = Array.isArray(address) ? address.map((each) => each.address) : [address];
    if (error === null && found.some((each) => isForbidden(String(each)))) {
      callback(new HttpError(502, `${name} is an address that requests are not passed to`), '', 0);
    } else callback(error, address as string, family);
  });
};

const connector = buildConnector({ lookup: lookUp, timeout: 0 });

/** A number that is no IP address in the record (`2852039166`) is one in an origin. */
export const connectTo: buildConnector.connector = (options, callback) => {
  const { hostname } = options;
  if (isIP(hostname) !== 0 && isForbidden(hostname)) {
    const text = `${hostname} is an address that requests are not passed to`;
    callback(new HttpError(502, text), null);
  } else connector(options, callback);
};
