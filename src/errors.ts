/**
 * Every error that Rivulet gives to a program: one closed table of codes.
 *
 * A code is API and never changes within a major version; a message is for people and may. RPC
 * status (gRPC's numbers) and HTTP status of a code are in the same row, so that RPC and HTTP agree.
 * `cause` keeps the error beneath.
 */
interface ErrorRow {
  readonly http: number;
  /** gRPC status number. */
  readonly rpc: number;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;
  /** go-micro's code where it is not the HTTP status. */
  readonly micro?: number;
  /** True where the code proves that no handler ran. */
  readonly notSent?: true;
}

export const errorTable = {
  INVALID_ARGUMENT: { http: 400, rpc: 3, retryable: false },
  TOPIC_ILLEGAL: { http: 400, rpc: 3, retryable: false },
  VALIDATION_FAILED: { http: 422, rpc: 3, retryable: false },
  BODY_TOO_LARGE: { http: 413, rpc: 8, retryable: false },
  UNKNOWN_SCHEME: { http: 400, rpc: 3, retryable: false },
  ADAPTER_MISSING: { http: 501, rpc: 12, retryable: false },
  UNSUPPORTED: { http: 501, rpc: 12, retryable: false },
  SERVER_TOO_OLD: { http: 501, rpc: 12, retryable: false },
  AUTHENTICATION_FAILED: { http: 401, rpc: 16, retryable: false },
  PERMISSION_DENIED: { http: 403, rpc: 7, retryable: false },
  NOT_FOUND: { http: 404, rpc: 5, retryable: false },
  ALREADY_EXISTS: { http: 409, rpc: 6, retryable: false },
  ALREADY_SETTLED: { http: 409, rpc: 9, retryable: false },
  DELIVERY_LOST: { http: 409, rpc: 10, retryable: false },
  GROUP_LOST: { http: 503, rpc: 14, retryable: true },
  NO_RESPONDERS: { http: 503, rpc: 14, retryable: true, notSent: true },
  RESPONDER_LOST: { http: 502, rpc: 14, retryable: true },
  RESPONDER_FAILED: { http: 500, rpc: 2, retryable: false },
  HANDLER_FAILED: { http: 500, rpc: 2, retryable: true },
  TIMEOUT: { http: 504, rpc: 4, retryable: true, micro: 408 },
  ABORTED: { http: 499, rpc: 1, retryable: false },
  LIMIT_EXCEEDED: { http: 429, rpc: 8, retryable: true, notSent: true },
  NOT_CONNECTED: { http: 503, rpc: 14, retryable: true },
  CONNECTION_FAILED: { http: 503, rpc: 14, retryable: true, notSent: true },
  CLOSED: { http: 503, rpc: 9, retryable: false },
  WRITES_REFUSED: { http: 507, rpc: 8, retryable: true },
  STORAGE_DAMAGED: { http: 500, rpc: 15, retryable: false },
  SERVICE_NOT_FOUND: {
    http: 503,
    rpc: 14,
    retryable: true,
    micro: 500,
    notSent: true,
  },
  METHOD_NOT_FOUND: {
    http: 501,
    rpc: 12,
    retryable: false,
    micro: 404,
    notSent: true,
  },
  UNAVAILABLE: { http: 503, rpc: 14, retryable: true },
  FAILED_PRECONDITION: { http: 412, rpc: 9, retryable: false },
  CONFLICT: { http: 409, rpc: 10, retryable: false },
  CIRCUIT_OPEN: { http: 503, rpc: 14, retryable: true, notSent: true },
  REGISTRY_UNAVAILABLE: {
    http: 503,
    rpc: 14,
    retryable: true,
    micro: 500,
    notSent: true,
  },
  DECODING_FAILED: { http: 400, rpc: 3, retryable: false },
  PROTOCOL: { http: 500, rpc: 13, retryable: false },
  /** A step marked `interrupted: 'throw'` was running when its worker ended. */
  STEP_INTERRUPTED: { http: 409, rpc: 10, retryable: false },
  /** The instance of a workflow has ended; it takes no signal. */
  ENDED: { http: 409, rpc: 9, retryable: false },
  INTERNAL: { http: 500, rpc: 13, retryable: false },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

// A registered symbol, so that two copies of this package in one process know each other's errors.
const BRAND = Symbol.for('rivulet.error');

export interface RivuletErrorOptions extends ErrorOptions {
  /** `no` where the request provably never left this process or was refused before any handler. */
  readonly sent?: 'no' | 'maybe';
}

export class RivuletError extends Error {
  readonly code: ErrorCode;
  /**
   * Whether a failed request can have run: `no` proves that it did not, so a retry is always safe;
   * `maybe` says that nothing is known, so only an idempotent request may be retried.
   */
  readonly sent: 'no' | 'maybe';

  constructor(code: ErrorCode, message: string, options?: RivuletErrorOptions) {
    super(message, options);
    this.name = 'RivuletError';
    this.code = code;
    const row: ErrorRow = errorTable[code];
    this.sent = options?.sent ?? (row.notSent === true ? 'no' : 'maybe');
    Object.defineProperty(this, BRAND, { value: true });
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }

  get httpStatus(): number {
    return errorTable[this.code].http;
  }

  /** go-micro's code: the HTTP status but for the codes to which go-micro gives another. */
  get microCode(): number {
    const row: ErrorRow = errorTable[this.code];
    return row.micro ?? row.http;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // A subclass is known by its prototype: the brand says only that it is one of our errors.
    // biome-ignore lint/complexity/noThisInStatic: subclasses inherit this method
    if (this !== RivuletError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && BRAND in value;
  }
}

/** The same error, of a request that has reached no handler. */
export function notSent(error: unknown): unknown {
  if (!(error instanceof RivuletError) || error.sent === 'no') return error;
  return new RivuletError(error.code, error.message, { cause: error.cause ?? error, sent: 'no' });
}
