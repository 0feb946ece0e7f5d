/** The pages below `/_/`: health, metrics, the list of services, the documents, the tools for agents. */

import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';
import { namespaceOf } from '../routing/names.ts';
import { asyncApi, type DocumentSetup, openApi } from './documents.ts';
import type { OwnPagesSetup } from './own-pages-setup.ts';
import type { Pages } from './pages.ts';

const READ = ['GET', 'HEAD'];

export function addOwnPages(pages: Pages, setup: OwnPagesSetup): void {
  const { observer, directory, isStopping } = setup;
  pages.add('/_/healthz', READ, ({ reply }) => {
    reply.type('text/plain').send('ok\n');
  });
  pages.add('/_/readyz', READ, ({ reply }) => {
    if (isStopping()) throw new HttpError(503, 'the gateway is stopping');
    reply.type('text/plain').send('ok\n');
  });
  pages.add('/_/metrics', READ, async ({ reply }) => {
    reply.type('text/plain; version=0.0.4').send(await observer.text());
  });
  pages.add('/_/services', READ, ({ reply }) => {
    const services = directory.records.map(({ name, version, endpoints }) => ({
      name,
      version,
      endpoints: endpoints.map((endpoint) => endpoint.name),
    }));
    reply.send(services);
  });
  pages.add('/_/openapi.json', READ, (exchange) => {
    exchange.reply.send(openApi(documentSetup(exchange, setup)));
  });
  pages.add('/_/asyncapi.json', READ, (exchange) => {
    exchange.reply.send(asyncApi(documentSetup(exchange, setup)));
  });
  if (setup.options.mcp) {
    pages.add('/_/mcp', ['GET', 'POST', 'DELETE'], async (exchange) => {
      const { serveTools } = await import('./mcp.ts');
      await serveTools(exchange, setup);
    });
  }
}

function documentSetup(exchange: Exchange, setup: OwnPagesSetup): DocumentSetup {
  const { namespace = 'go.micro', type = 'api', resolver = 'micro' } = setup.options;
  const { contracts = [], topics = [], tls } = setup.options;
  const isHost = /^[\w.:[\]-]+$/.test(exchange.host) && URL.canParse(`http://${exchange.host}`);
  const host = isHost ? exchange.host : 'localhost';
  return {
    records: setup.directory.records,
    contracts,
    namespace: namespaceOf(namespace, type, exchange.host),
    resolver,
    url: `${tls === undefined ? 'http' : 'https'}://${host}`,
    hasAuthentication: setup.hasAuthentication,
    topics,
  };
}
