/**
 * The shape of a protobuf message: what encoding, decoding and JSON need to know, looked up once.
 *
 * Holds per field its names, its number and how one value of it is written. Invariants: the name in
 * values is the camel form of the name in the .proto, the same that JSON uses unless `json_name` says
 * otherwise; the shape of a type is made once, and refers to the shapes of its fields by function, so
 * a recursive type ends. Cost: one walk over the fields of a type at its first use.
 */
import { Misfit, shown } from './proto-misfit.ts';
import { SCALARS, type Scalar } from './proto-scalars.ts';
import { type Protobufjs, protobufjs } from './protobufjs.ts';

export interface Field {
  /** In values: camel. */
  readonly name: string;
  /** As the .proto writes it. */
  readonly protoName: string;
  readonly jsonName: string;
  readonly id: number;
  /** Null for a message. An enum counts as a scalar. */
  readonly scalar: Scalar | null;
  /** Null for a scalar. */
  readonly shape: (() => Shape) | null;
  readonly isRepeated: boolean;
  /** Written as one run of values. */
  readonly isPacked: boolean;
  /** The scalar of the keys of a map, null for other fields. */
  readonly mapKey: Scalar | null;
  /** Absent is different from zero. */
  readonly hasPresence: boolean;
  readonly isRequired: boolean;
  /** A message that is framed by group tags. */
  readonly isGroup: boolean;
  /** Its fellows of a oneof, itself not included. */
  readonly rivals: readonly string[];
  readonly oneof: string | null;
  readonly zero: unknown;
  /** As a registry record and an error name it. */
  readonly typeName: string;
  /** A name that every object inherits: read from values only where it is their own. */
  readonly isInherited: boolean;
}

export interface Shape {
  /** Without the leading dot. */
  readonly name: string;
  readonly fields: readonly Field[];
  readonly byId: ReadonlyMap<number, Field>;
  /** By every name that a value or JSON may use. */
  readonly byName: ReadonlyMap<string, Field>;
  /** For Any. */
  readonly root: Protobufjs.Root;
}

const shapes = new WeakMap<Protobufjs.Type, Shape>();

export function shapeOf(type: Protobufjs.Type): Shape {
  let shape = shapes.get(type);
  if (shape === undefined) {
    shape = makeShape(type);
    shapes.set(type, shape);
  }
  return shape;
}

/** `user_name` is `userName`, as protoc makes JSON names. */
export function camel(name: string): string {
  return name.replace(/_+(.?)/g, (_, letter: string) => letter.toUpperCase());
}

export function fullName(of: { readonly fullName: string }): string {
  return of.fullName.replace(/^\./, '');
}

function makeShape(type: Protobufjs.Type): Shape {
  const byId = new Map<number, Field>();
  const byName = new Map<string, Field>();
  const taken = new Set<string>();
  for (const each of type.fieldsArray) {
    const field = makeField(each.resolve(), taken);
    taken.add(field.name);
    byId.set(field.id, field);
    for (const name of [field.name, field.jsonName, field.protoName]) {
      if (!byName.has(name)) byName.set(name, field);
    }
  }
  const fields = [...byId.values()].sort((a, b) => a.id - b.id);
  return { name: fullName(type), fields, byId, byName, root: type.root };
}

/** The name of a field in values. */
export function valueName(field: Protobufjs.Field, taken: ReadonlySet<string>): string {
  const protoName = field.protoName ?? field.name;
  const name = camel(protoName);
  return name === '' || taken.has(name) ? protoName : name;
}

function makeField(field: Protobufjs.Field, taken: ReadonlySet<string>): Field {
  const { Type, Enum, MapField } = protobufjs();
  const protoName = field.protoName ?? field.name;
  const name = valueName(field, taken);
  const { resolvedType } = field;
  const scalar =
    resolvedType instanceof Enum ? enumScalar(resolvedType) : (SCALARS.get(field.type) ?? null);
  const oneof = field.partOf !== null && !field.partOf?.isProto3Optional ? field.partOf : null;
  const option = field.options?.json_name;
  const mapKey = field instanceof MapField ? (SCALARS.get(field.keyType) ?? null) : null;
  const isMessage = resolvedType instanceof Type;
  return {
    name,
    protoName,
    jsonName: typeof option === 'string' ? option : camel(protoName),
    id: field.id,
    scalar,
    shape: isMessage ? () => shapeOf(resolvedType) : null,
    isRepeated: field.repeated,
    isPacked: field.repeated && field.packed && scalar !== null && scalar.wireType !== 2,
    mapKey,
    hasPresence: mapKey === null && !field.repeated && (isMessage || Boolean(field.hasPresence)),
    isRequired: field.required,
    isGroup: isMessage && field.delimited,
    rivals: oneof
      ? oneof.fieldsArray
          .filter((other) => other !== field)
          .map((other) => valueName(other, new Set()))
      : [],
    oneof: oneof?.name ?? null,
    zero: scalar?.zero,
    typeName: resolvedType === null ? field.type : resolvedType.name,
    isInherited: name in Object.prototype,
  };
}

const enumScalars = new WeakMap<Protobufjs.Enum, Scalar>();

/** An enum: its name in values and JSON, its number on the wire; an unknown number stays a number. */
function enumScalar(of: Protobufjs.Enum): Scalar {
  let scalar = enumScalars.get(of);
  if (scalar !== undefined) return scalar;
  const names = new Map<number, string>();
  const numbers = new Map<string, number>();
  for (const [name, number] of Object.entries(of.values)) {
    numbers.set(name, number);
    // With allow_alias the first name is the one that is written.
    if (!names.has(number)) names.set(number, name);
  }
  const int32 = SCALARS.get('int32')!;
  const typeName = fullName(of);
  const nullValue = typeName === 'google.protobuf.NullValue';
  const check = (value: unknown): unknown => {
    if (typeof value === 'string') {
      if (numbers.has(value)) return names.get(numbers.get(value)!);
      const known = [...numbers.keys()].slice(0, 20).join(', ');
      throw new Misfit(`${shown(value)} is no ${typeName}: its values are ${known}`);
    }
    if (nullValue && value === null) return names.get(0);
    if (typeof value !== 'number') {
      throw new Misfit(`${shown(value)} is no ${typeName}: give the name of a value`);
    }
    const number = int32.check(value) as number;
    return names.get(number) ?? number;
  };
  const first = [...numbers.values()][0] ?? 0;
  scalar = {
    name: typeName,
    wireType: 0,
    zero: names.get(0) ?? names.get(first) ?? 0,
    check,
    write: (writer, value: string | number) =>
      void writer.int32(typeof value === 'string' ? numbers.get(value)! : value),
    read: (reader) => {
      const number = reader.int32();
      return names.get(number) ?? number;
    },
    toJson: (value: unknown) => (nullValue ? null : value),
    fromJson: (json) => check(json),
  };
  enumScalars.set(of, scalar);
  return scalar;
}
