/**
 * Protobuf types for bodies: the .proto files of one folder, and which topic has which type.
 *
 * Only a topic that is named has a type: trying every type decodes some bytes wrongly (akhq#472).
 * Invariants: a topic pattern is a name, or ends with `*`; a file or a type that cannot be read is an
 * error at the start, not at the first message.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type ProtoType, protoType } from '../../codec/proto/proto-types.ts';
import { protobufjs } from '../../codec/proto/protobufjs.ts';
import { RivuletError } from '../../errors.ts';
import { allOf, readProto } from '../../rpc/proto/proto-source.ts';
import { plain } from './plain-value.ts';

const MOST_FILES = 1000;

export class ProtoTypes {
  readonly #types: ReadonlyMap<string, ProtoType>;
  readonly #topics: readonly (readonly [pattern: string, type: ProtoType])[];

  private constructor(
    types: ReadonlyMap<string, ProtoType>,
    topics: readonly (readonly [string, ProtoType])[],
  ) {
    this.#types = types;
    this.#topics = topics;
  }

  /** `topics`: `orders=shop.v1.Order`. Rejects with INVALID_ARGUMENT. */
  static async read(folder: string, topics: readonly string[]): Promise<ProtoTypes> {
    const names = await readdir(folder, { recursive: true }).catch((cause: Error) => {
      throw new RivuletError('INVALID_ARGUMENT', `can't read ${folder}: ${cause.message}`, {
        cause,
      });
    });
    const files = names.filter((name) => name.endsWith('.proto')).sort();
    if (files.length === 0 || files.length > MOST_FILES) {
      const text = `${folder} holds ${files.length} .proto files: 1 to ${MOST_FILES} are read`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const types = new Map<string, ProtoType>();
    const { Type } = protobufjs();
    for (const file of files) {
      const { root } = await readProto(join(folder, file), { include: [folder] });
      for (const each of allOf(root)) {
        if (each instanceof Type && !types.has(nameOf(each.fullName))) {
          types.set(nameOf(each.fullName), protoType(each));
        }
      }
    }
    return new ProtoTypes(
      types,
      topics.map((each) => mapping(each, types)),
    );
  }

  has(topic: Buffer): boolean {
    return this.#typeOf(topic) !== undefined;
  }

  get names(): string[] {
    return [...this.#types.keys()];
  }

  /** Throws where the topic has no type, or the bytes are none of it. */
  decode(topic: Buffer, bytes: Uint8Array): unknown {
    const type = this.#typeOf(topic);
    if (type === undefined) throw new Error('no message type is set for this topic');
    return plain(type.toJson(type.decode(bytes), 'proto'), 0);
  }

  #typeOf(topic: Buffer): ProtoType | undefined {
    const name = topic.toString();
    return this.#topics.find(([pattern]) =>
      pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
    )?.[1];
  }
}

function mapping(
  text: string,
  types: ReadonlyMap<string, ProtoType>,
): readonly [string, ProtoType] {
  const at = text.lastIndexOf('=');
  const type = types.get(text.slice(at + 1));
  if (at > 0 && type !== undefined) return [text.slice(0, at), type];
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `${JSON.stringify(text)} is not topic=type with a type of the .proto files`,
  );
}

function nameOf(fullName: string): string {
  return fullName.replace(/^\./, '');
}
