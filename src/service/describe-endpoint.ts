/**
 * What the registry is told of an endpoint: go-micro's record of its request and reply.
 *
 * Types come from a protobuf type where there is one; plain TypeScript types are gone at run time and
 * give the names only. Invariant: at most three levels deep, so a recursive type ends.
 */
import type { ServiceEndpoint } from '../registry/registry.ts';
import type { AnyMethod, MessageForm } from '../rpc/contract.ts';

export function describeEndpoint(endpoint: string, method: AnyMethod): ServiceEndpoint {
  const name = endpoint.slice(endpoint.indexOf('.') + 1);
  const isStream = method.kind !== 'unary';
  return {
    name: endpoint,
    request: describeMessage(method.request, `${name}Request`),
    response: describeMessage(method.response, `${name}Response`),
    metadata: { ...(isStream ? { stream: 'true' } : {}), ...method.options.metadata },
  };
}

function describeMessage(form: MessageForm, fallback: string) {
  const described = form.type?.describe?.();
  if (described !== undefined) return described;
  const name = form.type === null ? fallback : (form.type.name.split('.').at(-1) ?? fallback);
  return { name, type: name, values: [] };
}
