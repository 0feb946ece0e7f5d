/**
 * Redis's quoting rules (sdssplitargs), for inline commands and configuration files: words split at
 * white space; "..." with \n \r \t \b \a \xHH and \c; '...' with \' only.
 *
 * Cost: O(n), and a new buffer per word: neither is on the hot path.
 */

/** The words of one line; null when quotes are unbalanced. */
export function splitArgs(line: Uint8Array): Buffer[] | null {
  const words: Buffer[] = [];
  const word: number[] = [];
  const end = line.length;
  let at = 0;
  for (;;) {
    while (at < end && isSpace(line[at]!)) at++;
    if (at >= end || line[at] === 0) return words;
    word.length = 0;
    let quote = 0;
    for (;;) {
      if (at >= end || line[at] === 0) {
        if (quote !== 0) return null;
        break;
      }
      const code = line[at]!;
      if (quote === DOUBLE && code === BACKSLASH && at + 1 < end) {
        at += readEscape(line, at, word);
        continue;
      }
      if (quote === SINGLE && code === BACKSLASH && line[at + 1] === SINGLE) {
        word.push(SINGLE);
        at += 2;
        continue;
      }
      if (quote !== 0 && code === quote) {
        // A closing quote must end the word.
        at++;
        if (at < end && line[at] !== 0 && !isSpace(line[at]!)) return null;
        break;
      }
      if (quote === 0 && isSpace(code)) break;
      at++;
      if (quote === 0 && (code === DOUBLE || code === SINGLE)) quote = code;
      else word.push(code);
    }
    words.push(Buffer.from(word));
  }
}

/** The words of a line of bytes (latin1); null when quotes are unbalanced. */
export function splitLine(line: string): string[] | null {
  const words = splitArgs(Buffer.from(line, 'latin1'));
  return words?.map((word) => word.toString('latin1')) ?? null;
}

/** Lowers ASCII letters only, as C's tolower does. */
export function lowerCase(bytes: string): string {
  return bytes.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** Removes white space at both ends: C's isspace, not Unicode's. */
export function trimSpace(bytes: string): string {
  return bytes.replace(/^[ \t-\r]+|[ \t-\r]+$/g, '');
}

/** A word (bytes as latin1) as a configuration file may hold it: ASCII, quoted where needed. */
export function quoteArg(word: string): string {
  if (/^[!#-&(-~]+$/.test(word) && !word.includes('\\')) return word;
  const shown = word.replace(/[^ !#-[\]-~]/g, (c) => {
    if (c === '"' || c === '\\') return `\\${c}`;
    if (c === '\n') return '\\n';
    if (c === '\r') return '\\r';
    if (c === '\t') return '\\t';
    return `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return `"${shown}"`;
}

const DOUBLE = 34;
const SINGLE = 39;
const BACKSLASH = 92;

function isSpace(code: number): boolean {
  return code === 32 || (code >= 9 && code <= 13);
}

const ESCAPES: Record<string, number> = { n: 10, r: 13, t: 9, b: 8, a: 7 };

/** Reads one escape at `at` into `word`; returns how many bytes it took. */
function readEscape(line: Uint8Array, at: number, word: number[]): number {
  const next = line[at + 1]!;
  if (next === 120 && at + 3 < line.length) {
    const hex = String.fromCharCode(line[at + 2]!, line[at + 3]!);
    if (/^[0-9a-f]{2}$/i.test(hex)) {
      word.push(Number.parseInt(hex, 16));
      return 4;
    }
  }
  word.push(ESCAPES[String.fromCharCode(next)] ?? next);
  return 2;
}
