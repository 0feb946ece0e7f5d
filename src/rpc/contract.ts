/**
 * The contract of a service: its name, its structs and their methods, typed for both sides.
 *
 * Names are go-micro's: registry name, `Struct.Method`. Types come from type parameters, from any
 * Standard Schema, or from a .proto (proto-contract.ts). Invariant: a contract is data, the same at
 * client and server; nothing here runs a call. Cost: made once.
 */
import type { MessageType } from '../codec/codec.ts';
import { isStandardSchema, type StandardSchema } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import { isServiceName } from '../registry/record.ts';
import type { MethodKind } from '../transport/transport.ts';
import {
  type ErrorClass,
  type ErrorType,
  errorType,
  makeErrorClass,
  type ServiceError,
} from './service-error.ts';

/** What a caller and a server may assume of a method, and how calls of it are made. */
export interface MethodOptions {
  /** Running it twice does the same as once: it may be retried, and hedged. Default false. */
  readonly idempotent?: boolean;
  /** Default 5 000 for calls with one reply; streams have none. */
  readonly timeoutMs?: number;
  /** Attempts in all, the first one included, and the wait between them. Default 2 attempts. */
  readonly retry?: RetryOptions;
  /** A second attempt at another node when the first has not answered by then. Idempotent methods only. */
  readonly hedge?: { readonly afterMs: number };
  /** Answers are kept this long and given to equal requests. Idempotent methods only. */
  readonly cache?: { readonly ttlMs: number; readonly maxEntries?: number };
  /** Calls that this process makes or serves, a second. */
  readonly rateLimit?: { readonly perSecond: number; readonly burst?: number };
  /** Metadata of the endpoint in the registry record, such as the gateway's routes. */
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface RetryOptions {
  readonly attempts?: number;
  readonly minMs?: number;
  readonly maxMs?: number;
}

/** One side of a method's messages: how they are checked, and what protobuf needs to know of them. */
export interface MessageForm {
  readonly schema: StandardSchema | null;
  readonly type: MessageType | null;
}

// biome-ignore lint/suspicious/noExplicitAny: a method of any types; the types stand in its properties
export type AnyMethod = Method<any, any, any, any>;

export type ErrorTypes = Readonly<Record<string, unknown>>;

type DataOf<T> =
  T extends ErrorType<infer Data>
    ? Data
    : T extends StandardSchema<infer _, infer Output>
      ? Output
      : unknown;

export type ErrorClasses<Errors> = {
  readonly [Name in keyof Errors & string]: ErrorClass<Name, DataOf<Errors[Name]>>;
};

export interface Method<Kind extends MethodKind, Request, Response, Errors = Record<never, never>> {
  readonly kind: Kind;
  readonly request: MessageForm;
  readonly response: MessageForm;
  readonly options: MethodOptions;
  /** The classes of its typed errors. */
  readonly errors: ErrorClasses<Errors>;
  /** For inference only; never there at run time. */
  readonly '~types'?: { readonly request: Request; readonly response: Response };
}

export type Structs = Readonly<Record<string, Readonly<Record<string, AnyMethod>>>>;

const CONTRACT = Symbol.for('rivulet.contract');

export type Contract<S extends Structs = Structs> = S & {
  readonly [CONTRACT]: { readonly name: string };
};

export interface MethodSpec<Request, Response, Errors> extends MethodOptions {
  readonly request?: StandardSchema<unknown, Request> | MessageType;
  readonly response?: StandardSchema<unknown, Response> | MessageType;
  /** Typed errors: `errorType(...)`, or a schema of the error's data. */
  readonly errors?: Errors;
}

type Maker<Kind extends MethodKind> = <
  Request = undefined,
  Response = undefined,
  const Errors extends ErrorTypes = Record<never, never>,
>(
  spec?: MethodSpec<Request, Response, Errors>,
) => Method<Kind, Request, Response, Errors>;

/** One request, one reply. */
export const unary: Maker<'unary'> = (spec) => method('unary', spec);
/** One request, a stream of replies. */
export const serverStream: Maker<'serverStream'> = (spec) => method('serverStream', spec);
/** A stream of requests, one reply. */
export const clientStream: Maker<'clientStream'> = (spec) => method('clientStream', spec);
/** A stream in each direction. */
export const bidi: Maker<'bidi'> = (spec) => method('bidi', spec);

/** Throws INVALID_ARGUMENT for names that no registry or transport could carry. */
export function contract<const S extends Structs>(name: string, structs: S): Contract<S> {
  if (!isServiceName(name)) {
    const text = `service name ${JSON.stringify(String(name).slice(0, 64))} must be 1 to 255 bytes without spaces, control characters or "/"`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  for (const [struct, methods] of Object.entries(structs)) {
    for (const [methodName, each] of Object.entries(methods)) {
      const endpoint = `${struct}.${methodName}`;
      if (!isEndpoint(endpoint)) {
        const text = `${JSON.stringify(endpoint)} of ${name}: names of structs and methods are letters, digits and _`;
        throw new RivuletError('INVALID_ARGUMENT', text);
      }
      checkOptions(endpoint, each);
    }
  }
  const made = { ...structs };
  Object.defineProperty(made, CONTRACT, { value: { name }, enumerable: false });
  return made as Contract<S>;
}

export function contractName(of: Contract): string {
  return of[CONTRACT].name;
}

/** Every method of a contract by its endpoint, `Struct.Method`. */
export function methodsOf(of: Contract): Map<string, AnyMethod> {
  const methods = new Map<string, AnyMethod>();
  for (const [struct, each] of Object.entries(of)) {
    for (const [name, method] of Object.entries(each)) methods.set(`${struct}.${name}`, method);
  }
  return methods;
}

/** `Struct.Method`: exactly one dot, as go-micro asks for. */
export function isEndpoint(endpoint: string): boolean {
  return /^[A-Za-z_]\w{0,127}\.[A-Za-z_]\w{0,127}$/.test(endpoint);
}

function method<Kind extends MethodKind, Request, Response, Errors extends ErrorTypes>(
  kind: Kind,
  spec: MethodSpec<Request, Response, Errors> = {},
): Method<Kind, Request, Response, Errors> {
  const { request, response, errors = {}, ...options } = spec;
  const classes: Record<string, ErrorClass<string, unknown>> = {};
  for (const [name, each] of Object.entries(errors)) {
    const type = isStandardSchema(each)
      ? { ...errorType<unknown>(), schema: each }
      : (each as ErrorType<unknown>);
    classes[name] = makeErrorClass(name, type);
  }
  return {
    kind,
    request: formOf(request),
    response: formOf(response),
    options,
    errors: classes as unknown as ErrorClasses<Errors>,
  };
}

function formOf(given: StandardSchema | MessageType | undefined): MessageForm {
  if (given === undefined) return { schema: null, type: null };
  if (isStandardSchema(given)) return { schema: given, type: null };
  return { schema: null, type: given };
}

function checkOptions(endpoint: string, { kind, options }: AnyMethod): void {
  const refuse = (text: string): never => {
    throw new RivuletError('INVALID_ARGUMENT', `${endpoint}: ${text}`);
  };
  const positive = (name: string, value: number | undefined, most = 2 ** 31 - 1) => {
    if (value === undefined || (Number.isFinite(value) && value > 0 && value <= most)) return;
    refuse(`${name} must be a number above 0 and at most ${most}, not ${value}`);
  };
  positive('timeoutMs', options.timeoutMs);
  positive('retry.attempts', options.retry?.attempts, 100);
  positive('hedge.afterMs', options.hedge?.afterMs);
  positive('cache.ttlMs', options.cache?.ttlMs);
  positive('rateLimit.perSecond', options.rateLimit?.perSecond);
  if (options.idempotent !== true) {
    if (options.hedge !== undefined) refuse('hedge may run a handler twice: set idempotent: true');
    if (options.cache !== undefined) refuse('cache answers without a call: set idempotent: true');
  }
  if (kind !== 'unary' && (options.hedge !== undefined || options.cache !== undefined)) {
    refuse('hedge and cache are for unary methods');
  }
}

// ---- Types of both sides ----

export type RequestOf<M> = M extends { readonly '~types'?: { readonly request: infer R } }
  ? R
  : never;
export type ResponseOf<M> = M extends { readonly '~types'?: { readonly response: infer R } }
  ? R
  : never;
/** Every typed error of a method, as instances. */
export type ErrorsOf<M> =
  M extends Method<MethodKind, infer _Q, infer _R, infer Errors>
    ? {
        [Name in keyof Errors & string]: ServiceError<Name, DataOf<Errors[Name]>>;
      }[keyof Errors & string]
    : never;
