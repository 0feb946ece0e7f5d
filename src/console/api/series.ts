/** Numbers over time, as charts show them. */

/** Numbers over time. `values[name][i]` is of `from + i * stepMs`; null = not measured. */
export interface Series {
  readonly from: number;
  readonly stepMs: number;
  readonly values: Readonly<Record<string, readonly (number | null)[]>>;
}
