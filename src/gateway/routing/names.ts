/**
 * From a request's path and host to the names that go-micro's gateway gives them.
 *
 * Pure functions: the resolvers micro (of rpc and api handlers, and of http and web handlers), path,
 * vpath, host, grpc and subdomain, and the topic and name of an event. Invariant: a path that could
 * mean another one (dot segments, encoded slashes, control characters) has no name: null. Cost: linear
 * in the path.
 */

export interface Target {
  /** Registry name of the service. */
  readonly service: string;
  /** `Struct.Method`; for the resolvers that know none, go-micro's: the HTTP method. */
  readonly endpoint: string;
}

export type ResolverName = 'micro' | 'path' | 'vpath' | 'host' | 'grpc' | 'subdomain';
export type EventNames = 'code' | 'documented';

export const RESOLVERS: readonly ResolverName[] = [
  'micro',
  'path',
  'vpath',
  'host',
  'grpc',
  'subdomain',
];

export interface NamedRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** Host header, with its port. */
  readonly host: string;
}

const VERSION = /^v[0-9]+$/;
const SEGMENT = /^[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*$/;
/** Words of services, endpoints and topics: what the registry, the broker and a log can carry. */
const WORD = /^[\p{L}\p{N}_~-]+(\.[\p{L}\p{N}_~-]+)*$/u;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const UNSAFE = /[/\\\u0000-\u001f\u007f]/;
/** Alone, or before the parameters that servers written in Java cut off (`..;x`). */
const DOTS = /^\.{1,2}(;|$)/;

/**
 * The decoded segments of a path, empty ones removed; null where another server could take the path for
 * another one: dot segments, encoded slashes, control characters, bytes that are not UTF-8.
 */
export function plainSegments(path: string): string[] | null {
  const segments: string[] = [];
  for (const raw of path.split('/')) {
    if (raw === '') continue;
    let segment: string;
    try {
      segment = decodeURIComponent(raw);
    } catch {
      return null;
    }
    if (DOTS.test(segment) || UNSAFE.test(segment)) return null;
    segments.push(segment);
  }
  return segments;
}

/** As plainSegments, and each of them a word that a service, an endpoint or a topic may be called. */
export function segmentsOf(path: string): string[] | null {
  const segments = plainSegments(path);
  return segments?.every((segment) => WORD.test(segment)) ? segments : null;
}

/** go-micro's apiRoute: `/foo/bar/baz` is service `foo`, endpoint `Bar.Baz`. */
function apiRoute(segments: readonly string[]): Target | null {
  const [first] = segments;
  if (first === undefined) return null;
  if (segments.length === 1) return { service: first, endpoint: endpointName([first, 'Call']) };
  if (segments.length === 2) return { service: first, endpoint: endpointName(segments) };
  if (segments.length === 3 && VERSION.test(first)) {
    return {
      service: segments.slice(0, 2).join('.'),
      endpoint: endpointName(segments.slice(1)),
    };
  }
  return {
    service: segments.slice(0, -2).join('.'),
    endpoint: endpointName(segments.slice(-2)),
  };
}

/** go-micro's proxyRoute: `/foo/...` is `foo`, `/v1/foo/...` is `v1.foo`; and what the prefix was. */
function proxyRoute(segments: readonly string[]): { service: string; prefix: string } | null {
  const [first, second] = segments;
  if (first === undefined) return null;
  const isVersioned = second !== undefined && VERSION.test(first);
  const alias = isVersioned ? (second as string) : first;
  if (!SEGMENT.test(alias)) return null;
  return isVersioned
    ? { service: `${first}.${second}`, prefix: `/${first}/${second}` }
    : { service: first, prefix: `/${first}` };
}

/** The service and endpoint of a request by one of the resolvers of rpc and api handlers. */
export function resolveCall(
  resolver: ResolverName,
  namespace: string,
  request: NamedRequest,
): Target | null {
  const segments = segmentsOf(request.path);
  if (segments === null) return null;
  switch (resolver) {
    case 'micro':
      return within(namespace, apiRoute(segments));
    case 'grpc':
      return grpcRoute(segments);
    case 'host':
      return hostRoute(request);
    default: {
      const name = resolveService(resolver, namespace, request);
      return name === null ? null : { service: name.service, endpoint: request.method };
    }
  }
}

/** The service of a request to an http or web handler, and the part of the path that named it. */
export function resolveService(
  resolver: ResolverName,
  namespace: string,
  request: NamedRequest,
): { service: string; prefix: string } | null {
  const segments = plainSegments(request.path);
  if (segments === null) return null;
  const [first, second] = segments;
  if (resolver === 'host') {
    const found = hostRoute(request);
    return found === null ? null : { service: found.service, prefix: '' };
  }
  if (resolver === 'subdomain') return subdomainRoute(namespace, request);
  if (resolver === 'grpc') {
    const found = grpcRoute(segments);
    return found === null ? null : { service: found.service, prefix: '' };
  }
  if (resolver === 'path' || (resolver === 'vpath' && !VERSION.test(first ?? ''))) {
    if (first === undefined || !SEGMENT.test(first)) return null;
    return { service: `${namespace}.${first}`, prefix: `/${first}` };
  }
  if (resolver === 'vpath' && second === undefined) {
    return { service: `${namespace}.${first}`, prefix: `/${first}` };
  }
  const found = proxyRoute(segments);
  return found === null ? null : { ...found, service: `${namespace}.${found.service}` };
}

/** go-micro's evRoute; `documented` is what its comments say it does. */
export function eventRoute(
  namespace: string,
  segments: readonly string[],
  names: EventNames = 'code',
): { topic: string; name: string } {
  const [first, second] = segments;
  if (first === undefined) return { topic: namespace, name: 'event' };
  const isVersioned = second !== undefined && VERSION.test(first);
  const topic = isVersioned ? `${namespace}.${first}.${second}` : `${namespace}.${first}`;
  const rest = segments.slice(isVersioned ? 2 : 1);
  if (names === 'documented') return { topic, name: rest.join('.') || (second ?? first) };
  return { topic, name: (isVersioned ? segments.slice(1) : rest).join('.') };
}

/** The namespace `domain`: the subdomain of the request, its words in reverse order. */
export function namespaceOf(namespace: string, type: string, host: string): string {
  const name = namespace === 'domain' ? (subdomainOf(host) ?? 'go.micro') : namespace;
  return type === '' ? name : `${name}.${type}`;
}

function within(namespace: string, target: Target | null): Target | null {
  return target === null ? null : { ...target, service: `${namespace}.${target.service}` };
}

function grpcRoute(segments: readonly string[]): Target | null {
  const [path, method] = segments;
  const dot = path?.lastIndexOf('.') ?? -1;
  if (path === undefined || method === undefined || dot <= 0) return null;
  return { service: path.slice(0, dot), endpoint: `${path.slice(dot + 1)}.${method}` };
}

function hostRoute({ host, method }: NamedRequest): Target | null {
  const name = hostName(host);
  return name === '' ? null : { service: name, endpoint: method };
}

function subdomainRoute(namespace: string, { host }: NamedRequest) {
  const subdomain = subdomainOf(host);
  return subdomain === null ? null : { service: `${namespace}.${subdomain}`, prefix: '' };
}

/** Null for addresses, localhost, and a domain without anything before it. */
function subdomainOf(host: string): string | null {
  const name = hostName(host);
  if (name === '' || name === 'localhost' || /^[\d.]+$|:/.test(name)) return null;
  const words = name.split('.');
  if (words.length < 3 || words.some((word) => !SEGMENT.test(word))) return null;
  return words.slice(0, -2).reverse().join('.');
}

/** Lower case, without the port; empty where it is no name. */
export function hostName(host: string): string {
  const name = host.replace(/:\d+$/, '').toLowerCase();
  return /^[a-z0-9.-]{1,253}$/.test(name) && !name.includes('..') ? name : '';
}

function endpointName(segments: readonly string[]): string {
  return segments.map(camelCase).join('.');
}

/** `baz-xyz` is `BazXyz`. */
function camelCase(segment: string): string {
  return segment
    .split('-')
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
}
