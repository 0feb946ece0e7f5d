/**
 * The shape of a configuration parameter, and functions that make the rows of the parameters' tables.
 */
export type Kind = 'yes-no' | 'integer' | 'memory' | 'enum' | 'text' | 'double' | 'special';

export interface Parameter {
  readonly name: string;
  readonly kind: Kind;
  /** As in a configuration file. */
  readonly default: string;
  /** Whether CONFIG SET may change it; `protected` = only where enable-protected-configs allows. */
  readonly mutable: boolean | 'protected';
  readonly min?: number;
  readonly max?: number;
  /** A value within the range but outside these bounds becomes the nearer bound, as in Redis. */
  readonly clamp?: readonly [number, number];
  readonly values?: readonly string[];
  /** Values of Redis that are known and refused: see `refuse`. */
  readonly refusedValues?: readonly string[];
  /** Redis's second name of the same parameter (`slave-...`). */
  readonly alias?: string;
  readonly inert?: boolean;
  /** One line for `micro server --help`; a parameter without it is listed by name only. */
  readonly help?: string;
  /** Bytes, or `5%`: a share of maxmemory. */
  readonly percent?: boolean;
  /** Why a value that Redis accepts is refused here; null = it is accepted. */
  readonly refuse?: (value: string) => string | null;
}

export type Extra = Partial<Omit<Parameter, 'name' | 'kind' | 'default'>>;

export function row(name: string, kind: Kind, value: string, extra: Extra = {}): Parameter {
  return { name, kind, default: value, mutable: true, ...extra };
}

export const yesNo = (name: string, value: 'yes' | 'no', extra?: Extra) =>
  row(name, 'yes-no', value, extra);
export const text = (name: string, value = '', extra?: Extra) => row(name, 'text', value, extra);
export const choice = (name: string, value: string, values: readonly string[], extra?: Extra) =>
  row(name, 'enum', value, { values, ...extra });
export const integer = (name: string, value: number, min: number, max: number, extra?: Extra) =>
  row(name, 'integer', String(value), { min, max, ...extra });
export const memory = (name: string, value: number, extra?: Extra) =>
  row(name, 'memory', String(value), { min: 0, ...extra });

export const INT = 2_147_483_647;
/** Redis's ULLONG_MAX. */
export const ULLONG = 2 ** 64;
export const UINT = 4_294_967_295;
/** Redis's LLONG_MAX, shown exactly by `rangeText`. */
export const LLONG = 2 ** 63;
export const FIXED = { mutable: false } as const;
export const INERT = { inert: true } as const;
export const INERT_FIXED = { inert: true, mutable: false } as const;
