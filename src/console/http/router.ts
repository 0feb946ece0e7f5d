/**
 * Which handler answers a path of the API.
 *
 * A pattern is `topics/{topic}/entries`: a part in braces takes one part of the path, percent-decoded.
 * Invariant: a path that one pattern fits with another method is 405 and says which methods there are.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { RivuletError } from '../../errors.ts';
import type { Viewer } from '../sources/source.ts';
import type { Account } from './users.ts';

export interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly account: Account;
  readonly viewer: Viewer;
  /** Of a POST; JSON. */
  readonly body: unknown;
}

/** Returns what is sent as JSON, a RawReply, or undefined when it has answered itself. */
export type Handler = (call: Call) => Promise<unknown> | unknown;
export type Method = 'GET' | 'POST' | 'DELETE';

interface Route {
  readonly method: Method;
  readonly parts: readonly string[];
  readonly handler: Handler;
}

export class Router {
  readonly #routes: Route[] = [];

  add(method: Method, pattern: string, handler: Handler): this {
    this.#routes.push({ method, parts: pattern.split('/'), handler });
    return this;
  }

  get routes(): readonly { readonly method: Method; readonly pattern: string }[] {
    return this.#routes.map(({ method, parts }) => ({ method, pattern: parts.join('/') }));
  }

  /** Throws NOT_FOUND, and MethodError where only the method is wrong. */
  find(
    method: string,
    path: string,
  ): { handler: Handler; params: Record<string, string>; pattern: string } {
    const parts = path.split('/');
    const others = new Set<string>();
    for (const route of this.#routes) {
      const params = match(route.parts, parts);
      if (params === null) continue;
      const pattern = route.parts.join('/');
      if (route.method === method) return { handler: route.handler, params, pattern };
      others.add(route.method);
    }
    if (others.size > 0) throw new MethodError([...others]);
    throw new RivuletError('NOT_FOUND', 'the console has no such path');
  }
}

export class MethodError extends RivuletError {
  readonly allow: string;

  constructor(methods: readonly string[]) {
    super('INVALID_ARGUMENT', `this path takes ${methods.join(', ')}`);
    this.allow = methods.join(', ');
  }
}

function match(
  pattern: readonly string[],
  parts: readonly string[],
): Record<string, string> | null {
  if (pattern.length !== parts.length) return null;
  const params: Record<string, string> = {};
  for (let i = 0; i < pattern.length; i++) {
    const name = /^\{(\w+)\}$/.exec(pattern[i]!)?.[1];
    if (name === undefined) {
      if (pattern[i] !== parts[i]) return null;
      continue;
    }
    const value = decoded(parts[i]!);
    if (value === null || value === '') return null;
    params[name] = value;
  }
  return params;
}

function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}
