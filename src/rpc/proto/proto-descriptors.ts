/**
 * What gRPC's reflection reports of the methods that .proto files declare.
 *
 * protobufjs keeps packages and not files, so each package is one file here, which imports the
 * packages that it uses. Cost: made when the first tool asks.
 */
import { createRequire } from 'node:module';
import { camel } from '../../codec/proto/proto-shape.ts';
import { type Protobufjs, protobufjs } from '../../codec/proto/protobufjs.ts';
import type { AnyMethod } from '../contract.ts';
import { protoSource } from './proto-contract.ts';
import { allOf } from './proto-source.ts';

export interface ProtoDescriptors {
  /** Full names, `orders.OrderSrv`. */
  readonly services: readonly string[];
  /** google.protobuf.FileDescriptorProto, serialised. */
  readonly files: readonly Uint8Array[];
}

interface FieldDescriptor {
  typeName: string;
}

interface MessageDescriptor {
  name: string;
  field: FieldDescriptor[];
  nestedType: MessageDescriptor[];
}

interface FileDescriptor {
  name: string;
  package: string;
  dependency: string[];
  messageType: MessageDescriptor[];
}

interface Extended {
  toDescriptor(edition: string): { file: FileDescriptor[] };
}

interface DescriptorModule {
  FileDescriptorProto: { encode(file: FileDescriptor): { finish(): Uint8Array } };
}

/** Full names of the services that declare these methods. */
export function protoServices(methods: Iterable<AnyMethod>): string[] {
  const names = new Set<string>();
  for (const method of methods) {
    const source = protoSource(method);
    if (source !== null) names.add(source.service);
  }
  return [...names];
}

export function protoFiles(methods: Iterable<AnyMethod>): Uint8Array[] {
  const roots = new Set<Protobufjs.Root>();
  for (const method of methods) {
    const source = protoSource(method);
    if (source !== null) roots.add(source.root);
  }
  return [...roots].flatMap(filesOf);
}

function filesOf(root: Protobufjs.Root): Uint8Array[] {
  protobufjs();
  const load = createRequire(import.meta.url);
  const { FileDescriptorProto } = load('protobufjs/ext/descriptor') as DescriptorModule;
  const { file: files } = (root as unknown as Extended).toDescriptor('proto3');
  const byPackage = new Map(files.map((file) => [file.package, file]));
  for (const file of files) {
    const prefix = file.package === '' ? '' : `${file.package}.`;
    for (const message of file.messageType) {
      completeNames(root.lookupType(`${prefix}${message.name}`), message);
    }
    for (const used of packagesUsedBy(root, file.package)) {
      const other = byPackage.get(used);
      if (other !== undefined && other !== file) file.dependency.push(other.name);
    }
  }
  return files.map((file) => FileDescriptorProto.encode(file).finish());
}

/** protoc's names: full ones for types, and `<Field>Entry` for the entries of maps. */
function completeNames(type: Protobufjs.Type, message: MessageDescriptor): void {
  const { MapField, Type } = protobufjs();
  type.fieldsArray.forEach((field, index) => {
    const descriptor = message.field[index] as FieldDescriptor;
    const { resolvedType } = field.resolve();
    if (!(field instanceof MapField)) {
      if (resolvedType !== null) descriptor.typeName = resolvedType.fullName;
      return;
    }
    const entry = message.nestedType.find(({ name }) => name === descriptor.typeName);
    if (entry === undefined) return;
    entry.name = `${camel(`_${field.name}`)}Entry`;
    descriptor.typeName = `${type.fullName}.${entry.name}`;
    const value = entry.field[1] as FieldDescriptor;
    if (resolvedType !== null) value.typeName = resolvedType.fullName;
  });
  for (const nested of type.nestedArray) {
    const descriptor = message.nestedType.find(({ name }) => name === nested.name);
    if (nested instanceof Type && descriptor !== undefined) completeNames(nested, descriptor);
  }
}

function packagesUsedBy(root: Protobufjs.Root, name: string): Set<string> {
  const { Type, Service } = protobufjs();
  const used = new Set<string>();
  const note = (type: Protobufjs.ReflectionObject | null) => {
    if (type !== null) used.add(packageOf(type));
  };
  for (const each of allOf(root)) {
    if (packageOf(each) !== name) continue;
    if (each instanceof Type) {
      for (const field of each.fieldsArray) note(field.resolve().resolvedType);
    } else if (each instanceof Service) {
      for (const method of each.methodsArray) {
        const { resolvedRequestType, resolvedResponseType } = method.resolve() as Protobufjs.Method;
        note(resolvedRequestType);
        note(resolvedResponseType);
      }
    }
  }
  return used;
}

/** The nearest namespace around it that is no type. */
function packageOf(of: Protobufjs.ReflectionObject): string {
  const { Type } = protobufjs();
  let at = of.parent;
  while (at instanceof Type) at = at.parent;
  return at === null ? '' : at.fullName.replace(/^\./, '');
}
