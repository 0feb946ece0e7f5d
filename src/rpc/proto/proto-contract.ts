/**
 * Contracts from .proto files: a service declaration is a struct, each rpc one method of it.
 *
 *   const { OrderSrv } = await loadProto('order.proto');           // at run time, untyped
 *   import { OrderSrv } from './order.proto.ts';                   // by `micro generate`, typed
 *   const Orders = contract('go.micro.api.orderservice', { OrderSrv });
 *
 * Invariants: the kind of a method follows from `stream` in its declaration; an rpc with the option
 * `idempotency_level` IDEMPOTENT or NO_SIDE_EFFECTS is idempotent; where a method came from is known
 * by `protoSource`, for gRPC's path and reflection. Cost: made once.
 */
import { protoType } from '../../codec/proto/proto-types.ts';
import { type Protobufjs, protobufjs } from '../../codec/proto/protobufjs.ts';
import { RivuletError } from '../../errors.ts';
import {
  type AnyMethod,
  bidi,
  clientStream,
  type Method,
  type MethodOptions,
  serverStream,
  unary,
} from '../contract.ts';
import { allOf, type ProtoSourceOptions, readProto, rootOf } from './proto-source.ts';

/** A method of which only the kind is known; what it takes and gives is checked when it runs. */
// biome-ignore lint/suspicious/noExplicitAny: the message types are known at run time only
export type UntypedMethod = Method<any, any, any>;

export type UntypedStructs = Readonly<Record<string, Readonly<Record<string, UntypedMethod>>>>;

/** Where a method was declared. */
export interface ProtoSourceOf {
  /** Package and service, `orders.OrderSrv`: the first part of gRPC's path. */
  readonly service: string;
  readonly method: string;
  readonly root: Protobufjs.Root;
}

/** On the method itself, because a contract copies its methods. */
const SOURCE = Symbol.for('rivulet.proto-source');

type FromProto = AnyMethod & { readonly [SOURCE]?: ProtoSourceOf };

/** Null for a method that no .proto declares. */
export function protoSource(method: AnyMethod): ProtoSourceOf | null {
  return (method as FromProto)[SOURCE] ?? null;
}

/**
 * The structs of a .proto file, by the names of its services. Rejects with INVALID_ARGUMENT and the
 * file and line of what cannot be read.
 */
export async function loadProto(
  file: string,
  options: ProtoSourceOptions = {},
): Promise<UntypedStructs> {
  const { services } = await readProto(file, options);
  if (services.length === 0) {
    const text = `${file} declares no service: write service OrderSrv { rpc GetOrder(Request) returns (Response); }`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  return Object.fromEntries(services.map((service) => [service.name, structOf(service)]));
}

/** The structs of a descriptor that `micro generate` wrote. */
export function protoStructs(descriptor: object): UntypedStructs {
  const { Service } = protobufjs();
  const services = allOf(rootOf(descriptor)).filter((each) => each instanceof Service);
  return Object.fromEntries(services.map((each) => [each.name, structOf(each)]));
}

export type MethodKindName = 'unary' | 'serverStream' | 'clientStream' | 'bidi';

export function kindOf(method: Protobufjs.Method): MethodKindName {
  if (method.requestStream) return method.responseStream ? 'bidi' : 'clientStream';
  return method.responseStream ? 'serverStream' : 'unary';
}

const MAKERS = { unary, serverStream, clientStream, bidi };

function structOf(service: Protobufjs.Service): Record<string, UntypedMethod> {
  const struct: Record<string, UntypedMethod> = {};
  for (const each of service.methodsArray) {
    const { resolvedRequestType, resolvedResponseType } = each.resolve() as Protobufjs.Method;
    const made = MAKERS[kindOf(each)]({
      request: protoType(resolvedRequestType!),
      response: protoType(resolvedResponseType!),
      ...optionsOf(each),
    });
    const source = { service: service.fullName.replace(/^\./, ''), method: each.name };
    struct[each.name] = Object.assign(made, { [SOURCE]: { ...source, root: service.root } });
  }
  return struct;
}

function optionsOf(method: Protobufjs.Method): MethodOptions {
  const level = method.options?.idempotency_level;
  return level === 'IDEMPOTENT' || level === 'NO_SIDE_EFFECTS' ? { idempotent: true } : {};
}
