/**
 * .proto files, read with their imports into one protobufjs Root.
 *
 * An import is looked for beside the file that names it, then in the directories given, in those of
 * the first file and above it, and in what comes with protobuf. Invariants: files are read one after
 * the other, so equal files give an equal Root; every error names the file, and the line where it is
 * known. Bounds: 1000 files of at most 8 MiB.
 */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { type Protobufjs, protobufjs } from '../../codec/proto/protobufjs.ts';
import { RivuletError } from '../../errors.ts';

export interface ProtoSourceOptions {
  /** Directories in which imports are looked for, as protoc's -I. */
  readonly include?: readonly string[];
}

export interface ProtoSource {
  readonly root: Protobufjs.Root;
  /** Services that the first file itself declares, by name. */
  readonly services: readonly Protobufjs.Service[];
  /** As given. */
  readonly file: string;
}

interface ReadFile {
  readonly path: string;
  readonly text: string;
}

const MAX_FILES = 1000;
const MAX_BYTES = 8 * 1024 * 1024;

export async function readProto(
  file: string,
  options: ProtoSourceOptions = {},
): Promise<ProtoSource> {
  const { Root, Service } = protobufjs();
  const root = new Root();
  const files: ReadFile[] = [];
  const seen = new Set<string>();
  const entry = resolve(file);

  const visit = async (path: string, from: string | null): Promise<void> => {
    if (seen.has(path)) return;
    seen.add(path);
    if (seen.size > MAX_FILES) refuse(`${file} imports more than ${MAX_FILES} files`);
    const text = await readText(path, from);
    files.push({ path, text });
    const { imports = [], weakImports = [] } = parseFile(path, text, root);
    for (const name of [...imports, ...weakImports]) {
      const line = lineOf(text, new RegExp(`import\\b[^;]*["']${escaped(name)}["']`));
      const where = `${shownPath(path)}:${line}`;
      const bundled = bundledNamed(name);
      const found = await findImport(name, path, entry, options);
      if (found !== null) await visit(found, where);
      else if (bundled !== null) {
        if (!seen.has(name)) root.addJSON(bundled.nested ?? {});
        seen.add(name);
      } else if (!weakImports.includes(name)) {
        const places = lookedIn(path, entry, options).map(shownPath).join(', ');
        refuse(
          `${where}: ${JSON.stringify(name)} is imported and was not found in ${places}; add its directory with include (--include)`,
        );
      }
    }
  };

  await visit(entry, null);
  try {
    root.resolveAll();
  } catch (cause) {
    refuse(unresolved(cause as Error, files), cause);
  }
  const own = files[0]?.text ?? '';
  const services = allOf(root)
    .filter((each) => each instanceof Service)
    .filter((each) => new RegExp(`\\bservice\\s+${each.name}\\b`).test(own));
  return { root, services: services as Protobufjs.Service[], file };
}

/** The Root of a descriptor that `micro generate` wrote. */
export function rootOf(descriptor: object): Protobufjs.Root {
  return protobufjs().Root.fromJSON(descriptor as Protobufjs.INamespace);
}

/** Every type, enum and service below a namespace, in the order of declaration. */
export function allOf(of: Protobufjs.NamespaceBase): Protobufjs.ReflectionObject[] {
  const { Namespace } = protobufjs();
  return of.nestedArray.flatMap((each) => [
    each,
    ...(each instanceof Namespace || 'nestedArray' in each
      ? allOf(each as Protobufjs.NamespaceBase)
      : []),
  ]);
}

async function readText(path: string, from: string | null): Promise<string> {
  const before = from === null ? '' : `${from}: `;
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES) refuse(`${before}${shownPath(path)} has more than ${MAX_BYTES} bytes`);
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof RivuletError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'there is no such file' : (cause as Error).message;
    return refuse(`${before}cannot read ${shownPath(path)}: ${why}`, cause);
  }
}

function parseFile(
  path: string,
  text: string,
  root: Protobufjs.Root,
): { imports?: string[] | undefined; weakImports?: string[] | undefined } {
  const { parse } = protobufjs();
  try {
    const options = { keepCase: true, alternateCommentMode: true };
    const { imports, weakImports } = parse(text, root, options);
    return { imports, weakImports };
  } catch (cause) {
    const { message } = cause as Error;
    const line = / \(line (\d+)\)$/.exec(message)?.[1];
    const said = message
      .replace(/ \(line \d+\)$/, '')
      .replace(/^.*'null'.*$/, 'the file ends within a declaration')
      .replace(/^illegal/, 'unexpected');
    const at = line ?? duplicateLine(message, text);
    return refuse(`${shownPath(path)}${at === null ? '' : `:${at}`}: ${said}`, cause);
  }
}

/** protobufjs names the field and not its line. */
function duplicateLine(message: string, text: string): string | null {
  const [, kind, what, type] =
    /^duplicate (id|name) '?([\w.]+)'? in \w+ \.?(?:[\w.]*\.)?(\w+)/.exec(message) ?? [];
  if (what === undefined || type === undefined) return null;
  const start = text.search(new RegExp(`\\b(message|enum|service|oneof)\\s+${type}\\b`));
  const uses = new RegExp(kind === 'id' ? `=\\s*${what}\\s*[;[]` : `\\b${what}\\b`, 'g');
  uses.lastIndex = Math.max(0, start);
  uses.exec(text);
  const second = uses.exec(text);
  return second === null ? null : String(text.slice(0, second.index).split('\n').length);
}

/** `no such Type or Enum 'Foo' in Type .a.M`: where it is used. */
function unresolved(error: Error, files: readonly ReadFile[]): string {
  const [, alone] = /no such type: \.?([\w.]+)/.exec(error.message) ?? [];
  const [, name = alone ?? '', within = ''] =
    /no such .*?'?([\w.]+)'? in \w+ \.?([\w.]+)/.exec(error.message) ?? [];
  const holder = within.split('.').at(-1) ?? '';
  for (const { path, text } of files) {
    const start =
      holder === '' ? 0 : text.search(new RegExp(`\\b(message|service)\\s+${escaped(holder)}\\b`));
    if (name === '' || start < 0) continue;
    const at = text.slice(start).search(new RegExp(`(?<![\\w.])${escaped(name)}\\b`));
    if (at < 0) continue;
    const line = text.slice(0, start + at).split('\n').length;
    return `${shownPath(path)}:${line}: there is no message or enum ${name}; declare it or import its file`;
  }
  return `${files.map(({ path }) => shownPath(path)).join(', ')}: ${error.message}`;
}

async function findImport(
  name: string,
  from: string,
  entry: string,
  options: ProtoSourceOptions,
): Promise<string | null> {
  for (const directory of lookedIn(from, entry, options)) {
    const path = join(directory, name);
    if ((await stat(path).catch(() => null))?.isFile()) return path;
  }
  return null;
}

function lookedIn(from: string, entry: string, { include = [] }: ProtoSourceOptions): string[] {
  const places = [dirname(from), ...include.map((each) => resolve(each))];
  // A project's files name each other from its root, which is at or above the first file.
  for (let at = dirname(entry), steps = 0; steps < 8; at = dirname(at), steps++) {
    places.push(at);
    if (dirname(at) === at) break;
  }
  return [...new Set(places)];
}

/** Those of protobuf itself, and google/api's options, which change no message. */
function bundledNamed(name: string): Protobufjs.INamespace | null {
  const { common } = protobufjs();
  if (name.startsWith('google/api/') || name === 'google/protobuf/descriptor.proto') return {};
  return name.startsWith('google/protobuf/') ? (common.get(name) ?? null) : null;
}

function lineOf(text: string, pattern: RegExp): number {
  const at = text.search(pattern);
  return text.slice(0, Math.max(0, at)).split('\n').length;
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

function shownPath(path: string): string {
  const short = relative('.', path);
  return short === '' || short.startsWith('..') ? path : short;
}

function refuse(text: string, cause?: unknown): never {
  throw new RivuletError('INVALID_ARGUMENT', text, cause === undefined ? {} : { cause });
}
