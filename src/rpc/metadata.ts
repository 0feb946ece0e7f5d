/**
 * Metadata of a call: names without regard to case, values as text.
 *
 * Go title-cases names and gRPC lower-cases them, so names are kept in lower case. Invariants: a name
 * is a token of HTTP of at most 1 KiB and a value has no CR, LF or NUL, so that every transport can carry it; all
 * together at most 64 KiB and 1000 names. Cost: one small object, made when it is first written.
 */
import { RivuletError } from '../errors.ts';
import { Fields } from '../transport/fields.ts';
import { NO_METADATA, type Metadata as WireMetadata } from '../transport/transport.ts';

const MAX_BYTES = 64 * 1024;
const MAX_NAMES = 1000;
/** What tcp carries; HTTP sets no limit for a name. */
const MAX_NAME_BYTES = 1024;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-zA-Z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const UNFIT = /[\r\n\u0000]/;

/** Names that were found to be in lower case: most are the same in every call. */
const lower = new Set<string>();

export class Metadata implements Iterable<[string, string]> {
  #values: Record<string, string> | null = null;
  #isShared = false;

  constructor(from?: Readonly<Record<string, string>> | Metadata) {
    if (from instanceof Metadata) for (const [name, value] of from) this.set(name, value);
    else if (from !== undefined) {
      for (const name of Object.keys(from)) this.set(name, from[name] as string);
    }
  }

  /** As it came from a transport, which has checked it; not copied until it is written. */
  static fromWire(values: WireMetadata): Metadata {
    const metadata = new Metadata();
    for (const name in values) {
      if (lower.has(name)) continue;
      if (name !== name.toLowerCase()) return new Metadata(values);
      if (lower.size < MAX_NAMES) lower.add(name);
    }
    metadata.#values = values as Record<string, string>;
    metadata.#isShared = true;
    return metadata;
  }

  get(name: string): string | undefined {
    if (this.#values === null) return undefined;
    return this.#values[lower.has(name) ? name : name.toLowerCase()];
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  /** Throws INVALID_ARGUMENT for what no transport could carry. */
  set(name: string, value: string): this {
    if (typeof value !== 'string' || UNFIT.test(value)) {
      const text = `the value of metadata ${JSON.stringify(name)} must be text without CR, LF and NUL`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    if (!TOKEN.test(name)) {
      const text = `${JSON.stringify(name.slice(0, 64))} is no name of metadata: use letters, digits and -`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    if (name.length > MAX_NAME_BYTES) {
      const text = `a name of metadata has ${name.length} bytes; at most ${MAX_NAME_BYTES} can be sent`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    this.#own()[name.toLowerCase()] = value;
    return this;
  }

  /** For names and values that are known to fit, in lower case. */
  put(name: string, value: string): void {
    this.#own()[name] = value;
  }

  delete(name: string): boolean {
    const lower = name.toLowerCase();
    if (this.#values?.[lower] === undefined) return false;
    return delete this.#own()[lower];
  }

  *[Symbol.iterator](): IterableIterator<[string, string]> {
    for (const name of Object.keys(this.#values ?? NO_METADATA)) {
      yield [name, this.#values?.[name] as string];
    }
  }

  toJSON(): Record<string, string> {
    return { ...this.#values };
  }

  /** For a transport. Throws LIMIT_EXCEEDED for more than it carries. */
  toWire(): WireMetadata {
    const values = this.#values;
    if (values === null) return NO_METADATA;
    let names = 0;
    let bytes = 0;
    for (const name in values) {
      names++;
      // UTF-8 has at most three bytes per unit: a short value needs no count.
      bytes += name.length + 3 * (values[name] as string).length;
    }
    if (names === 0) return NO_METADATA;
    if (bytes > MAX_BYTES) {
      bytes = 0;
      for (const name in values) bytes += name.length + Buffer.byteLength(values[name] as string);
    }
    if (bytes > MAX_BYTES || names > MAX_NAMES) {
      const text = `metadata of ${bytes} bytes and ${names} names; at most ${MAX_BYTES} and ${MAX_NAMES} can be sent`;
      throw new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
    }
    // The local transport hands over this object: what is set afterwards is not seen there.
    this.#isShared = true;
    return values;
  }

  #own(): Record<string, string> {
    if (this.#values === null) this.#values = new Fields();
    else if (this.#isShared) this.#values = Object.assign(new Fields(), this.#values);
    this.#isShared = false;
    return this.#values;
  }
}
