/**
 * Errors of workflows: those that a function throws and catches, and their form in a journal.
 *
 * Invariant: an error that comes out of a journal is made of name, code, message and data, live and on
 * replay alike, so that a `catch` decides the same each time. A stack is never journaled: it holds paths
 * of a machine and changes with every build.
 */
import { RivuletError } from '../errors.ts';
import { ServiceError } from '../rpc/service-error.ts';
import { errorText } from '../util/error-text.ts';

/** Longest message of an error in a journal, characters. */
const LONGEST_MESSAGE = 4096;
const LONGEST_DATA = 64 * 1024;
const MOST_REFUSALS = 5;

export interface ErrorRecord {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly data?: unknown;
  /** It was thrown as Terminal: no further attempt. */
  readonly terminal?: true;
}

export interface TerminalOptions extends ErrorOptions {
  readonly code?: string;
  /** Anything JSON can hold; it reaches the caller of `result()`. */
  readonly data?: unknown;
}

/** What failed in a step, a child or an instance, as the journal keeps it. */
export class Failure extends Error {
  readonly code: string | undefined;
  readonly data: unknown;

  constructor(message: string, options: TerminalOptions = {}) {
    super(message, options);
    this.name = 'Failure';
    this.code = options.code;
    this.data = options.data;
  }
}

/** Thrown in a step: another attempt would not help. The step fails at once. */
export class Terminal extends Failure {
  constructor(message: string, options: TerminalOptions = {}) {
    super(message, options);
    this.name = 'Terminal';
  }
}

/** The instance was cancelled, or its time was up. */
export class Cancelled extends Failure {
  constructor(reason: string) {
    super(reason, { code: 'ABORTED' });
    this.name = 'Cancelled';
  }
}

export function isTerminal(error: unknown): boolean {
  return error instanceof Terminal || error instanceof Cancelled;
}

export function recordOfError(error: unknown): ErrorRecord {
  if (!(error instanceof Error)) return { name: 'Error', message: clipped(textOf(error)) };
  const { code, data } = error as { code?: unknown; data?: unknown };
  const message = error instanceof ServiceError ? error.detail : error.message;
  const kept = dataOf(data);
  return {
    name: clipped(errorText(error.name)).slice(0, 200),
    message: clipped(errorText(message)),
    ...(typeof code === 'string' ? { code: code.slice(0, 200) } : {}),
    ...(kept === undefined ? {} : { data: kept }),
    ...(error instanceof Terminal ? { terminal: true as const } : {}),
  };
}

export function errorOfRecord(record: ErrorRecord): Failure {
  const options: TerminalOptions = {
    ...(record.code === undefined ? {} : { code: record.code }),
    ...(record.data === undefined ? {} : { data: record.data }),
  };
  if (record.name === 'Cancelled') return new Cancelled(record.message);
  const error =
    record.terminal === true
      ? new Terminal(record.message, options)
      : new Failure(record.message, options);
  error.name = record.name;
  return error;
}

export function notFound(name: string, id: string): RivuletError {
  return new RivuletError('NOT_FOUND', `there is no instance ${name}/${id}, or its time is over`);
}

/** A commit was refused again and again although the newest record is still `last`. */
export function damaged(key: string, last: string): RivuletError {
  const text = `the journal ${key} takes no record after ${last}: another program has removed records of it`;
  return new RivuletError('STORAGE_DAMAGED', text);
}

/** Counts commits that are refused although the journal is as it was. */
export class Refusals {
  #last = '';
  #times = 0;

  /** True where the fifth commit in a row on the same record was refused. */
  isHopeless(last: string): boolean {
    this.#times = last === this.#last ? this.#times + 1 : 1;
    this.#last = last;
    return this.#times >= MOST_REFUSALS;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? errorText(error) : textOf(error);
}

function dataOf(data: unknown): unknown {
  if (data === undefined) return undefined;
  try {
    const text = JSON.stringify(data);
    return text === undefined || text.length > LONGEST_DATA ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string {
  try {
    return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  } catch {
    return errorText(value);
  }
}

function clipped(text: string): string {
  return text.length <= LONGEST_MESSAGE ? text : `${text.slice(0, LONGEST_MESSAGE)}...`;
}
