/**
 * Protobuf's JSON mapping, and its well-known types.
 *
 * Invariants: reading takes the camel and the proto name of a field, `null` as absent, whole numbers
 * as number or text, and skips names that it does not know, so that an older program reads a newer
 * one; writing leaves out what is absent and, as jsonpb, zeros without presence. Timestamp, Duration,
 * FieldMask, Struct, Value, the wrappers and Any have the forms that protobuf's specification gives
 * them. Cost: one visit per field.
 */
import { Misfit, rethrow, shown } from './proto-misfit.ts';
import { camel, type Field, type Shape, shapeOf } from './proto-shape.ts';
import {
  decodeMessage,
  encodeMessage,
  listOf,
  MAX_DEPTH,
  mapEntries,
  read,
  setOwn,
  type Values,
  zeroOf,
} from './proto-wire.ts';

type Names = 'proto' | 'camel';

/** Of a checked value, such as copyMessage gives. Throws Misfit for what JSON has no form for. */
export function messageToJson(shape: Shape, value: Values, names: Names): unknown {
  const known = WELL_KNOWN.get(shape.name);
  if (known !== undefined) return known.toJson(value, names, shape);
  const json: Values = {};
  for (const field of shape.fields) {
    const given = read(value, field);
    if (given === undefined) continue;
    const name = names === 'proto' ? field.protoName : field.jsonName;
    try {
      if (field.mapKey !== null) {
        const entries: Values = {};
        const all = mapEntries(given, field);
        for (const [key, each] of all) {
          setOwn(entries, String(key), oneToJson(field, each, names));
        }
        if (all.length > 0) setOwn(json, name, entries);
      } else if (field.isRepeated) {
        const list = listOf(given).map((each) => oneToJson(field, each, names));
        if (list.length > 0) setOwn(json, name, list);
      } else if (field.hasPresence || !isZero(field, given)) {
        setOwn(json, name, oneToJson(field, given, names));
      }
    } catch (error) {
      rethrow(error, `.${field.name}`);
    }
  }
  return json;
}

/** Throws Misfit. */
export function messageFromJson(shape: Shape, json: unknown, depth = 0): Values {
  if (depth >= MAX_DEPTH) throw new Misfit(`the value is more than ${MAX_DEPTH} levels deep`);
  const known = WELL_KNOWN.get(shape.name);
  if (known !== undefined) return known.fromJson(json, shape, depth);
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new Misfit(`${shown(json)} is no ${shape.name}: it must be an object`);
  }
  const source = json as Values;
  const made: Values = {};
  for (const field of shape.fields) {
    try {
      const given = read(source, field);
      if (field.mapKey !== null) {
        const entries: Values = {};
        for (const [key, each] of mapEntries(given, field)) {
          setOwn(entries, String(key), oneFromJson(field, each, depth));
        }
        setOwn(made, field.name, entries);
      } else if (field.isRepeated) {
        const list = listOf(given).map((each, at) => {
          try {
            return oneFromJson(field, each, depth);
          } catch (error) {
            return rethrow(error, `[${at}]`);
          }
        });
        setOwn(made, field.name, list);
      } else if (given !== undefined || isNullValue(field, source)) {
        checkRivals(field, source, shape);
        setOwn(made, field.name, oneFromJson(field, given ?? null, depth));
      } else if (field.isRequired) throw new Misfit('the field is required');
      else if (!field.hasPresence) setOwn(made, field.name, zeroOf(field));
    } catch (error) {
      rethrow(error, `.${field.name}`);
    }
  }
  return made;
}

function isZero(field: Field, value: unknown): boolean {
  return value instanceof Uint8Array ? value.length === 0 : Object.is(value, field.zero);
}

/** A field of type Value that is null is the null value, not absent. */
function isNullValue(field: Field, source: Values): boolean {
  return (
    field.shape?.().name === 'google.protobuf.Value' &&
    (source[field.name] === null || source[field.protoName] === null)
  );
}

function checkRivals(field: Field, source: Values, shape: Shape): void {
  for (const rival of field.rivals) {
    const other = shape.byName.get(rival);
    if (other !== undefined && read(source, other) !== undefined) {
      throw new Misfit(`${rival} is set too, of the oneof ${field.oneof}`);
    }
  }
}

function oneToJson(field: Field, value: unknown, names: Names): unknown {
  return field.shape === null
    ? field.scalar!.toJson(value as never)
    : messageToJson(field.shape(), value as Values, names);
}

function oneFromJson(field: Field, json: unknown, depth: number): unknown {
  return field.shape === null
    ? field.scalar!.fromJson(json)
    : messageFromJson(field.shape(), json, depth + 1);
}

// ---- Well-known types ----

interface WellKnown {
  toJson(value: Values, names: Names, shape: Shape): unknown;
  fromJson(json: unknown, shape: Shape, depth: number): Values;
}

const NANOS = 1_000_000_000;
const MIN_SECONDS = -62_135_596_800n;
const MAX_SECONDS = 253_402_300_799n;
const MAX_DURATION = 315_576_000_000n;

/** `.5`, `.500001`: none, three, six or nine digits, as protobuf writes them. */
function fraction(nanos: number): string {
  if (nanos === 0) return '';
  const digits = String(nanos).padStart(9, '0');
  if (digits.endsWith('000000')) return `.${digits.slice(0, 3)}`;
  return digits.endsWith('000') ? `.${digits.slice(0, 6)}` : `.${digits}`;
}

const nanosOf = (digits = ''): number => Number(digits.padEnd(9, '0'));

const timestamp: WellKnown = {
  toJson({ seconds = 0n, nanos = 0 }) {
    const at = seconds as bigint;
    if (
      at < MIN_SECONDS ||
      at > MAX_SECONDS ||
      (nanos as number) < 0 ||
      (nanos as number) >= NANOS
    ) {
      throw new Misfit(`a Timestamp of ${at} s and ${nanos} ns is outside of the years 1 to 9999`);
    }
    const text = new Date(Number(at) * 1000).toISOString().slice(0, 19);
    return `${text}${fraction(nanos as number)}Z`;
  },
  fromJson(json) {
    const form =
      /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(String(json)) ??
      [];
    const ms = Date.parse(`${form[1]}${form[3]}`);
    const seconds = Number.isNaN(ms) ? null : BigInt(ms / 1000);
    if (
      typeof json !== 'string' ||
      seconds === null ||
      seconds < MIN_SECONDS ||
      seconds > MAX_SECONDS
    ) {
      throw new Misfit(`${shown(json)} is no Timestamp: write it as 2006-01-02T15:04:05Z`);
    }
    return { seconds, nanos: nanosOf(form[2]) };
  },
};

const duration: WellKnown = {
  toJson({ seconds = 0n, nanos = 0 }) {
    const [whole, part] = [seconds as bigint, nanos as number];
    const mixed = (whole > 0n && part < 0) || (whole < 0n && part > 0);
    if (whole > MAX_DURATION || whole < -MAX_DURATION || Math.abs(part) >= NANOS || mixed) {
      throw new Misfit(`a Duration of ${whole} s and ${part} ns is out of range`);
    }
    const sign = whole < 0n || part < 0 ? '-' : '';
    return `${sign}${whole < 0n ? -whole : whole}${fraction(Math.abs(part))}s`;
  },
  fromJson(json) {
    const form = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(String(json));
    if (typeof json !== 'string' || form === null || BigInt(form[2]!) > MAX_DURATION) {
      throw new Misfit(`${shown(json)} is no Duration: write it as 1.5s`);
    }
    const whole = BigInt(form[2]!);
    const part = nanosOf(form[3]);
    return form[1] === '-'
      ? { seconds: -whole, nanos: part === 0 ? 0 : -part }
      : { seconds: whole, nanos: part };
  },
};

const fieldMask: WellKnown = {
  toJson: ({ paths }) =>
    (paths as string[]).map((path) => path.split('.').map(camel).join('.')).join(','),
  fromJson(json) {
    if (typeof json !== 'string')
      throw new Misfit(`${shown(json)} is no FieldMask: write it as a,b.c`);
    const snake = json.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return { paths: snake === '' ? [] : snake.split(',') };
  },
};

/** A bare value in JSON. */
const wrapper: WellKnown = {
  toJson: (value, _names, { fields: [field] }) =>
    field!.scalar!.toJson((read(value, field!) ?? zeroOf(field!)) as never),
  fromJson: (json, { fields: [field] }) => ({ value: field!.scalar!.fromJson(json) }),
};

const value: WellKnown = {
  toJson(given, names, shape) {
    for (const field of shape.fields) {
      const each = read(given, field);
      if (each === undefined) continue;
      if (field.name === 'numberValue' && !Number.isFinite(each as number)) {
        throw new Misfit('a Value in JSON must be a finite number');
      }
      return oneToJson(field, each, names);
    }
    throw new Misfit('a Value needs one of its kinds');
  },
  fromJson(json, shape, depth) {
    if (json === null || json === undefined) return { nullValue: 'NULL_VALUE' };
    if (typeof json === 'boolean') return { boolValue: json };
    if (typeof json === 'number') return { numberValue: json };
    if (typeof json === 'string') return { stringValue: json };
    const name = Array.isArray(json) ? 'listValue' : 'structValue';
    return { [name]: oneFromJson(shape.byName.get(name)!, json, depth) };
  },
};

const struct: WellKnown = {
  toJson(given, names, { fields: [field] }) {
    const json: Values = {};
    for (const [key, each] of mapEntries(read(given, field!), field!)) {
      setOwn(json, String(key), oneToJson(field!, each, names));
    }
    return json;
  },
  fromJson(json, { fields: [field] }, depth) {
    const fields: Values = {};
    for (const [key, each] of mapEntries(json, field!)) {
      setOwn(fields, String(key), oneFromJson(field!, each, depth));
    }
    return { fields };
  },
};

const list: WellKnown = {
  toJson: (given, names, { fields: [field] }) =>
    listOf(read(given, field!)).map((each) => oneToJson(field!, each, names)),
  fromJson: (json, { fields: [field] }, depth) => ({
    values: listOf(json).map((each) => oneFromJson(field!, each, depth)),
  }),
};

const any: WellKnown = {
  toJson(given, names, shape) {
    const url = String(given.typeUrl ?? '');
    if (url === '') return {};
    const inner = typeIn(shape, url);
    const message = decodeMessage(inner, (given.value as Uint8Array) ?? new Uint8Array(0));
    const json = messageToJson(inner, message, names);
    return WELL_KNOWN.has(inner.name)
      ? { '@type': url, value: json }
      : { '@type': url, ...(json as object) };
  },
  fromJson(json, shape, depth) {
    if (typeof json !== 'object' || json === null) throw new Misfit(`${shown(json)} is no Any`);
    const { '@type': url, ...rest } = json as Values;
    if (url === undefined && Object.keys(rest).length === 0) {
      return { typeUrl: '', value: new Uint8Array(0) };
    }
    if (typeof url !== 'string') throw new Misfit('an Any needs "@type", the name of its type');
    const inner = typeIn(shape, url);
    const body = WELL_KNOWN.has(inner.name) ? rest.value : rest;
    const message = messageFromJson(inner, body, depth + 1);
    return { typeUrl: url, value: encodeMessage(inner, message) };
  },
};

function typeIn(shape: Shape, url: string): Shape {
  const name = url.slice(url.lastIndexOf('/') + 1);
  try {
    return shapeOf(shape.root.lookupType(name));
  } catch {
    throw new Misfit(`the type ${shown(name)} of an Any is in none of the .proto files`);
  }
}

const WELL_KNOWN: ReadonlyMap<string, WellKnown> = new Map([
  ['google.protobuf.Timestamp', timestamp],
  ['google.protobuf.Duration', duration],
  ['google.protobuf.FieldMask', fieldMask],
  ['google.protobuf.Value', value],
  ['google.protobuf.Struct', struct],
  ['google.protobuf.ListValue', list],
  ['google.protobuf.Any', any],
  ...['Double', 'Float', 'Int64', 'UInt64', 'Int32', 'UInt32', 'Bool', 'String', 'Bytes'].map(
    (name): [string, WellKnown] => [`google.protobuf.${name}Value`, wrapper],
  ),
]);
