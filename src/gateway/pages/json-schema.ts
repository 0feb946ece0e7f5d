/**
 * What is known of a message's form, as JSON Schema: from a contract's schema, or from a registry record.
 *
 * Invariant: what is not known is an open schema, never a wrong one. Cost: only when a document is asked
 * for.
 */
import type { ServiceValue } from '../../registry/registry.ts';
import type { MessageForm } from '../../rpc/contract.ts';

export type JsonSchema = Readonly<Record<string, unknown>>;

/** Types of go-micro's records, which are Go's, protobuf's and JavaScript's. */
const SCALARS: Readonly<Record<string, JsonSchema>> = {
  string: { type: 'string' },
  bool: { type: 'boolean' },
  boolean: { type: 'boolean' },
  bytes: { type: 'string', contentEncoding: 'base64' },
  '[]uint8': { type: 'string', contentEncoding: 'base64' },
  number: { type: 'number' },
  double: { type: 'number' },
  float: { type: 'number' },
  float32: { type: 'number' },
  float64: { type: 'number' },
  int: { type: 'integer' },
  int32: { type: 'integer' },
  uint32: { type: 'integer', minimum: 0 },
  sint32: { type: 'integer' },
  fixed32: { type: 'integer', minimum: 0 },
  sfixed32: { type: 'integer' },
};
/** protobuf's JSON form of 64 bit numbers is text; both are read. */
const INT64 = /^(u?int64|sint64|s?fixed64)$/;
const MAX_DEPTH = 5;

/** A contract's schema is more exact than a registry record: it wins where there is one. */
export function schemaOf(form: MessageForm | null, value: ServiceValue | null): JsonSchema {
  return ofStandardSchema(form) ?? ofValue(value, 0);
}

/** Standard JSON Schema: what validators that support it (zod 4.2 and others) say of themselves. */
function ofStandardSchema(form: MessageForm | null): JsonSchema | null {
  const standard = form?.schema?.['~standard'] as
    | { readonly jsonSchema?: { input(options: { target: string }): unknown } }
    | undefined;
  try {
    const schema = standard?.jsonSchema?.input({ target: 'draft-2020-12' });
    if (typeof schema !== 'object' || schema === null) return null;
    const { $schema: _, ...rest } = schema as Record<string, unknown>;
    return rest;
  } catch {
    // A schema that has no such form, like a transformation.
    return null;
  }
}

function ofValue(value: ServiceValue | null, depth: number): JsonSchema {
  if (value === null || depth > MAX_DEPTH) return {};
  const { type, values } = value;
  const list = /^\[\](.+)$/.exec(type)?.[1];
  if (list !== undefined && SCALARS[type] === undefined) {
    return { type: 'array', items: ofValue({ ...value, type: list }, depth + 1) };
  }
  if (Object.hasOwn(SCALARS, type)) return SCALARS[type] as JsonSchema;
  if (INT64.test(type)) return { type: ['integer', 'string'], format: 'int64' };
  if (values.length === 0) return {};
  const properties = Object.fromEntries(
    values.map((field) => [field.name, ofValue(field, depth + 1)]),
  );
  return { type: 'object', properties };
}
