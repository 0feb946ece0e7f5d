/**
 * Which protocols a node's port accepts, by its record.
 *
 * Nodes of ours list them in `rivulet.protocols`; go-micro's say `protocol`: `grpc`, or `mucp`, which
 * is HTTP. A record with neither is read as mucp, the default of go-micro's older versions.
 */
import type { ServiceNode } from '../registry/registry.ts';

export const PROTOCOLS = 'rivulet.protocols';

export function speaks(node: ServiceNode, protocol: 'tcp' | 'http' | 'grpc' | 'ws'): boolean {
  const listed = node.metadata[PROTOCOLS];
  if (listed !== undefined) return listed.split(',').includes(protocol);
  const said = node.metadata.protocol;
  if (protocol === 'grpc') return said === 'grpc';
  return protocol === 'http' && (said === undefined || said === 'mucp' || said === 'http');
}

/** A node of which only the address is known: every transport may try it. */
export function nodeAt(address: string): ServiceNode {
  const metadata = { 'rivulet.tcp': address, [PROTOCOLS]: 'tcp,http,grpc,ws' };
  return { id: address, address, metadata };
}
