/**
 * Paths of endpoint metadata: google.api.http templates and go-micro's POSIX expressions.
 *
 * `/v1/users/{id}`, `/files/{name=docs/*}`, `/files/{path=**}`, `/v1/users/{id}:cancel`, and `^/foo/.*$`.
 * Invariant: a path compiles to one regular expression without nested repetition, so that no path of a
 * client can make matching slow; a POSIX expression is given at most MAX_PATH characters. Cost: one
 * match.
 */
import { RivuletError } from '../../errors.ts';

export interface PathPattern {
  readonly source: string;
  /** More exact patterns first: literal segments, then all segments. */
  readonly rank: readonly [literal: number, segments: number];
  /** The captured fields, or null. */
  match(path: string): Record<string, string> | null;
}

const MAX_PATH = 2048;
const SPECIAL = /[.*+?^${}()|[\]\\]/g;

/** Throws INVALID_ARGUMENT where it is neither. */
export function compilePath(source: string): PathPattern {
  if (source.startsWith('^') && source.endsWith('$')) return posix(source);
  return template(source);
}

function posix(source: string): PathPattern {
  let expression: RegExp;
  try {
    expression = new RegExp(source);
  } catch (cause) {
    throw invalid(source, (cause as Error).message, cause);
  }
  // A repetition or a choice inside of a repetition can take time without end.
  if (repeatsChoices(source)) {
    throw invalid(source, 'it repeats a group that repeats or chooses something');
  }
  const literal = source.replace(/[^/\w-]/g, '').split('/').length - 1;
  return {
    source,
    rank: [literal, 0],
    match: (path) => (path.length <= MAX_PATH && expression.test(path) ? {} : null),
  };
}

/** Whether a group that is repeated has a repetition or a choice in it, at any depth. */
function repeatsChoices(source: string): boolean {
  const marks = source
    .replace(/\\./g, 'x')
    .replace(/\[\^?\]?[^\]]*\]/g, 'x')
    .replace(/\(\?[:=!]/g, '(');
  const open = [false];
  for (let i = 0; i < marks.length; i++) {
    const mark = marks[i] as string;
    if (mark === '(') open.push(false);
    else if (mark === ')') {
      const isOpen = open.pop() === true;
      if (isOpen && /[*+{]/.test(marks[i + 1] ?? '')) return true;
      if (isOpen || open.length === 0) open.splice(-1, 1, true);
    } else if (/[*+?{|]/.test(mark)) open.splice(-1, 1, true);
  }
  return false;
}

function template(source: string): PathPattern {
  const names: string[] = [];
  let literal = 0;
  let segments = 0;
  if (!source.startsWith('/')) throw invalid(source, 'it must begin with "/"');
  let pattern = '';
  let rest = source;
  const verb = /:([A-Za-z0-9_.~-]+)$/.exec(source)?.[0] ?? '';
  if (verb !== '') rest = source.slice(0, -verb.length);
  for (const part of splitSegments(rest.slice(1))) {
    segments++;
    pattern += '/';
    const field = /^\{([A-Za-z_][\w.]*)(?:=([^{}]+))?\}$/.exec(part);
    if (field !== null) {
      names.push(field[1] as string);
      pattern += `(${segmentsPattern(field[2] ?? '*', source)})`;
    } else if (part === '*' || part === '**') pattern += segmentsPattern(part, source);
    else if (/[{}*]/.test(part)) throw invalid(source, `the segment ${JSON.stringify(part)}`);
    else {
      literal++;
      pattern += part.replace(SPECIAL, '\\$&');
    }
  }
  if (pattern.split('.*').length > 2) throw invalid(source, 'it has "**" more than once');
  const expression = new RegExp(`^${pattern}${verb.replace(SPECIAL, '\\$&')}$`);
  if (verb !== '') literal++;
  return {
    source,
    rank: [literal, segments],
    match(path) {
      const found = path.length <= MAX_PATH ? expression.exec(path) : null;
      if (found === null) return null;
      const fields: Record<string, string> = Object.create(null);
      for (const [index, name] of names.entries()) {
        const text = decoded(found[index + 1] as string);
        if (text === null) return null;
        fields[name] = text;
      }
      return fields;
    },
  };
}

/** Splits at slashes outside of braces. */
function splitSegments(text: string): string[] {
  if (text === '') return [''];
  return text.match(/(?:\{[^{}]*\}|[^/{}])+/g) ?? [];
}

function segmentsPattern(text: string, source: string): string {
  return text
    .split('/')
    .map((part, index, all) => {
      if (part === '*') return '[^/]+';
      if (part === '**' && index === all.length - 1) return '.*';
      if (/[{}*]/.test(part)) throw invalid(source, `the segment ${JSON.stringify(part)}`);
      return part.replace(SPECIAL, '\\$&');
    })
    .join('/');
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

function invalid(source: string, why: string, cause?: unknown): RivuletError {
  const shown = JSON.stringify(source.slice(0, 100));
  return new RivuletError('INVALID_ARGUMENT', `path ${shown} cannot be a route: ${why}`, { cause });
}
