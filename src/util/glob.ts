/**
 * Redis's glob patterns over bytes: `*`, `?`, `[abc]`, `[^a-z]`, `\x`.
 *
 * Used by KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET, COMMAND LIST and ACL patterns.
 * Cost: O(pattern x text) and no recursion: on a mismatch only the last `*` is tried again, which is
 * enough, because whatever an earlier star could give the last one can give as well. So a hostile
 * pattern such as `a*a*a*a*b` cannot stall the loop.
 * Source of the meaning, oddities included: stringmatchlen in Redis's util.c.
 */
export function globMatches(pattern: Uint8Array, text: Uint8Array, ignoreCase = false): boolean {
  let p = 0;
  let t = 0;
  let starPattern = -1;
  let starText = 0;
  for (;;) {
    if (p < pattern.length && pattern[p] === STAR) {
      while (p < pattern.length && pattern[p] === STAR) p++;
      if (p === pattern.length) return true;
      starPattern = p;
      starText = t;
      continue;
    }
    if (t === text.length) {
      return p === pattern.length;
    }
    const next = p < pattern.length ? matchOne(pattern, p, text[t], ignoreCase) : -1;
    if (next >= 0) {
      p = next;
      t++;
      continue;
    }
    if (starPattern < 0) return false;
    p = starPattern;
    t = ++starText;
  }
}

const STAR = 42;
const QUESTION = 63;
const OPEN = 91;
const CLOSE = 93;
const CARET = 94;
const BACKSLASH = 92;
const DASH = 45;

/** Where the pattern goes on after its element at `p` took `byte`; -1 when it does not take it. */
function matchOne(pattern: Uint8Array, p: number, byte: number, ignoreCase: boolean): number {
  const code = pattern[p];
  if (code === QUESTION) return p + 1;
  if (code === OPEN) return matchClass(pattern, p + 1, byte, ignoreCase);
  if (code === BACKSLASH && p + 1 < pattern.length) p++;
  return same(pattern[p], byte, ignoreCase) ? p + 1 : -1;
}

/** `p` stands after the bracket. A class without an end takes the pattern's last byte as its end. */
function matchClass(pattern: Uint8Array, p: number, byte: number, ignoreCase: boolean): number {
  const not = pattern[p] === CARET;
  if (not) p++;
  let found = false;
  if (ignoreCase) byte = lower(byte);
  for (; ; p++) {
    if (p >= pattern.length) {
      p--;
      break;
    }
    const code = pattern[p];
    if (code === BACKSLASH && p + 1 < pattern.length) {
      p++;
      if (same(pattern[p], byte, ignoreCase)) found = true;
    } else if (code === CLOSE) {
      break;
    } else if (p + 2 < pattern.length && pattern[p + 1] === DASH) {
      let from = ignoreCase ? lower(code) : code;
      let to = ignoreCase ? lower(pattern[p + 2]) : pattern[p + 2];
      if (from > to) [from, to] = [to, from];
      p += 2;
      if (byte >= from && byte <= to) found = true;
    } else if (same(code, byte, ignoreCase)) {
      found = true;
    }
  }
  return found !== not ? p + 1 : -1;
}

function same(a: number, b: number, ignoreCase: boolean): boolean {
  return ignoreCase ? lower(a) === lower(b) : a === b;
}

function lower(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte;
}
