/**
 * Errors that handlers throw by name, with data, and that callers catch as the same class.
 *
 *   const TooBroad = errorType<{ limit: number }>({ status: 400, detail: 'the query is too broad' });
 *   // in a contract: errors: { TooBroad }; at the server:
 *   throw new Users.UserSrv.Search.errors.TooBroad({ limit: 100 });
 *   // at the client: error instanceof Users.UserSrv.Search.errors.TooBroad, error.data.limit
 *
 * Invariant: an error of a contract is known by its method and name, not by identity of classes, so
 * that two processes, or two copies of a package, agree.
 */

import type { StandardSchema } from '../codec/standard-schema.ts';
import { type ErrorCode, RivuletError, type RivuletErrorOptions } from '../errors.ts';
import { codeOfStatus, statusText } from '../transport/micro-error.ts';

export { statusText };

/** go-micro's error: what every failed call is at the caller. */
export class ServiceError<Name extends string = string, Data = unknown> extends RivuletError {
  /** The service or component that failed, `go.micro.client` for what failed before it was sent. */
  readonly id: string;
  /** go-micro's code, an HTTP status. */
  readonly status: number;
  readonly detail: string;
  /** Name of a typed error; null for the others. */
  readonly errorName: Name | null;
  readonly data: Data;

  constructor(fields: ServiceErrorFields<Name, Data>, options?: RivuletErrorOptions) {
    super(fields.code, fields.detail, options);
    this.name = fields.errorName ?? 'ServiceError';
    this.id = fields.id;
    this.status = fields.status;
    this.detail = fields.detail;
    this.errorName = fields.errorName ?? null;
    this.data = fields.data as Data;
  }

  /** go-micro's JSON form. */
  toJSON(): { id: string; code: number; detail: string; status: string } {
    return {
      id: this.id,
      code: this.status,
      detail: this.detail,
      status: statusText(this.status),
    };
  }
}

export interface ServiceErrorFields<Name extends string = string, Data = unknown> {
  readonly code: ErrorCode;
  readonly id: string;
  readonly status: number;
  readonly detail: string;
  readonly errorName?: Name | undefined;
  readonly data?: Data | undefined;
}

export interface ErrorTypeOptions {
  /** HTTP status, which is go-micro's code. Default 400. */
  readonly status?: number;
  readonly detail?: string;
}

/** A typed error before it has a name: the key under which a contract lists it is its name. */
export interface ErrorType<Data> extends ErrorTypeOptions {
  readonly schema: StandardSchema<unknown, Data> | null;
  /** For inference only; never there at run time. */
  readonly '~data'?: Data;
}

export function errorType<Data = undefined>(options: ErrorTypeOptions = {}): ErrorType<Data> {
  return { ...options, schema: null };
}

/** The class of a typed error: made once per method and name. */
export type ErrorClass<Name extends string, Data> = {
  new (
    ...args: undefined extends Data ? [data?: Data, detail?: string] : [data: Data, detail?: string]
  ): ServiceError<Name, Data>;
  readonly type: ErrorType<Data>;
};

export function makeErrorClass<Name extends string, Data>(
  errorName: Name,
  type: ErrorType<Data>,
): ErrorClass<Name, Data> {
  const status = type.status ?? 400;
  const made = class extends ServiceError<Name, Data> {
    static readonly type = type;

    constructor(
      data?: Data,
      detail: string = type.detail ?? errorName,
      options?: RivuletErrorOptions,
    ) {
      // A handler threw it, so the call has run, whatever its status says.
      super(
        { code: codeOfStatus(status), id: '', status, detail, errorName, data },
        { sent: 'maybe', ...options },
      );
    }
  };
  Object.defineProperty(made, 'name', { value: errorName });
  return made as unknown as ErrorClass<Name, Data>;
}
