/**
 * How a command ends: its exit code, and the line that says what happened and what to do.
 *
 * Invariant: the code alone says whether a repetition may help. The codes are API.
 * No line holds a password: errors of brokers never do, and addresses are shown without one.
 */
import { type ErrorCode, RivuletError } from '../errors.ts';

export const EXIT = {
  ok: 0,
  /** The command ran and did not succeed. */
  failed: 1,
  /** The command line cannot be run as it is written. */
  usage: 2,
  /** What it names is not there: a topic, group, message, service, or anything that answers. */
  notFound: 3,
  /** The broker, registry or service cannot be reached. */
  unreachable: 4,
  /** It did not end within its time. */
  timeout: 5,
  /** The user or the password is wrong, or the user may not do this. */
  refused: 6,
} as const;

const CODES: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: EXIT.usage,
  TOPIC_ILLEGAL: EXIT.usage,
  UNKNOWN_SCHEME: EXIT.usage,
  NOT_FOUND: EXIT.notFound,
  GROUP_LOST: EXIT.notFound,
  NO_RESPONDERS: EXIT.notFound,
  SERVICE_NOT_FOUND: EXIT.notFound,
  METHOD_NOT_FOUND: EXIT.notFound,
  CONNECTION_FAILED: EXIT.unreachable,
  NOT_CONNECTED: EXIT.unreachable,
  REGISTRY_UNAVAILABLE: EXIT.unreachable,
  UNAVAILABLE: EXIT.unreachable,
  TIMEOUT: EXIT.timeout,
  AUTHENTICATION_FAILED: EXIT.refused,
  PERMISSION_DENIED: EXIT.refused,
};

const ADVICE: Partial<Record<ErrorCode, string>> = {
  CONNECTION_FAILED: 'is it running? --broker URL or micro context select names another one',
  AUTHENTICATION_FAILED: 'write the address as scheme://user:password@host:port',
  PERMISSION_DENIED: 'ask for the permission, or connect as another user',
  NO_RESPONDERS: 'no process responds to this topic now',
  TIMEOUT: '--timeout gives it more time',
  UNKNOWN_SCHEME: 'write rivulet://host:port, redis://host:port, amqp://host or nats://host',
};

/** An error of the command itself, with the code that it ends with. */
export class CommandFailure extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failed) {
    super(message);
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
  }
}

export function usage(message: string): CommandFailure {
  return new CommandFailure(message, EXIT.usage);
}

export function notFound(message: string): CommandFailure {
  return new CommandFailure(message, EXIT.notFound);
}

/** What the process ends with, and the line for standard error. */
export function outcomeOf(error: unknown): { code: number; text: string } {
  if (error instanceof CommandFailure) return { code: error.exitCode, text: error.message };
  if (!(error instanceof RivuletError)) {
    return { code: EXIT.failed, text: error instanceof Error ? error.message : String(error) };
  }
  // The address is its own: nothing that it calls is missing.
  const isListening = /\bcan(not|'t) listen on /.test(error.message);
  const advice = isListening ? 'choose another --address' : ADVICE[error.code];
  return {
    code: isListening ? EXIT.failed : (CODES[error.code] ?? EXIT.failed),
    text: `${error.message} (${error.code})${advice === undefined ? '' : `; ${advice}`}`,
  };
}
