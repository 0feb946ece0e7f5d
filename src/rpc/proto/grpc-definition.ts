/**
 * Contracts from the definitions that grpc-js users have: generated ones, or @grpc/proto-loader's.
 *
 *   const Orders = contract('go.micro.orders', { OrderSrv: grpcStruct(OrderSrvService) });
 *
 * Messages are encoded by the definition's own functions. Invariants: a method's name is the one on the
 * wire, from its path, whatever the key's letter case; messages that are instances of generated classes
 * have no JSON form to be read from, so JSON is refused for them and protobuf is not. Cost: none beside
 * the definition's.
 */
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import type { MessageType } from '../../codec/codec.ts';
import { RivuletError } from '../../errors.ts';
import {
  type AnyMethod,
  bidi,
  clientStream,
  type Method,
  serverStream,
  unary,
} from '../contract.ts';
import type { UntypedMethod } from './proto-contract.ts';

type KindOf<D> = D extends { requestStream: infer Q; responseStream: infer R }
  ? boolean extends Q
    ? never
    : boolean extends R
      ? never
      : Q extends true
        ? R extends true
          ? 'bidi'
          : 'clientStream'
        : R extends true
          ? 'serverStream'
          : 'unary'
  : never;

type MethodFrom<D> = [KindOf<D>] extends [never]
  ? UntypedMethod
  : D extends MethodDefinition<infer Request, infer Response>
    ? Method<KindOf<D>, Request, Response>
    : UntypedMethod;

/** Typed where the definition says by literals which kind a method is, as ts-proto's do. */
export type GrpcStruct<D> = {
  readonly [Name in keyof D & string as Capitalize<Name>]: MethodFrom<D[Name]>;
};

const MAKERS = { unary, serverStream, clientStream, bidi };

/** Throws INVALID_ARGUMENT for what is no definition. */
export function grpcStruct<const D extends ServiceDefinition>(definition: D): GrpcStruct<D> {
  const struct: Record<string, AnyMethod> = {};
  for (const [key, each] of Object.entries(definition)) {
    const name = /^\/[^/]+\/(\w+)$/.exec(each?.path ?? '')?.[1];
    if (name === undefined || typeof each.requestSerialize !== 'function') {
      const text = `${JSON.stringify(key)} is no method of a grpc-js ServiceDefinition`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const kind = each.requestStream
      ? each.responseStream
        ? 'bidi'
        : 'clientStream'
      : each.responseStream
        ? 'serverStream'
        : 'unary';
    struct[name] = MAKERS[kind]({
      request: messageType(`${each.path} request`, each.requestSerialize, each.requestDeserialize),
      response: messageType(`${each.path} reply`, each.responseSerialize, each.responseDeserialize),
    });
  }
  return struct as GrpcStruct<D>;
}

function messageType(
  name: string,
  serialize: (value: never) => Buffer,
  deserialize: (bytes: Buffer) => unknown,
): MessageType {
  const encode = (value: unknown): Uint8Array => {
    try {
      return serialize(value as never);
    } catch (cause) {
      const text = `${name} does not fit its type: ${(cause as Error).message}`;
      throw new RivuletError('VALIDATION_FAILED', text, { cause });
    }
  };
  const decode = (bytes: Uint8Array): unknown => {
    try {
      return deserialize(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    } catch (cause) {
      const text = `${name} is no message of its type: ${(cause as Error).message}`;
      throw new RivuletError('DECODING_FAILED', text, { cause });
    }
  };
  return {
    name,
    encode,
    decode,
    fromJson(json) {
      if (isPlain(decode(new Uint8Array(0)))) return json;
      const text = `${name} is an instance of a generated class: call it with protobuf`;
      throw new RivuletError('UNSUPPORTED', text);
    },
    toJson: (value) => {
      const own = value as { toObject?: () => unknown } | null | undefined;
      return typeof own?.toObject === 'function' ? own.toObject() : value;
    },
    copy: (value) => decode(encode(value)),
  };
}

function isPlain(value: unknown): boolean {
  const prototype = Object.getPrototypeOf(value ?? {});
  return prototype === Object.prototype || prototype === null;
}
