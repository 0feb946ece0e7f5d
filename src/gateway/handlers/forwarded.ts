/** What the http and web handlers know of a request that they pass on, and of its headers. */

import type { Rule } from '../access/rules.ts';
import type { Answer } from '../answer.ts';
import type { Exchange } from '../exchange.ts';

/** What of an exchange the handler uses, so that a server without fastify can pass requests on too. */
export interface Forwarded
  extends Pick<Exchange, 'request' | 'method' | 'host' | 'traceparent' | 'signal'> {
  /** Default: what a client says of a proxy in front is dropped. */
  readonly trustsProxy?: boolean;
  readonly rule: Pick<Rule, 'maxBodyBytes' | 'timeoutMs'>;
  readonly reply: Pick<Answer, 'getHeaders' | 'hijack' | 'raw' | 'sent'>;
  /** What of the client's header goes on to the backend. */
  readonly toBackend?: HeaderFilter;
  /** What of the backend's header goes on to the client. */
  readonly toClient?: HeaderFilter;
}

/** The values that go on, of a header by its name in small letters; none removes it. */
export type HeaderFilter = (name: string, values: string[]) => string[];

export function* filtered(
  headers: Iterable<readonly [string, string[]]>,
  filter: HeaderFilter | undefined,
): Iterable<[string, string[]]> {
  for (const [name, values] of headers) {
    const kept = filter === undefined ? values : filter(name.toLowerCase(), values);
    if (kept.length > 0) yield [name, kept];
  }
}
