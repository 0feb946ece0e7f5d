/**
 * OpenAPI 3.1 for calls and AsyncAPI 3 for topics, made of what the registry and the contracts say.
 *
 * Invariant: both validate against their standards' own schemas, whatever services are called; names
 * that a document cannot hold are encoded. Cost: one walk over the records, when it is asked for.
 */
import type { ServiceEndpoint, ServiceRecord } from '../../registry/registry.ts';
import { type AnyMethod, type Contract, contractName, methodsOf } from '../../rpc/contract.ts';
import { RIVULET_VERSION } from '../../server/version.ts';
import { pathsOf } from '../routing/endpoint-paths.ts';
import type { ResolverName } from '../routing/names.ts';
import { type JsonSchema, schemaOf } from './json-schema.ts';

export interface DocumentSetup {
  readonly records: readonly ServiceRecord[];
  readonly contracts: readonly Contract[];
  readonly namespace: string;
  readonly resolver: ResolverName;
  readonly url: string;
  /** Which ways of authentication the gateway has. */
  readonly hasAuthentication: boolean;
  /** Patterns of the topics that clients may read. */
  readonly topics: readonly string[];
}

export interface DescribedEndpoint {
  readonly service: string;
  readonly endpoint: ServiceEndpoint;
  readonly request: JsonSchema;
  readonly response: JsonSchema;
}

const ERROR = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    code: { type: 'integer' },
    detail: { type: 'string' },
    status: { type: 'string' },
  },
};
const SECURITY = [{ bearer: [] }, { key: [] }, {}];
const SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer' },
  key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
};

/** Every endpoint once, by service and name, with what is known of its messages. */
export function describeEndpoints(
  records: readonly ServiceRecord[],
  contracts: readonly Contract[],
): DescribedEndpoint[] {
  const methods = new Map<string, AnyMethod>(
    contracts.flatMap((each) =>
      [...methodsOf(each)].map(
        ([name, method]) => [`${contractName(each)} ${name}`, method] as const,
      ),
    ),
  );
  const described = new Map<string, DescribedEndpoint>();
  for (const { name: service, endpoints } of records) {
    for (const endpoint of endpoints) {
      if (endpoint.metadata.subscriber === 'true') continue;
      const key = `${service} ${endpoint.name}`;
      const method = methods.get(key);
      described.set(key, {
        service,
        endpoint,
        request: schemaOf(method?.request ?? null, endpoint.request),
        response: schemaOf(method?.response ?? null, endpoint.response),
      });
    }
  }
  return [...described].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
}

export function openApi(setup: DocumentSetup): JsonSchema {
  const paths: Record<string, Record<string, unknown>> = Object.create(null);
  for (const described of describeEndpoints(setup.records, setup.contracts)) {
    const { service, endpoint } = described;
    for (const { path, methods, fields } of pathsOf(
      service,
      endpoint,
      setup.namespace,
      setup.resolver,
    )) {
      paths[path] ??= {};
      for (const method of methods) {
        if (!/^(get|put|post|delete|options|head|patch|trace)$/.test(method)) continue;
        paths[path][method] ??= operation(described, path, method, fields);
      }
    }
  }
  return {
    openapi: '3.1.0',
    info: { title: `${setup.namespace} services`, version: RIVULET_VERSION },
    servers: [{ url: setup.url }],
    paths,
    components: {
      schemas: { Error: ERROR },
      ...(setup.hasAuthentication ? { securitySchemes: SCHEMES } : {}),
    },
    ...(setup.hasAuthentication ? { security: SECURITY } : {}),
  };
}

function operation(
  { service, endpoint, request, response }: DescribedEndpoint,
  path: string,
  method: string,
  fields: readonly string[],
): JsonSchema {
  const isStream = endpoint.metadata.stream === 'true';
  const hasBody = method !== 'get' && method !== 'head' && method !== 'delete';
  const content = isStream
    ? { 'text/event-stream': { schema: response }, 'application/x-ndjson': { schema: response } }
    : { 'application/json': { schema: response } };
  const { description } = endpoint.metadata;
  return {
    operationId: `${service} ${endpoint.name} ${method} ${path}`.replace(/[^A-Za-z0-9]+/g, '_'),
    tags: [service],
    summary: endpoint.name,
    ...(description === undefined ? {} : { description }),
    ...(fields.length === 0
      ? {}
      : {
          parameters: fields.map((name) => ({
            name,
            in: 'path',
            required: true,
            schema: { type: 'string' },
          })),
        }),
    ...(hasBody ? { requestBody: { content: { 'application/json': { schema: request } } } } : {}),
    responses: {
      200: { description: 'The reply', content },
      204: { description: 'An empty reply' },
      default: {
        description: 'An error',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  };
}

/** Topics that services subscribe to, and those that clients may read. */
export function asyncApi(setup: DocumentSetup): JsonSchema {
  const topics = new Map<string, string[]>();
  for (const { name, endpoints } of setup.records) {
    for (const { metadata, name: endpoint } of endpoints) {
      if (metadata.subscriber !== 'true') continue;
      const topic = metadata.topic ?? endpoint;
      topics.set(topic, [...new Set([...(topics.get(topic) ?? []), name])].sort());
    }
  }
  for (const pattern of setup.topics) if (!topics.has(pattern)) topics.set(pattern, []);
  const sorted = [...topics].sort(([a], [b]) => (a < b ? -1 : 1));
  const { host, protocol } = new URL(setup.url);
  // A topic may be called as a prototype's member is.
  const channels: Record<string, unknown> = Object.create(null);
  const operations: Record<string, unknown> = Object.create(null);
  for (const [topic, services] of sorted) {
    const key = keyOf(topic, channels);
    const by = services.length === 0 ? 'clients' : services.join(', ');
    channels[key] = {
      address: topic,
      description: `Read by ${by}`,
      messages: { message: { payload: {} } },
    };
    operations[`send_${key}`] = { action: 'send', channel: { $ref: `#/channels/${key}` } };
  }
  return {
    asyncapi: '3.0.0',
    info: { title: `${setup.namespace} topics`, version: RIVULET_VERSION },
    servers: { gateway: { host, protocol: protocol.replace(':', '') } },
    channels,
    operations,
  };
}

/** Keys are letters, digits, `_`, `-` and `.`; two topics never share one. */
function keyOf(topic: string, taken: Readonly<Record<string, unknown>>): string {
  const base = topic.replace(/[^A-Za-z0-9_-]/g, '_');
  for (let number = 1; ; number++) {
    const key = number === 1 ? base : `${base}_${number}`;
    if (!Object.hasOwn(taken, key)) return key;
  }
}
