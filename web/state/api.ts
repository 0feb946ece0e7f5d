/**
 * Requests to the console's API.
 *
 * Invariant: a request ends with its value or with an `ApiFailure` that says what happened and what to do,
 * also when the server does not answer at all. Nothing is retried here.
 */
import type { ApiError } from '../../src/console/api-types.ts';
import { BASE } from './router.ts';

export const API = `${BASE}/api/v1`;

/** A server that has not answered after this long counts as one that does not answer. */
const ANSWER_LIMIT_MS = 20_000;
/** What changes something may take as long as the server lets a request take. */
const CHANGE_LIMIT_MS = 35_000;

export class ApiFailure extends Error {
  override readonly name = 'ApiFailure';
  readonly code: string;
  readonly hint: string;
  /** HTTP status; 0 = no answer. */
  readonly status: number;

  constructor(status: number, { code, message, hint }: ApiError) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.status = status;
  }

  /** The server was not reached, or stops or starts at this moment: later it may work. */
  get isOutage(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return send<T>('GET', path, undefined, signal);
}

export function post<T>(path: string, body: unknown): Promise<T> {
  return send<T>('POST', path, body);
}

export function remove(path: string): Promise<void> {
  return send<void>('DELETE', path);
}

async function send<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
  const limit = AbortSignal.timeout(method === 'GET' ? ANSWER_LIMIT_MS : CHANGE_LIMIT_MS);
  let response: Response;
  let text: string;
  try {
    response = await fetch(API + path, {
      method,
      // A write without a body has it too: no form of another page can send it.
      headers: method === 'GET' ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
      cache: 'no-store',
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiFailure(0, {
      code: 'CONNECTION_FAILED',
      message: 'The server does not answer.',
      hint:
        method === 'GET'
          ? 'Is it running? This page tries again by itself.'
          : 'It may have been done all the same: look at the audit before you try again.',
    });
  }
  if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T;
  throw new ApiFailure(response.status, errorOf(response, text));
}

function errorOf(response: Response, text: string): ApiError {
  try {
    const error = JSON.parse(text) as Partial<ApiError>;
    if (typeof error.message === 'string') {
      return { code: error.code ?? '', message: error.message, hint: error.hint ?? '' };
    }
  } catch {
    // Something between the browser and the server answered, and not in JSON.
  }
  return {
    code: `HTTP_${response.status}`,
    message: `The server answered ${response.status} ${response.statusText}.`,
    hint: text.slice(0, 200),
  };
}

/** Any error as one to be shown. */
export function failureOf(error: unknown): ApiFailure {
  if (error instanceof ApiFailure) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new ApiFailure(0, { code: 'INTERNAL', message, hint: '' });
}

/** The command that gets the same from a terminal. */
export function curl(path: string, user: string): string {
  const auth = user === '' ? '' : `-u ${shellWord(user)} `;
  return `curl -s ${auth}${shellWord(window.location.origin + API + path)}`;
}

export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
