/** The error of every route. */

export interface ApiError {
  /** Of the one table of errors: `NOT_FOUND`, `PERMISSION_DENIED`, `AUTHENTICATION_FAILED`, ... */
  readonly code: string;
  readonly message: string;
  /** What to do about it; empty when there is nothing to add. */
  readonly hint: string;
}
