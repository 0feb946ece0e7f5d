/** Facts of the server: its state, its clients, its slow commands. */

export interface ServerFacts {
  readonly at: number;
  /** Sections of facts as name and value, as INFO has them. */
  readonly sections: readonly {
    readonly title: string;
    readonly facts: readonly (readonly [name: string, value: string])[];
  }[];
  readonly loopDelayMs: { readonly p50: number; readonly p99: number } | null;
  readonly syncMs: { readonly p50: number; readonly p99: number } | null;
  readonly config: readonly (readonly [name: string, value: string])[];
}

export interface ClientRow {
  readonly id: string;
  readonly address: string;
  readonly name: string;
  readonly user: string;
  readonly ageMs: number;
  readonly idleMs: number;
  readonly command: string;
}

export interface SlowRow {
  readonly id: string;
  readonly at: number;
  readonly micros: number;
  readonly command: string;
  readonly client: string;
}
