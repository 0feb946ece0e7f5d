/**
 * Texts without the tokens of the bot: for its log and for its answers.
 *
 * Invariant: no text that passes holds a token, also not one that a library put into an error. Cost: one
 * replacement per token.
 */
import type { Log } from '../../rpc/context.ts';

export type Redact = (text: string) => string;

const SHORTEST = 8;

export function redactor(secrets: readonly (string | undefined)[]): Redact {
  const known = secrets.filter((each) => each !== undefined && each.length >= SHORTEST) as string[];
  return (text) => known.reduce((rest, secret) => rest.replaceAll(secret, '[token]'), text);
}

/** The log with every text redacted, those within fields too. */
export function redactedLog(log: Log, redact: Redact): Log {
  const clean = (fields: object | string): object | string => {
    if (typeof fields === 'string') return redact(fields);
    return JSON.parse(redact(JSON.stringify(fields)));
  };
  const method =
    (level: keyof Log) =>
    (fields: object | string, text?: string): void => {
      if (text === undefined) log[level](clean(fields));
      else log[level](clean(fields), redact(text));
    };
  return {
    debug: method('debug'),
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
  };
}
