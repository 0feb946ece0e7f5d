/**
 * Routes that endpoints ask for in their metadata: `handler`, `method`, `path`, `host`, `body`, `stream`.
 *
 * Invariants: the order is always the same (longest literal match first, then longest, then by name),
 * where go-micro's is that of a random map; a route that is wrong is left out and reported, and harms
 * no other. Cost: a request tries the routes of its HTTP method in order.
 */
import type { ServiceEndpoint, ServiceRecord } from '../../registry/registry.ts';
import { hostName } from './names.ts';
import { compilePath, type PathPattern } from './path-template.ts';

export type HandlerName = 'rpc' | 'api' | 'http' | 'web' | 'event';

export interface Route {
  readonly service: string;
  readonly endpoint: string;
  readonly handler: HandlerName;
  /** Empty: any. */
  readonly methods: readonly string[];
  readonly hosts: readonly string[];
  readonly path: PathPattern;
  /** Where the body goes in the request: `*` or empty for the whole, or the path of a field. */
  readonly body: string;
  readonly isStream: boolean;
}

export interface RouteMatch {
  readonly route: Route;
  readonly fields: Readonly<Record<string, string>>;
}

const HANDLERS: Readonly<Record<string, HandlerName>> = {
  rpc: 'rpc',
  api: 'api',
  http: 'http',
  proxy: 'http',
  web: 'web',
  event: 'event',
};

export class RouteTable {
  readonly routes: readonly Route[];

  private constructor(routes: readonly Route[]) {
    this.routes = routes;
  }

  /** `report` receives a text for each route that cannot be used. */
  static of(records: readonly ServiceRecord[], report: (reason: string) => void): RouteTable {
    const routes = new Map<string, Route>();
    for (const { name, endpoints } of records) {
      for (const endpoint of endpoints) {
        try {
          for (const route of routesOf(name, endpoint)) {
            const { methods, hosts, path } = route;
            routes.set(`${name} ${endpoint.name} ${methods} ${hosts} ${path.source}`, route);
          }
        } catch (error) {
          report(`${name} ${endpoint.name}: ${(error as Error).message}`);
        }
      }
    }
    return new RouteTable([...routes.values()].sort(inOrder));
  }

  match(method: string, path: string, host: string): RouteMatch | null {
    const name = hostName(host);
    for (const route of this.routes) {
      if (route.methods.length > 0 && !route.methods.includes(method)) continue;
      if (route.hosts.length > 0 && !route.hosts.includes(name)) continue;
      const fields = route.path.match(path);
      if (fields !== null) return { route, fields };
    }
    return null;
  }
}

function* routesOf(service: string, { name, metadata }: ServiceEndpoint): Iterable<Route> {
  const { handler, path = '', method = '', host = '', body = '', stream } = metadata;
  if (path === '') return;
  const known = HANDLERS[handler ?? 'rpc'];
  if (known === undefined) throw new Error(`handler ${JSON.stringify(handler)} is not known`);
  for (const each of listOf(path)) {
    yield {
      service,
      endpoint: metadata.endpoint ?? name,
      handler: known,
      methods: listOf(method).map((word) => word.toUpperCase()),
      hosts: listOf(host).map((word) => word.toLowerCase()),
      path: compilePath(each),
      body,
      isStream: stream === 'true',
    };
  }
}

/** A comma in a template's braces or an expression's repetition does not separate. */
function listOf(text: string): string[] {
  return text
    .split(/,(?![^{]*\})/)
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function inOrder(a: Route, b: Route): number {
  return (
    b.path.rank[0] - a.path.rank[0] ||
    b.path.rank[1] - a.path.rank[1] ||
    b.path.source.length - a.path.source.length ||
    b.hosts.length - a.hosts.length ||
    compare(a.path.source, b.path.source) ||
    compare(a.service, b.service) ||
    compare(a.endpoint, b.endpoint)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
