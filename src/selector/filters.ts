/**
 * go-micro's filters: by version, by label, by endpoint.
 *
 * A filter keeps records and nodes and changes none. Cost: linear in the records.
 */
import type { Filter } from './selector.ts';

/** Only this version of the service. */
export function filterVersion(version: string): Filter {
  return (services) => services.filter((service) => service.version === version);
}

/** Only nodes whose own metadata, or whose service's, has this value. */
export function filterLabel(key: string, value: string): Filter {
  return (services) =>
    services
      .map((service) =>
        service.metadata[key] === value
          ? service
          : { ...service, nodes: service.nodes.filter(({ metadata }) => metadata[key] === value) },
      )
      .filter(({ nodes }) => nodes.length > 0);
}

/** Only versions that have this endpoint, `Struct.Method`. */
export function filterEndpoint(name: string): Filter {
  return (services) =>
    services.filter(({ endpoints }) => endpoints.some((endpoint) => endpoint.name === name));
}
