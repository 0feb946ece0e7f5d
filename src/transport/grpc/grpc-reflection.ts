/**
 * grpc.reflection v1 and v1alpha: tools such as grpcurl list and call services without their .proto.
 *
 * Holds: which file declares which symbol. Invariants: every request gets its answer, in order, an
 * unknown name included; a file is sent with the files that it imports, each once per stream. Cost:
 * the index is made when the first tool asks.
 */
import { type DescribedServices, type IncomingCall, NO_METADATA } from '../transport.ts';
import type { GrpcRoute } from './grpc-server.ts';
import { OWN_SERVICES, ownDescriptors, REFLECTION_VERSIONS } from './own-descriptors.ts';
import { decodeFields, encodeFields, type ProtoField } from './proto-fields.ts';

const NOT_FOUND = 5;
const INVALID_ARGUMENT = 3;

export function reflectionRoutes(described: DescribedServices): Map<string, GrpcRoute> {
  let index: FileIndex | null = null;
  const handler = (call: IncomingCall) => {
    // A file of the service's own goes before ours of the same name.
    index ??= new FileIndex([...ownDescriptors(), ...described.files]);
    // A stream that the caller cut is no failure of ours.
    run(call, described, index).catch(() => {});
  };
  const route: GrpcRoute = { method: { kind: 'bidi', isProto: true }, handler };
  return new Map(
    REFLECTION_VERSIONS.map((version) => [
      `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      route,
    ]),
  );
}

async function run(
  call: IncomingCall,
  described: DescribedServices,
  index: FileIndex,
): Promise<void> {
  const sent = new Set<string>();
  for await (const request of call.messages) {
    const answer = answerTo(request, described, index, sent);
    await call.send(encodeFields([[2, request], answer]));
  }
  call.end(NO_METADATA);
}

function answerTo(
  request: Uint8Array,
  { services }: DescribedServices,
  index: FileIndex,
  sent: Set<string>,
): ProtoField {
  const fields = decodeFields(request) ?? [];
  const [kind, value] = fields.find(([number]) => number >= 3 && number <= 7) ?? [0, 0];
  const text = typeof value === 'object' ? Buffer.from(value).toString('utf8') : '';
  switch (kind) {
    case 3:
      return index.has(text) ? filesOf(text, index, sent) : notFound(`no file ${shown(text)}`);
    case 4: {
      const file = index.fileOf(text.replace(/^\./, ''));
      return file === null ? notFound(`no symbol ${shown(text)}`) : filesOf(file, index, sent);
    }
    case 5:
      return notFound('there are no extensions');
    case 6: {
      if (index.fileOf(text.replace(/^\./, '')) === null) return notFound(`no type ${shown(text)}`);
      return [5, encodeFields([[1, text]])];
    }
    case 7: {
      const names = [...services.filter((name) => index.fileOf(name) !== null), ...OWN_SERVICES];
      return [6, encodeFields(names.sort().map((name) => [1, encodeFields([[1, name]])]))];
    }
    default:
      return failed(INVALID_ARGUMENT, 'the request asks for nothing that is known');
  }
}

/** The file and what it imports, the imported ones after it. */
function filesOf(first: string, index: FileIndex, sent: Set<string>): ProtoField {
  const files: ProtoField[] = [[1, index.bytesOf(first)]];
  sent.add(first);
  const queue = [...index.importsOf(first)];
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    if (sent.has(name) || !index.has(name)) continue;
    sent.add(name);
    files.push([1, index.bytesOf(name)]);
    queue.push(...index.importsOf(name));
  }
  return [4, encodeFields(files)];
}

function notFound(text: string): ProtoField {
  return failed(NOT_FOUND, text);
}

function failed(code: number, text: string): ProtoField {
  return [
    7,
    encodeFields([
      [1, code],
      [2, text],
    ]),
  ];
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}

/** google.protobuf.FileDescriptorProto: the numbers of the fields that name things. */
const FILE = { name: 1, package: 2, dependency: 3, message: 4, enum: 5, service: 6, extension: 7 };

class FileIndex {
  readonly #files = new Map<string, { bytes: Uint8Array; imports: string[] }>();
  readonly #symbols = new Map<string, string>();

  constructor(files: readonly Uint8Array[]) {
    for (const bytes of files) this.#add(bytes);
  }

  has(file: string): boolean {
    return this.#files.has(file);
  }

  bytesOf(file: string): Uint8Array {
    return this.#files.get(file)?.bytes ?? new Uint8Array(0);
  }

  importsOf(file: string): readonly string[] {
    return this.#files.get(file)?.imports ?? [];
  }

  /** Null for a symbol that no file declares. */
  fileOf(symbol: string): string | null {
    return this.#symbols.get(symbol) ?? null;
  }

  #add(bytes: Uint8Array): void {
    const file = textAt(bytes, FILE.name);
    const within = textAt(bytes, FILE.package);
    this.#files.set(file, { bytes, imports: textsAt(bytes, FILE.dependency) });
    const add = (scope: string, of: Uint8Array): string => {
      const name = textAt(of, 1);
      const full = scope === '' ? name : `${scope}.${name}`;
      this.#symbols.set(full, file);
      return full;
    };
    const addMessage = (scope: string, message: Uint8Array): void => {
      const full = add(scope, message);
      for (const field of partsAt(message, 2)) add(full, field);
      for (const nested of partsAt(message, 3)) addMessage(full, nested);
      for (const each of partsAt(message, 4)) add(full, each);
    };
    for (const message of partsAt(bytes, FILE.message)) addMessage(within, message);
    for (const number of [FILE.enum, FILE.extension]) {
      for (const each of partsAt(bytes, number)) add(within, each);
    }
    for (const service of partsAt(bytes, FILE.service)) {
      const full = add(within, service);
      for (const method of partsAt(service, 2)) add(full, method);
    }
  }
}

function partsAt(bytes: Uint8Array, number: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (const [each, value] of decodeFields(bytes) ?? []) {
    if (each === number && typeof value === 'object') parts.push(value);
  }
  return parts;
}

function textsAt(bytes: Uint8Array, number: number): string[] {
  return partsAt(bytes, number).map((part) => Buffer.from(part).toString('utf8'));
}

function textAt(bytes: Uint8Array, number: number): string {
  return textsAt(bytes, number)[0] ?? '';
}
