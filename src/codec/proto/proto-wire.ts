/**
 * Protobuf's wire form: values to bytes and back, along the shape of their type.
 *
 * Invariants: fields are written in the order of their numbers, so equal values give equal bytes but
 * for the order of map keys; a zero without presence is not written; unknown fields are skipped; a
 * known field with another wire type is an error and not skipped; a message more than 100 levels deep
 * is refused both ways. Memory is bounded by the input: lengths are checked before they are used.
 * Cost: one visit per field.
 */
import { Misfit, rethrow, shown } from './proto-misfit.ts';
import type { Field, Shape } from './proto-shape.ts';
import { type Protobufjs, protobufjs } from './protobufjs.ts';

/** protoc's own limit. */
export const MAX_DEPTH = 100;

export type Values = Record<string, unknown>;

/** Throws Misfit. */
export function encodeMessage(shape: Shape, value: unknown): Uint8Array {
  const writer = protobufjs().Writer.create();
  writeMessage(writer, shape, value, 0);
  return writer.finish();
}

/** Throws Error for bytes that are no such message. */
export function decodeMessage(shape: Shape, bytes: Uint8Array): Values {
  return readMessage(protobufjs().Reader.create(bytes), shape, bytes.length, 0, undefined, 0);
}

/** The message as decoding its bytes would give it: checked, copied, with its zeros. Throws Misfit. */
export function copyMessage(shape: Shape, value: unknown, depth = 0): Values {
  const source = messageOf(shape, value, depth);
  const made: Values = {};
  for (const field of shape.fields) {
    try {
      const given = read(source, field);
      if (field.mapKey !== null) {
        const entries: Values = {};
        for (const [key, each] of mapEntries(given, field)) {
          setOwn(entries, String(key), copyOne(field, each, depth));
        }
        setOwn(made, field.name, entries);
      } else if (field.isRepeated) {
        setOwn(made, field.name, copyList(field, given, depth));
      } else if (given !== undefined) setOwn(made, field.name, copyOne(field, given, depth));
      else if (field.isRequired) throw new Misfit('the field is required');
      else if (!field.hasPresence) setOwn(made, field.name, zeroOf(field));
    } catch (error) {
      rethrow(error, `.${field.name}`);
    }
  }
  return made;
}

/** An own property, also for the one name that would change the prototype. */
export function setOwn(of: Values, name: string, value: unknown): void {
  if (name !== '__proto__') of[name] = value;
  else {
    const data = { value, writable: true, enumerable: true, configurable: true };
    Object.defineProperty(of, name, data);
  }
}

export function zeroOf(field: Field): unknown {
  return field.zero instanceof Uint8Array ? new Uint8Array(0) : field.zero;
}

/** Undefined where it is absent; null is absent too. */
export function read(source: Values, field: Field): unknown {
  const { name, protoName, jsonName } = field;
  let value = field.isInherited && !Object.hasOwn(source, name) ? undefined : source[name];
  if (value === undefined && protoName !== name && Object.hasOwn(source, protoName)) {
    value = source[protoName];
  }
  if (value === undefined && jsonName !== name && Object.hasOwn(source, jsonName)) {
    value = source[jsonName];
  }
  return value === null && field.scalar?.name !== 'google.protobuf.NullValue' ? undefined : value;
}

/** The keys and values of a map, keys checked and in their own type. */
export function mapEntries(given: unknown, field: Field): [unknown, unknown][] {
  if (given === undefined) return [];
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Misfit(`${shown(given)} is no map: it must be an object`);
  }
  const entries: [unknown, unknown][] =
    given instanceof Map ? [...given] : Object.entries(given as Values);
  return entries.map(([key, value]) => {
    const isBool = field.mapKey?.name === 'bool' && (key === 'true' || key === 'false');
    return [field.mapKey!.check(isBool ? key === 'true' : key), value];
  });
}

export function listOf(given: unknown): readonly unknown[] {
  if (given === undefined) return [];
  if (Array.isArray(given)) return given;
  if (ArrayBuffer.isView(given) && Symbol.iterator in given) {
    return [...(given as unknown as Iterable<unknown>)];
  }
  throw new Misfit(`${shown(given)} is no list`);
}

/** The value as a message of the type; what no field has the name of is refused. */
function messageOf(shape: Shape, value: unknown, depth: number): Values {
  if (depth >= MAX_DEPTH) throw new Misfit(`the value is more than ${MAX_DEPTH} levels deep`);
  // An absent value is the empty message.
  if (value === undefined || value === null) return {};
  if (value instanceof Date && shape.name === 'google.protobuf.Timestamp') {
    return timestampOf(value);
  }
  if (typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array) {
    throw new Misfit(`${shown(value)} is no ${shape.name}: it must be an object`);
  }
  const source = value as Values;
  const seen = new Map<string, string>();
  for (const key of Object.keys(source)) {
    const field = shape.byName.get(key);
    if (field === undefined) {
      if (source[key] === undefined) continue;
      const known = shape.fields.map(({ name }) => name).join(', ') || 'none';
      throw new Misfit(
        `${shape.name} has no field ${shown(key)}; its fields are ${known}`.slice(0, 500),
      );
    }
    if (field.oneof === null || source[key] === undefined || source[key] === null) continue;
    const other = seen.get(field.oneof);
    if (other !== undefined && other !== field.name) {
      throw new Misfit(`${other} and ${field.name} are both set, of the oneof ${field.oneof}`);
    }
    seen.set(field.oneof, field.name);
  }
  return source;
}

function timestampOf(date: Date): Values {
  const ms = date.getTime();
  if (Number.isNaN(ms)) throw new Misfit('the Date is invalid');
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 };
}

function copyOne(field: Field, value: unknown, depth: number): unknown {
  if (field.shape !== null) return copyMessage(field.shape(), value, depth + 1);
  const checked = field.scalar!.check(value);
  return checked instanceof Uint8Array ? Uint8Array.from(checked) : checked;
}

function copyList(field: Field, given: unknown, depth: number): unknown[] {
  return listOf(given).map((each, at) => {
    try {
      return copyOne(field, each, depth);
    } catch (error) {
      return rethrow(error, `[${at}]`);
    }
  });
}

// ---- Writing ----

function writeMessage(
  writer: Protobufjs.Writer,
  shape: Shape,
  value: unknown,
  depth: number,
): void {
  const source = messageOf(shape, value, depth);
  for (const field of shape.fields) {
    try {
      writeField(writer, field, read(source, field), depth);
    } catch (error) {
      rethrow(error, `.${field.name}`);
    }
  }
}

function writeField(writer: Protobufjs.Writer, field: Field, value: unknown, depth: number): void {
  if (field.mapKey !== null) {
    for (const [key, each] of mapEntries(value, field)) {
      writer.uint32((field.id << 3) | 2).fork();
      writer.uint32((1 << 3) | field.mapKey.wireType);
      field.mapKey.write(writer, key as never);
      try {
        writeOne(writer, field, 2, each, depth);
      } catch (error) {
        rethrow(error, `[${shown(String(key))}]`);
      }
      writer.ldelim();
    }
  } else if (field.isRepeated) writeList(writer, field, listOf(value), depth);
  else if (value === undefined) {
    if (field.isRequired) throw new Misfit('the field is required');
  } else if (field.scalar === null || field.hasPresence) {
    writeOne(writer, field, field.id, value, depth);
  } else {
    const checked = field.scalar.check(value);
    const isZero =
      checked instanceof Uint8Array ? checked.length === 0 : Object.is(checked, field.zero);
    if (isZero) return;
    writer.uint32(((field.id << 3) | field.scalar.wireType) >>> 0);
    field.scalar.write(writer, checked as never);
  }
}

function writeList(
  writer: Protobufjs.Writer,
  field: Field,
  list: readonly unknown[],
  depth: number,
): void {
  if (list.length === 0) return;
  if (field.isPacked) writer.uint32(((field.id << 3) | 2) >>> 0).fork();
  for (let at = 0; at < list.length; at++) {
    try {
      if (field.isPacked) field.scalar!.write(writer, field.scalar!.check(list[at]) as never);
      else writeOne(writer, field, field.id, list[at], depth);
    } catch (error) {
      rethrow(error, `[${at}]`);
    }
  }
  if (field.isPacked) writer.ldelim();
}

function writeOne(
  writer: Protobufjs.Writer,
  field: Field,
  id: number,
  value: unknown,
  depth: number,
): void {
  if (field.scalar !== null) {
    writer.uint32(((id << 3) | field.scalar.wireType) >>> 0);
    field.scalar.write(writer, field.scalar.check(value) as never);
  } else if (field.isGroup) {
    writer.uint32(((id << 3) | 3) >>> 0);
    writeMessage(writer, field.shape!(), value, depth + 1);
    writer.uint32(((id << 3) | 4) >>> 0);
  } else {
    writer.uint32(((id << 3) | 2) >>> 0).fork();
    writeMessage(writer, field.shape!(), value, depth + 1);
    writer.ldelim();
  }
}

// ---- Reading ----

const GROUP = 3;
const GROUP_END = 4;

/** Reads to `end`, or to the end tag of the group `group`. `into`: a message that came in two parts. */
function readMessage(
  reader: Protobufjs.Reader,
  shape: Shape,
  end: number,
  depth: number,
  into: Values | undefined,
  group: number,
): Values {
  if (depth >= MAX_DEPTH) throw new Error(`the message is more than ${MAX_DEPTH} levels deep`);
  const made = into ?? emptyOf(shape);
  let isEnded = false;
  while (reader.pos < end) {
    const tag = reader.tag();
    const id = tag >>> 3;
    const wireType = tag & 7;
    if (wireType === GROUP_END && group !== 0 && id === group) {
      isEnded = true;
      break;
    }
    const field = shape.byId.get(id);
    if (field === undefined) reader.skipType(wireType, depth, id);
    else {
      try {
        readField(reader, field, wireType, made, end, depth);
      } catch (error) {
        if (error instanceof FieldError) throw error;
        throw new FieldError(`${shape.name}.${field.protoName}: ${(error as Error).message}`);
      }
    }
    if (reader.pos > end) throw new Error(`${shape.name} ends beyond its length`);
  }
  if (group !== 0 && !isEnded) throw new Error('a group has no end');
  return made;
}

/** Names the innermost field; the levels above would only repeat it. */
class FieldError extends Error {}

function emptyOf(shape: Shape): Values {
  const made: Values = {};
  for (const field of shape.fields) {
    if (field.mapKey !== null) setOwn(made, field.name, {});
    else if (field.isRepeated) setOwn(made, field.name, []);
    else if (!field.hasPresence) setOwn(made, field.name, zeroOf(field));
  }
  return made;
}

function readField(
  reader: Protobufjs.Reader,
  field: Field,
  wireType: number,
  made: Values,
  end: number,
  depth: number,
): void {
  if (field.mapKey !== null) {
    expectWire(field, wireType, 2);
    readEntry(reader, field, made[field.name] as Values, lengthWithin(reader, end), depth);
    return;
  }
  if (!field.isRepeated) {
    for (const rival of field.rivals) delete made[rival];
    // A message that comes twice is merged, a scalar replaced.
    const before =
      field.shape !== null && Object.hasOwn(made, field.name) ? made[field.name] : undefined;
    setOwn(made, field.name, readOne(reader, field, wireType, end, depth, before as Values));
    return;
  }
  const list = made[field.name] as unknown[];
  const { scalar } = field;
  if (scalar !== null && scalar.wireType !== 2 && wireType === 2) {
    // Both forms are read, whichever the .proto asks for.
    const stop = lengthWithin(reader, end);
    while (reader.pos < stop) list.push(scalar.read(reader));
    if (reader.pos !== stop) throw new Error('a packed list ends within a value');
  } else list.push(readOne(reader, field, wireType, end, depth, undefined));
}

function readOne(
  reader: Protobufjs.Reader,
  field: Field,
  wireType: number,
  end: number,
  depth: number,
  before: Values | undefined,
): unknown {
  if (field.scalar !== null) {
    expectWire(field, wireType, field.scalar.wireType);
    return field.scalar.read(reader);
  }
  const shape = field.shape!();
  if (wireType === GROUP && field.isGroup) {
    return readMessage(reader, shape, end, depth + 1, before, field.id);
  }
  expectWire(field, wireType, field.isGroup ? GROUP : 2);
  return readMessage(reader, shape, lengthWithin(reader, end), depth + 1, before, 0);
}

/** One key and value of a map: a message with the fields 1 and 2. */
function readEntry(
  reader: Protobufjs.Reader,
  field: Field,
  into: Values,
  end: number,
  depth: number,
): void {
  const keyScalar = field.mapKey!;
  let key: unknown = keyScalar.zero;
  let value: unknown;
  while (reader.pos < end) {
    const tag = reader.tag();
    if (tag >>> 3 === 1) {
      expectWire(field, tag & 7, keyScalar.wireType);
      key = keyScalar.read(reader);
    } else if (tag >>> 3 === 2) {
      value = readOne(reader, field, tag & 7, end, depth, value as Values | undefined);
    } else reader.skipType(tag & 7, depth, tag >>> 3);
    if (reader.pos > end) throw new Error('an entry ends beyond its length');
  }
  value ??= field.shape === null ? zeroOf(field) : emptyOf(field.shape());
  setOwn(into, String(key), value);
}

function lengthWithin(reader: Protobufjs.Reader, end: number): number {
  const length = reader.uint32();
  const stop = reader.pos + length;
  if (stop > end) throw new Error(`${length} bytes are announced and ${end - reader.pos} are left`);
  return stop;
}

function expectWire(field: Field, wireType: number, expected: number): void {
  if (wireType === expected) return;
  throw new Error(`wire type ${wireType} where ${field.typeName} has ${expected}`);
}
