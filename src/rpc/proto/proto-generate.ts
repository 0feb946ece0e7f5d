/**
 * TypeScript out of a .proto: the descriptor as JSON, an interface per message, typed structs.
 *
 * Invariants: equal files give equal text, byte by byte; the text needs nothing but `rivulet`; names
 * of nested messages are joined by `_`; two messages of one name in two packages have their package
 * before it. Cost: one walk over the files.
 */
import { camel, fullName, valueName } from '../../codec/proto/proto-shape.ts';
import { type Protobufjs, protobufjs } from '../../codec/proto/protobufjs.ts';
import { kindOf } from './proto-contract.ts';
import { allOf, type ProtoSource } from './proto-source.ts';

/** `module`: what the text imports from. Default `rivulet`. */
export function generateTypeScript(source: ProtoSource, { module = 'rivulet' } = {}): string {
  const { Type, Enum } = protobufjs();
  const all = allOf(source.root);
  const names = namesOf(all.filter((each) => each instanceof Type || each instanceof Enum));
  const parts = [
    `/** Generated from ${source.file.replace(/^.*[/\\]/, '')} by micro generate. Do not edit: change the .proto and generate again. */`,
    importsOf(source, module),
  ];
  for (const each of all) {
    if (each instanceof Enum) parts.push(enumText(each, names));
    else if (each instanceof Type) parts.push(interfaceText(each, names));
  }
  // Without comments: a comment that changes changes no message.
  const descriptor = JSON.stringify(source.root.toJSON({ keepComments: false }));
  parts.push(
    `/** The messages and services, as protobufjs describes them. */\nexport const descriptor: object = JSON.parse(\n  ${quoted(descriptor)},\n);`,
  );
  if (source.services.length > 0) parts.push('const structs = protoStructs(descriptor);');
  for (const service of source.services) parts.push(structText(service, names));
  return `${parts.join('\n\n')}\n`;
}

type Names = ReadonlyMap<Protobufjs.ReflectionObject, string>;

/** Names that the text itself uses, and those that TypeScript keeps. */
const TAKEN = new Set(
  'protoStructs RpcMethod Uint8Array descriptor structs string number bigint boolean any object symbol never unknown void undefined null'.split(
    ' ',
  ),
);

function importsOf({ services }: ProtoSource, module: string): string {
  return services.length === 0
    ? '// No service is declared here.'
    : `import { protoStructs, type Method as RpcMethod } from ${quoted(module)};`;
}

function namesOf(objects: readonly Protobufjs.ReflectionObject[]): Names {
  const { Type } = protobufjs();
  const short = (of: Protobufjs.ReflectionObject): string =>
    of.parent instanceof Type ? `${short(of.parent)}_${of.name}` : of.name;
  const uses = new Map<string, number>();
  for (const each of objects) uses.set(short(each), (uses.get(short(each)) ?? 0) + 1);
  return new Map(
    objects.map((each) => {
      const name = uses.get(short(each)) === 1 ? short(each) : fullName(each).replaceAll('.', '_');
      return [each, TAKEN.has(name) ? `${name}_` : name];
    }),
  );
}

function enumText(of: Protobufjs.Enum, names: Names): string {
  const values = Object.keys(of.values).map(quoted);
  // An enum may gain values: a number that has no name here.
  return `${comment(of, '')}export type ${names.get(of)} = ${[...values, 'number'].join(' | ')};`;
}

function interfaceText(of: Protobufjs.Type, names: Names): string {
  const taken = new Set<string>();
  const lines = of.fieldsArray.map((each) => {
    const field = each.resolve();
    const name = valueName(field, taken);
    taken.add(name);
    const type = fieldType(field, names);
    const property = /^[A-Za-z_$][\w$]*$/.test(name) ? name : quoted(name);
    return `${comment(each, '  ')}  ${property}${isOptional(field) ? '?' : ''}: ${type}${isOptional(field) ? ' | undefined' : ''};\n`;
  });
  return `${comment(of, '')}export interface ${names.get(of)} {\n${lines.join('')}}`;
}

function isOptional(field: Protobufjs.Field): boolean {
  const { Type, MapField } = protobufjs();
  if (field.repeated || field instanceof MapField || field.required) return false;
  return field.resolvedType instanceof Type || Boolean(field.hasPresence);
}

function fieldType(field: Protobufjs.Field, names: Names): string {
  const { MapField } = protobufjs();
  const one =
    field.resolvedType === null
      ? (SCALAR_TYPES[field.type] ?? 'number')
      : (names.get(field.resolvedType) as string);
  if (field instanceof MapField) return `{ [key: string]: ${one} }`;
  if (!field.repeated) return one;
  return field.resolvedType === null ? `${one}[]` : `(${one})[]`;
}

const SCALAR_TYPES: Readonly<Record<string, string>> = {
  string: 'string',
  bool: 'boolean',
  bytes: 'Uint8Array',
  int64: 'bigint',
  uint64: 'bigint',
  sint64: 'bigint',
  fixed64: 'bigint',
  sfixed64: 'bigint',
};

function structText(service: Protobufjs.Service, names: Names): string {
  const lines = service.methodsArray.map((each) => {
    const { resolvedRequestType, resolvedResponseType } = each.resolve() as Protobufjs.Method;
    const types = [resolvedRequestType, resolvedResponseType].map((type) => names.get(type!));
    return `${comment(each, '  ')}  readonly ${each.name}: RpcMethod<${quoted(kindOf(each))}, ${types.join(', ')}>;\n`;
  });
  const name = camelSafe(service.name);
  return `${comment(service, '')}export const ${name} = structs.${service.name} as unknown as {\n${lines.join('')}};`;
}

function camelSafe(name: string): string {
  return TAKEN.has(name) ? `${camel(name)}_` : name;
}

function comment(of: Protobufjs.ReflectionObject, indent: string): string {
  if (!of.comment) return '';
  const lines = of.comment
    .replaceAll('*/', '* /')
    .split('\n')
    .map((line) => line.trimEnd());
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join('\n')}\n${indent} */\n`;
}

function quoted(text: string): string {
  const json = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'");
  return `'${json.replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029')}'`;
}
