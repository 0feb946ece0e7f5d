/**
 * Endpoints as tools for agents: the Model Context Protocol over HTTP, at `/_/mcp`.
 *
 * Each endpoint with one request and one reply, of the services that the gateway's paths reach, is a
 * tool. Invariants: a tool is called under the rule of the path that calls the same endpoint, with its
 * authentication, scopes, limits and time; the protocol has no session here, so any gateway may answer.
 */
import { createMcpHandler, Server } from '@modelcontextprotocol/server';
import { RivuletError } from '../../errors.ts';
import { RIVULET_VERSION } from '../../server/version.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import { mustBeSmall } from '../body/json-check.ts';
import { bodyOf, type Exchange } from '../exchange.ts';
import { callMetadata } from '../forwarding.ts';
import { HttpError, httpFailure } from '../http-error.ts';
import { pathsOf } from '../routing/endpoint-paths.ts';
import { namespaceOf } from '../routing/names.ts';
import { type DescribedEndpoint, describeEndpoints } from './documents.ts';
import type { OwnPagesSetup } from './own-pages-setup.ts';

const MAX_NAME = 64;

interface Tool extends DescribedEndpoint {
  readonly name: string;
  readonly path: string;
}

export async function serveTools(exchange: Exchange, setup: OwnPagesSetup): Promise<void> {
  const { request, reply, method } = exchange;
  const handler = createMcpHandler(() => toolServer(exchange, setup), {
    maxRequestBodySize: exchange.rule.maxBodyBytes,
  });
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (typeof value === 'string') headers.set(name, value);
  }
  const body = method === 'POST' ? new Uint8Array(await bodyOf(exchange)) : null;
  if (body !== null) mustBeSmall(body);
  const host = URL.canParse(`http://${exchange.host}`) ? exchange.host : 'localhost';
  const url = `http://${host}${exchange.path}`;
  const gone = new AbortController();
  const forget = onAbort(exchange.signal, () => gone.abort());
  try {
    const { signal } = gone;
    const response = await handler.fetch(new Request(url, { method, headers, body, signal }));
    const content = Buffer.from(await response.arrayBuffer());
    reply.code(response.status);
    for (const [name, value] of response.headers) {
      if (name !== 'content-length' && name !== 'connection') reply.header(name, value);
    }
    reply.send(content);
  } finally {
    forget();
    await handler.close();
  }
}

function toolServer(exchange: Exchange, setup: OwnPagesSetup): Server {
  const server = new Server(
    { name: 'micro-api', version: RIVULET_VERSION },
    { capabilities: { tools: {} } },
  );
  const tools = toolsOf(exchange, setup);
  server.setRequestHandler('tools/list', () => ({
    tools: [...tools.values()].map(({ name, service, endpoint, request }) => ({
      name,
      title: `${endpoint.name} of ${service}`,
      description: endpoint.metadata.description ?? `Calls ${endpoint.name} of ${service}`,
      inputSchema: { ...request, type: 'object' as const },
    })),
  }));
  server.setRequestHandler('tools/call', async ({ params }) => {
    const tool = tools.get(params.name);
    if (tool === undefined) return failed(`there is no tool ${params.name}`);
    try {
      const target = { service: tool.service, endpoint: tool.endpoint.name };
      const rule = await setup.permit(exchange, tool.path, target);
      const body = Buffer.from(JSON.stringify(params.arguments ?? {}));
      if (body.length > rule.maxBodyBytes) throw new HttpError(413, 'the arguments are too long');
      const reply = await setup.client.call(tool.service, tool.endpoint.name, body, {
        metadata: callMetadata(exchange),
        contentType: 'application/json',
        timeoutMs: rule.timeoutMs,
        signal: exchange.signal,
      });
      return {
        content: [{ type: 'text' as const, text: Buffer.from(reply).toString() || 'null' }],
      };
    } catch (error) {
      if (!(error instanceof RivuletError) && !(error instanceof Error)) throw error;
      return failed(httpFailure(error).body);
    }
  });
  return server;
}

/** By name; names are the same as long as the same services are there. */
function toolsOf(exchange: Exchange, { options, directory }: OwnPagesSetup): Map<string, Tool> {
  const {
    namespace: name = 'go.micro',
    type = 'api',
    resolver = 'micro',
    contracts = [],
  } = options;
  const namespace = namespaceOf(name, type, exchange.host);
  const tools = new Map<string, Tool>();
  for (const described of describeEndpoints(directory.records, contracts)) {
    const { service, endpoint } = described;
    if (endpoint.metadata.stream === 'true') continue;
    const [path] = pathsOf(service, endpoint, namespace, resolver);
    if (path === undefined) continue;
    const short = service.startsWith(`${namespace}.`)
      ? service.slice(namespace.length + 1)
      : service;
    const base = `${short}_${endpoint.name}`.replace(/[^A-Za-z0-9_-]/g, '_').slice(-MAX_NAME);
    let unique = base;
    for (let number = 2; tools.has(unique); number++) unique = `${base.slice(4)}_${number}`;
    tools.set(unique, { ...described, name: unique, path: path.path });
  }
  return tools;
}

function failed(text: string) {
  return { isError: true, content: [{ type: 'text' as const, text }] };
}
