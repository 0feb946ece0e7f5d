/**
 * The HTTP server under the gateway: node:http with every limit set, closed and refused by fastify.
 *
 * Requests of the methods that the gateway serves go to its dispatcher as they come; fastify answers what
 * it does not serve, and listens and closes. Invariants: Node's strict parser refuses what two servers could
 * read differently (two lengths, a length beside chunks, bare line ends); headers must come within
 * `headersTimeoutMs` and `maxHeaderBytes`, and none of them is left out; a TLS handshake ends within
 * `headersTimeoutMs`; no body is read here, so that a proxied one flows. Cost: one object a request.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { Duplex } from 'node:stream';
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyServerOptions,
} from 'fastify';
import { faultOfAuthorities } from '../client/authorities.ts';
import { invalid } from '../client/option-table.ts';
import { Answer } from './answer.ts';
import { HttpError, httpFailure } from './http-error.ts';
import type { GatewayLimits } from './limits.ts';
import type { GatewayOptions } from './options.ts';

const METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
]);

export interface HttpHandlers {
  serve(request: IncomingMessage, reply: Answer): Promise<void>;
  /** Ends a connection whose bytes are no request, or only a part of one. */
  refuse(error: Error, socket: Duplex): void;
}

export function openHttpServer(
  options: GatewayOptions,
  limits: GatewayLimits,
  { serve, refuse: refuseBytes }: HttpHandlers,
): FastifyInstance {
  const { headersTimeoutMs } = limits;
  // A rule may give its bodies more time.
  const bodyTimes = (options.rules ?? []).map((rule) => rule.bodyTimeoutMs ?? 0);
  const bodyTimeoutMs = Math.max(limits.bodyTimeoutMs, ...bodyTimes);
  const settings = {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    requestTimeout: headersTimeoutMs + bodyTimeoutMs,
    // By default longer than the idle time of the usual proxies, which are to close first.
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.min(1000, headersTimeoutMs),
    insecureHTTPParser: false,
  };
  const app = Fastify({
    logger: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    serverFactory(refuse: RequestListener) {
      const listener: RequestListener = (request, response) => {
        if (METHODS.has(request.method ?? '')) {
          void serve(request, new Answer(response, limits.stalledMs));
        } else refuse(request, response);
      };
      return options.tls === undefined
        ? createServer(settings, listener)
        : tlsServer({ ...settings, ...tlsOptions(options.tls, headersTimeoutMs) }, listener);
    },
    clientErrorHandler: refuseBytes,
    frameworkErrors: (_error: unknown, _request: unknown, reply: FastifyReply) => {
      const { status, body } = httpFailure(new HttpError(400, 'the path is no path'));
      void reply.code(status).header('content-type', 'application/json').send(body);
    },
  } as FastifyServerOptions) as FastifyInstance;
  app.server.maxConnections = limits.maxConnections;
  // Node drops those beyond 2000 in silence, the last ones first: what a proxy in front adds. Bytes bound them.
  app.server.maxHeadersCount = 0;
  app.setNotFoundHandler((_request, reply) => {
    const allow = [...METHODS].join(', ');
    const { status, headers, body } = httpFailure(
      new HttpError(405, 'no such method here', { allow }),
    );
    return reply
      .code(status)
      .headers(headers)
      .header('content-type', 'application/json')
      .send(body);
  });
  return app;
}

function tlsServer(settings: ServerOptions, listener: RequestListener): Server {
  try {
    return createTlsServer(settings, listener) as Server;
  } catch (cause) {
    throw invalid(`tls: the certificate or its key cannot be used: ${(cause as Error).message}`);
  }
}

function tlsOptions(
  { cert, key, clientCa }: NonNullable<GatewayOptions['tls']>,
  handshakeTimeout: number,
) {
  return {
    handshakeTimeout,
    cert: read(cert, 'tls.cert'),
    key: read(key, 'tls.key'),
    ...(clientCa === undefined
      ? {}
      : { ca: authorities(clientCa), requestCert: true, rejectUnauthorized: true }),
  };
}

function authorities(path: string): Buffer {
  const pem = read(path, 'tls.clientCa');
  const fault = faultOfAuthorities(pem);
  if (fault !== null) throw invalid(`tls.clientCa cannot be used: ${fault}`);
  return pem;
}

function read(path: string, name: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw invalid(`${name} cannot be read: ${(cause as Error).message}`);
  }
}
