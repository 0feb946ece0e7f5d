/**
 * Protobuf messages as MessageTypes: what the codecs know of a message whose .proto is known.
 *
 * Values are plain objects with camel names; the five types of 64 bits are bigint, enums their names,
 * maps objects, what has presence and is absent is no property. Invariants: bytes or JSON that are no
 * such message are DECODING_FAILED, a value that does not fit is VALIDATION_FAILED with the path of
 * the field; one type of a Root is one object. Cost: see proto-wire.ts and proto-json.ts.
 */
import { RivuletError } from '../../errors.ts';
import type { MessageType, TypeDescription } from '../codec.ts';
import { messageFromJson, messageToJson } from './proto-json.ts';
import { Misfit } from './proto-misfit.ts';
import { fullName, type Shape, shapeOf } from './proto-shape.ts';
import { copyMessage, decodeMessage, encodeMessage } from './proto-wire.ts';
import type { Protobufjs } from './protobufjs.ts';

export class ProtoType implements MessageType {
  readonly name: string;
  readonly #type: Protobufjs.Type;

  constructor(type: Protobufjs.Type) {
    this.name = fullName(type);
    this.#type = type;
  }

  encode(value: unknown): Uint8Array {
    return this.#checked(() => encodeMessage(this.#shape, value));
  }

  decode(bytes: Uint8Array): unknown {
    try {
      return decodeMessage(this.#shape, bytes);
    } catch (cause) {
      const text = `not a ${this.name} in protobuf: ${(cause as Error).message}`;
      throw new RivuletError('DECODING_FAILED', text, { cause });
    }
  }

  /** The value as it would be decoded: checked, copied, zeros filled in. Throws VALIDATION_FAILED. */
  copy(value: unknown): unknown {
    return this.#checked(() => copyMessage(this.#shape, value));
  }

  fromJson(json: unknown): unknown {
    try {
      return messageFromJson(this.#shape, json);
    } catch (cause) {
      if (!(cause instanceof Misfit)) throw cause;
      const text = `not a ${this.name} in JSON: ${described(cause)}`;
      throw new RivuletError('DECODING_FAILED', text, { cause });
    }
  }

  toJson(value: unknown, names: 'proto' | 'camel'): unknown {
    return this.#checked(() => messageToJson(this.#shape, copyMessage(this.#shape, value), names));
  }

  /** Three levels deep, as go-micro writes its records, so a recursive type ends. */
  describe(): TypeDescription {
    const name = this.#type.name;
    return { name, type: name, values: describeFields(this.#shape, 1) };
  }

  get #shape(): Shape {
    return shapeOf(this.#type);
  }

  #checked<T>(run: () => T): T {
    try {
      return run();
    } catch (cause) {
      if (!(cause instanceof Misfit)) throw cause;
      const text = `the value is no ${this.name}: ${described(cause)}`;
      throw new RivuletError('VALIDATION_FAILED', text, { cause });
    }
  }
}

const types = new WeakMap<Protobufjs.Type, ProtoType>();

export function protoType(type: Protobufjs.Type): ProtoType {
  let made = types.get(type);
  if (made === undefined) {
    made = new ProtoType(type);
    types.set(type, made);
  }
  return made;
}

const DESCRIBED_DEPTH = 3;

function describeFields(shape: Shape, depth: number): TypeDescription[] {
  if (depth >= DESCRIBED_DEPTH) return [];
  return shape.fields.map((field) => ({
    name: field.protoName,
    type: field.isRepeated ? `[]${field.typeName}` : field.typeName,
    values:
      field.shape === null || field.mapKey !== null ? [] : describeFields(field.shape(), depth + 1),
  }));
}

function described({ path, message }: Misfit): string {
  return path === '' ? message : `${path.replace(/^\./, '')}: ${message}`;
}
