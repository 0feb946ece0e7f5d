/**
 * From an endpoint back to the path that reaches it: for the documents.
 *
 * Invariant: a path is given only where the resolver, asked for it, names the same endpoint.
 */
import type { ServiceEndpoint } from '../../registry/registry.ts';
import { type ResolverName, resolveCall } from './names.ts';

export interface EndpointPath {
  readonly path: string;
  /** Lower-case HTTP methods. */
  readonly methods: readonly string[];
  /** Names of fields in the path. */
  readonly fields: readonly string[];
}

/** The paths that the endpoint's metadata asks for; else the one that the resolver reads. */
export function pathsOf(
  service: string,
  endpoint: ServiceEndpoint,
  namespace: string,
  resolver: ResolverName,
): EndpointPath[] {
  const { path = '', method = '', handler } = endpoint.metadata;
  if (path !== '' && handler !== 'web' && handler !== 'http') {
    const methods =
      method === '' ? ['post'] : method.split(',').map((each) => each.trim().toLowerCase());
    return path
      .split(/,(?![^{]*\})/)
      .map((each) => each.trim())
      .filter((each) => each.startsWith('/') && !/[*]/.test(each.replace(/\{[^{}]*\}/g, '')))
      .map((template) => {
        const fields: string[] = [];
        const shown = template.replace(/\{([\w.]+)(?:=[^{}]*)?\}/g, (_, name: string) => {
          fields.push(name);
          return `{${name}}`;
        });
        return { path: shown, methods, fields };
      });
  }
  const found = resolvedPath(service, endpoint.name, namespace, resolver);
  return found === null ? [] : [{ path: found, methods: ['post'], fields: [] }];
}

/** Every path by which the resolver reaches an endpoint, in each way of writing it, and its routes. */
export function pathsTo(
  service: string,
  endpoint: string,
  namespace: string,
  known: ServiceEndpoint | null,
): string[] {
  const routes = (known?.metadata.path ?? '').split(/,(?![^{]*\})/).map((each) => each.trim());
  const paths = routes.filter((each) => each.startsWith('/'));
  if (!service.startsWith(`${namespace}.`)) return paths;
  const words = service.slice(namespace.length + 1).split('.');
  const [struct = '', method = ''] = endpoint.split('.');
  const methods = writings(method);
  for (const base of new Set([`/${words.join('/')}`, `/${words.join('.')}`])) {
    for (const first of writings(struct)) {
      for (const second of methods) paths.push(`${base}/${first}/${second}`);
    }
    // The struct may be left out where it is called as the service is.
    if (writings(struct).includes(words.at(-1) as string)) {
      paths.push(base, ...methods.map((second) => `${base}/${second}`));
    }
  }
  return paths;
}

/** What the resolver reads as the same name: `baz-xyz`, `BazXyz`, `bazXyz`. */
function writings(name: string): string[] {
  return [dashed(name), name, name.charAt(0).toLowerCase() + name.slice(1)];
}

function resolvedPath(
  service: string,
  endpoint: string,
  namespace: string,
  resolver: ResolverName,
): string | null {
  const prefix = `${namespace}.`;
  const candidates: string[] = [];
  if (resolver === 'grpc') candidates.push(`/${service}.${endpoint.replace('.', '/')}`);
  if (resolver === 'micro' && service.startsWith(prefix)) {
    const words = service.slice(prefix.length).split('.');
    const [struct = '', method = ''] = endpoint.split('.');
    const base = `/${words.join('/')}`;
    candidates.push(`${base}/${dashed(struct)}/${dashed(method)}`, `${base}/${struct}/${method}`);
  }
  const isReached = (path: string) => {
    const target = resolveCall(resolver, namespace, { method: 'POST', path, host: 'x' });
    return target?.service === service && target.endpoint === endpoint;
  };
  return candidates.find(isReached) ?? null;
}

/** `BazXyz` is `baz-xyz`. */
function dashed(name: string): string {
  return name.replace(/(?!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase();
}
