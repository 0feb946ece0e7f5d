/**
 * The gateway's own pages: `/`, and below `/_/` health, metrics, documents and tools for agents.
 *
 * `/_/healthz`, `/_/readyz`, `/_/metrics`, `/_/services`, `/_/openapi.json`, `/_/asyncapi.json`,
 * `/_/mcp`. Invariant: documents are made when they are asked for, from what the registry holds then.
 */
import { RIVULET_VERSION } from '../../server/version.ts';
import type { Exchange } from '../exchange.ts';
import { HttpError } from '../http-error.ts';

export type Page = (exchange: Exchange) => Promise<void> | void;

export class Pages {
  readonly #pages = new Map<string, { methods: readonly string[]; page: Page }>();

  constructor() {
    this.add('/', ['GET', 'HEAD'], ({ reply }) => {
      reply.send({ version: RIVULET_VERSION });
    });
  }

  add(path: string, methods: readonly string[], page: Page): void {
    this.#pages.set(path, { methods, page });
  }

  async serve(exchange: Exchange): Promise<void> {
    const found = this.#pages.get(exchange.path);
    if (found === undefined) throw new HttpError(404, 'there is nothing here');
    if (!found.methods.includes(exchange.method)) {
      throw new HttpError(405, 'this method is not allowed here', {
        allow: found.methods.join(', '),
      });
    }
    await found.page(exchange);
  }
}
