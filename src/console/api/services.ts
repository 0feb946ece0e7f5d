/** Services, and a call to one of them. */

export interface ServiceRow {
  readonly name: string;
  readonly versions: readonly string[];
  readonly nodes: number;
  readonly endpoints: number;
}

export interface ValueShape {
  readonly name: string;
  readonly type: string;
  readonly values: readonly ValueShape[];
}

export interface ServiceDetail {
  readonly name: string;
  readonly versions: readonly {
    readonly version: string;
    readonly metadata: Readonly<Record<string, string>>;
    readonly endpoints: readonly {
      readonly name: string;
      readonly request: ValueShape | null;
      readonly response: ValueShape | null;
      readonly stream: boolean;
      readonly metadata: Readonly<Record<string, string>>;
    }[];
    readonly nodes: readonly {
      readonly id: string;
      readonly address: string;
      readonly metadata: Readonly<Record<string, string>>;
      readonly lastSeenAt: number | null;
    }[];
  }[];
}

export interface CallRequest {
  readonly service: string;
  readonly endpoint: string;
  /** JSON value. */
  readonly request: unknown;
  readonly metadata?: Readonly<Record<string, string>>;
  /** @default 5000 */
  readonly deadlineMs?: number;
  /** `host:port` of a node; default: the selector chooses. */
  readonly node?: string;
  /** Take replies of a stream, at most 100. */
  readonly stream?: boolean;
}

export interface CallReply {
  readonly ok: boolean;
  /** JSON values: one, or those of a stream. */
  readonly replies: readonly unknown[];
  readonly cut: boolean;
  readonly ms: number;
  readonly error: { readonly code: string; readonly message: string } | null;
}
