/**
 * The types of `client` options, by the scheme of the URL.
 *
 * Types only. Each adapter declares the options of its client library for its own schemes, so that
 * `openBroker('redis://...', { client: { ... } })` is checked once the adapter's types are loaded:
 *
 *   import '@rivulet/redis';
 *
 * An adapter of your own does the same:
 *
 *   declare module 'rivulet' {
 *     interface SchemeOptions { 'my-scheme': MyClientOptions }
 *   }
 */
import type { ClientOptions } from '../../client/options.ts';
import type { ServiceRegistry } from '../http/http-registry.ts';
import type { BrokerOptions } from './options.ts';

/** The options of the RESP client that are not in the URL. */
export type RivuletClientOptions = Partial<
  Omit<ClientOptions, 'host' | 'port' | 'username' | 'password' | 'db' | 'name'>
>;

export interface HttpBrokerOptions {
  /** Finds the other processes. Default: one of this process alone. */
  readonly registry?: ServiceRegistry;
  /** Where others reach this process, `host` or `host:port`. Default: what it listens on. */
  readonly advertise?: string;
}

/** What `client` may hold, by scheme. Adapters add theirs. */
export interface SchemeOptions {
  rivulet: RivuletClientOptions;
  rivulets: RivuletClientOptions;
  http: HttpBrokerOptions;
}

/** Of a scheme that is not known to the types, or of a URL that is computed, any object. */
export type ClientOptionsOf<Url extends string> =
  SchemeOf<Url> extends keyof SchemeOptions
    ? SchemeOptions[SchemeOf<Url>]
    : Readonly<Record<string, unknown>>;

type SchemeOf<Url extends string> = Url extends `${infer Scheme}:${string}` ? Scheme : string;

export type OpenOptions<Url extends string = string> = Partial<Omit<BrokerOptions, 'client'>> & {
  /** Passed to the client library of the URL's scheme. */
  readonly client?: ClientOptionsOf<Url>;
};
