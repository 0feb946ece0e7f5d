/**
 * The contract of a service: its name, its structs and their methods, typed for both sides.
 *
 * Names are go-micro's: registry name, `Struct.Method`. Types come from type parameters, from any
 * Standard Schema, or from a .proto (proto-contract.ts). Invariant: a contract is data, the same at
 * client and server; nothing here runs a call. Cost: made once.
 */
import {
  checkNumber,
  checkOptions,
  count,
  invalid,
  type OptionTable,
  shown,
  timeout,
} from '../client/option-table.ts';
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
  /** How long the reader of a stream waits for a message before it fails. Default 60 000; Infinity: no limit. */
  readonly idleTimeoutMs?: number;
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

// biome-ignore lint/suspicious/noExplicitAny: a method of any types; its properties have the types
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
      checkMethod(endpoint, each);
    }
  }
  // Each contract has its own method objects, so that a method alone says where it is called.
  const made: Record<string, Record<string, AnyMethod>> = {};
  for (const [struct, methods] of Object.entries(structs)) {
    const own: Record<string, AnyMethod> = {};
    for (const [methodName, each] of Object.entries(methods)) {
      own[methodName] = { ...each };
      places.set(own[methodName], { contract: made as Contract, struct, method: methodName });
    }
    made[struct] = own;
  }
  Object.defineProperty(made, CONTRACT, { value: { name }, enumerable: false });
  return made as unknown as Contract<S>;
}

export interface MethodPlace {
  readonly contract: Contract;
  readonly struct: string;
  readonly method: string;
}

// Under a registered symbol, so that two copies of this package in one process know each other's contracts.
const PLACES = Symbol.for('rivulet.places of methods');
const shared = globalThis as { [PLACES]?: WeakMap<AnyMethod, MethodPlace> };
shared[PLACES] ??= new WeakMap();
const places = shared[PLACES];

/** Where a method of a contract is called; undefined for one that is in no contract. */
export function placeOfMethod(method: AnyMethod): MethodPlace | undefined {
  return places.get(method);
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
  return typeof endpoint === 'string' && /^[A-Za-z_]\w{0,127}\.[A-Za-z_]\w{0,127}$/.test(endpoint);
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

const methodTable: OptionTable = {
  idempotent: { kind: 'boolean' },
  timeoutMs: timeout(1e-3),
  idleTimeoutMs: { kind: 'other', check: checkIdle },
  retry: {
    kind: 'group',
    table: { attempts: count(1, 100), minMs: timeout(0), maxMs: timeout(0) },
  },
  hedge: { kind: 'group', table: { afterMs: timeout(1e-3) } },
  cache: { kind: 'group', table: { ttlMs: timeout(1e-3), maxEntries: count(1, 1_000_000) } },
  rateLimit: {
    kind: 'group',
    table: {
      perSecond: { kind: 'number', min: 0.001, max: 1e9, integer: false, unit: '' },
      burst: count(1, 1e9),
    },
  },
  metadata: { kind: 'other', check: checkMetadata },
};

function checkIdle(value: unknown, name: string): void {
  if (value !== Number.POSITIVE_INFINITY) checkNumber(timeout(), value, name);
}

function checkMetadata(value: unknown, name: string): void {
  const isGood =
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((each) => typeof each === 'string');
  if (!isGood) throw invalid(`${name} must be an object of texts, not ${shown(value)}`);
}

/** Throws INVALID_ARGUMENT for an option that is wrong, misspelt, or of another kind of method. */
function checkMethod(endpoint: string, { kind, options }: AnyMethod): void {
  checkOptions(methodTable, options, `${endpoint}: `);
  const refuse = (text: string): never => {
    throw invalid(`${endpoint}: ${text}`);
  };
  const { minMs = 0, maxMs = Number.POSITIVE_INFINITY } = options.retry ?? {};
  if (minMs > maxMs) refuse(`retry.minMs (${minMs}) is above retry.maxMs (${maxMs})`);
  if (options.idempotent !== true) {
    if (options.hedge !== undefined) refuse('hedge may run a handler twice: set idempotent: true');
    if (options.cache !== undefined) refuse('cache answers without a call: set idempotent: true');
  }
  if (kind !== 'unary' && (options.hedge !== undefined || options.cache !== undefined)) {
    refuse('hedge and cache are for unary methods');
  }
  if (kind === 'unary' && options.idleTimeoutMs !== undefined) {
    refuse('idleTimeoutMs is for streams: use timeoutMs');
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
