/**
 * Protobuf: the wire form of a message whose type is known.
 *
 * Without a type the bytes cannot be read: that is UNSUPPORTED, with the advice to give the contract
 * a .proto. Cost: the type's own, see proto-types.ts.
 */
import { RivuletError } from '../../errors.ts';
import type { Codec, MessageType } from '../codec.ts';

export const protoCodec: Codec = {
  name: 'proto',
  contentTypes: [
    'application/protobuf',
    'application/grpc+proto',
    'application/grpc',
    'application/x-protobuf',
    'application/proto-rpc',
  ],
  encode: (value, type) => required(type).encode(value),
  decode: (bytes, type) => required(type).decode(bytes),
};

function required(type: MessageType | null | undefined): MessageType {
  if (type) return type;
  throw new RivuletError(
    'UNSUPPORTED',
    'protobuf needs the type of the message: make the contract from a .proto file (loadProto), or use JSON',
  );
}
