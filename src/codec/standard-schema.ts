/**
 * Standard Schema: the one interface that zod, valibot, arktype and others implement.
 *
 * Holds: the part of its version 1 that we use, and one function that validates. Invariant: a value
 * that does not fit is VALIDATION_FAILED with the path of each issue. Cost: the schema's own; a
 * schema that answers without a promise costs no turn of the microtask queue.
 */
import { RivuletError } from '../errors.ts';

export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Validated<Output> | Promise<Validated<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

type Validated<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly Issue[] };

interface Issue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

export type InputOf<Schema> = Schema extends StandardSchema<infer Input, unknown> ? Input : never;
export type OutputOf<Schema> =
  Schema extends StandardSchema<infer _, infer Output> ? Output : never;

export function isStandardSchema(value: unknown): value is StandardSchema {
  // arktype's schemas are functions.
  return (
    value !== null &&
    (typeof value === 'object' || typeof value === 'function') &&
    '~standard' in value
  );
}

/** The value as the schema gives it back. `what` names the value in the error. */
export function validate<Output>(
  schema: StandardSchema<unknown, Output>,
  value: unknown,
  what: string,
): Output | Promise<Output> {
  const result = schema['~standard'].validate(value);
  return result instanceof Promise
    ? result.then((settled) => outputOf(settled, what))
    : outputOf(result, what);
}

function outputOf<Output>(result: Validated<Output>, what: string): Output {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.slice(0, 20).map(({ message, path = [] }) => {
    const where = path.map((step) => String(typeof step === 'object' ? step.key : step)).join('.');
    return where === '' ? message : `${where}: ${message}`;
  });
  throw new RivuletError('VALIDATION_FAILED', `${what} is invalid: ${issues.join('; ')}`);
}
