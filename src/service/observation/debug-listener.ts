/**
 * The HTTP port for probes and Prometheus: /healthz, /livez, /readyz and /metrics.
 *
 * Invariants: it answers GET and HEAD of these paths and nothing else; at most `MAX_CONNECTIONS`
 * connections, each closed when its request is late; a client that does not read is cut off. It is
 * off unless an address was given. Cost: none between requests.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RivuletError } from '../../errors.ts';
import { splitListenAddress } from '../../transport/port.ts';
import type { ServiceHealth } from './health.ts';

export interface DebugPages {
  readonly health: () => ServiceHealth;
  readonly metrics: () => string | Promise<string>;
}

export interface DebugListener {
  /** host:port as bound. */
  readonly address: string;
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 64;
const REQUEST_MS = 10_000;

export async function listenForProbes(address: string, pages: DebugPages): Promise<DebugListener> {
  const { host, port } = splitListenAddress(address);
  const server = createServer((request, response) => {
    answer(request, response, pages).catch(() => response.destroy());
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = REQUEST_MS;
  server.headersTimeout = REQUEST_MS;
  // A socket without traffic for this time is destroyed.
  server.timeout = REQUEST_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const text = `cannot listen on ${address} for probes: ${cause.message}`;
      reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
    });
    server.listen(port, host, resolve);
  });
  server.on('error', () => {});
  const bound = server.address() as AddressInfo;
  const shown = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return {
    address: `${shown}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  pages: DebugPages,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(response, 405, 'only GET and HEAD\n', { Allow: 'GET, HEAD' });
    return;
  }
  const [path] = (request.url ?? '').split('?');
  switch (path) {
    case '/livez':
      send(response, 200, 'ok\n');
      return;
    case '/healthz':
    case '/readyz': {
      const { ready, reasons } = pages.health();
      if (ready) send(response, 200, 'ok\n');
      else send(response, 503, `${reasons.join('\n')}\n`);
      return;
    }
    case '/metrics':
      send(response, 200, await pages.metrics(), {
        'Content-Type': 'text/plain; version=0.0.4; charset=utf-8',
      });
      return;
    default:
      send(response, 404, 'there are /livez, /healthz, /readyz and /metrics\n');
  }
}

function send(
  response: ServerResponse,
  status: number,
  body: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    ...headers,
  });
  response.end(body);
}
