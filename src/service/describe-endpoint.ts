/**
 * The registry's record of an endpoint: go-micro's description of its request and reply.
 *
 * Types come from a protobuf type where there is one; plain TypeScript types are gone at run time and
 * give the names only. Invariant: at most three levels deep, so a recursive type ends.
 */
import type { ServiceEndpoint } from '../registry/registry.ts';
import type { AnyMethod, MessageForm } from '../rpc/contract.ts';
import { protoFiles, protoServices } from '../rpc/proto/proto-descriptors.ts';
import type { Server } from '../rpc/server.ts';
import type { DescribedServices, ServedMethod } from '../transport/transport.ts';

export function describeEndpoint(endpoint: string, method: AnyMethod): ServiceEndpoint {
  const name = endpoint.slice(endpoint.indexOf('.') + 1);
  const isStream = method.kind !== 'unary';
  return {
    name: endpoint,
    request: describeMessage(method.request, `${name}Request`),
    response: describeMessage(method.response, `${name}Response`),
    metadata: {
      ...(isStream ? { stream: 'true', 'rivulet.kind': method.kind } : {}),
      ...method.options.metadata,
    },
  };
}

function describeMessage(form: MessageForm, fallback: string) {
  const described = form.type?.describe?.();
  if (described !== undefined) return described;
  const name = form.type === null ? fallback : (form.type.name.split('.').at(-1) ?? fallback);
  return { name, type: name, values: [] };
}

/** A subscription as go-micro lists it among the endpoints. */
export function describeSubscription({
  topic,
  queue,
}: {
  readonly topic: string;
  readonly queue: string | null;
}): ServiceEndpoint {
  return {
    name: topic,
    request: null,
    response: null,
    metadata: { subscriber: 'true', topic, ...(queue === null ? {} : { queue }) },
  };
}

/** What a transport may ask of a method; null for one that is not served. */
export function servedMethod(method: AnyMethod | null): ServedMethod | null {
  return method === null ? null : { kind: method.kind, isProto: method.request.type !== null };
}

/** The reflection data of a server, for gRPC's tools. */
export function describeServer(server: Server, isHealthy: () => boolean): DescribedServices {
  let files: Uint8Array[] | null = null;
  return {
    services: [server.name, ...protoServices(server.methods)],
    get files() {
      files ??= protoFiles(server.methods);
      return files;
    },
    isHealthy,
  };
}
