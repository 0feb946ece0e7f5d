/**
 * Which codec reads and writes which content type.
 *
 * Holds: a table from content type to codec, go-micro's content types included. Invariants: an
 * unknown content type is UNSUPPORTED with the types that are known; parameters (`; charset=utf-8`)
 * and letter case do not matter. msgpack and bson load on first use. Cost: one map look-up.
 */
import { RivuletError } from '../errors.ts';
import { bytesCodec } from './bytes.ts';
import type { Codec } from './codec.ts';
import { jsonCodec } from './json.ts';
import { protoCodec } from './proto/proto.ts';
import { textCodec } from './text.ts';

/** Codecs by name that are loaded when first asked for. */
const LOADERS: ReadonlyMap<string, () => Promise<Codec>> = new Map([
  ['msgpack', async () => (await import('./msgpack.ts')).msgpackCodec],
  ['bson', async () => (await import('./bson.ts')).bsonCodec],
]);
/** So that a content type finds the codec that has yet to be loaded. */
const LAZY_TYPES: ReadonlyMap<string, string> = new Map([
  ['application/msgpack', 'msgpack'],
  ['application/x-msgpack', 'msgpack'],
  ['application/vnd.msgpack', 'msgpack'],
  ['application/bson', 'bson'],
]);
const EAGER: readonly Codec[] = [jsonCodec, protoCodec, bytesCodec, textCodec];

export class Codecs {
  readonly #byName = new Map<string, Codec>();
  readonly #byType = new Map<string, Codec>();

  /** `more` are codecs of the user; they win over ours of the same name or content type. */
  constructor(more: readonly Codec[] = []) {
    for (const codec of [...EAGER, ...more]) this.add(codec);
  }

  add(codec: Codec): void {
    this.#byName.set(codec.name, codec);
    for (const type of codec.contentTypes) this.#byType.set(type, codec);
  }

  /** Loads what the name or content type needs; afterwards the synchronous look-ups find it. */
  async load(nameOrType: string): Promise<Codec> {
    const known = this.#byName.get(nameOrType) ?? this.#byType.get(mediaType(nameOrType));
    if (known !== undefined) return known;
    const loader = LOADERS.get(LAZY_TYPES.get(mediaType(nameOrType)) ?? nameOrType);
    if (loader === undefined) throw this.#unknown(nameOrType);
    const codec = await loader();
    this.add(codec);
    return codec;
  }

  byName(name: string): Codec {
    const codec = this.#byName.get(name);
    if (codec === undefined) throw this.#unknown(name);
    return codec;
  }

  /** What a codec writes, by its name or by a content type that it reads; it need not be loaded. */
  contentTypeOf(nameOrType: string): string {
    const known = this.#byName.get(nameOrType);
    if (known !== undefined) return known.contentTypes[0] as string;
    if (this.canLoad(nameOrType)) return mediaType(nameOrType);
    for (const [type, name] of LAZY_TYPES) if (name === nameOrType) return type;
    throw this.#unknown(nameOrType);
  }

  /** The codec of a message. No content type at all means JSON, go-micro's default for clients. */
  byContentType(contentType: string | undefined): Codec {
    if (contentType === undefined || contentType === '') return jsonCodec;
    const codec = this.find(contentType);
    if (codec === undefined) throw this.#unknown(contentType);
    return codec;
  }

  find(contentType: string): Codec | undefined {
    return this.#byType.get(contentType) ?? this.#byType.get(mediaType(contentType));
  }

  /** Whether `load` would find it. */
  canLoad(contentType: string): boolean {
    return this.find(contentType) !== undefined || LAZY_TYPES.has(mediaType(contentType));
  }

  #unknown(name: string): RivuletError {
    const known = [...this.#byType.keys(), ...LAZY_TYPES.keys()];
    const shown = name.length > 100 ? `${name.slice(0, 100)}...` : name;
    return new RivuletError(
      'UNSUPPORTED',
      `no codec for ${JSON.stringify(shown)}; known are ${[...new Set(known)].join(', ')}`,
    );
  }
}

/** `Application/JSON; charset=utf-8` is `application/json`. */
export function mediaType(contentType: string): string {
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}
