/**
 * JSON objects merged as text, as RFC 7386 says: what the second one says wins, null removes.
 *
 * Invariants: a value that is not merged keeps its bytes, so that a 64 bit number loses no digit; no
 * depth of nesting makes it slow or exhausts the stack; more than MAX_MEMBERS members are refused. Cost: one pass over both texts, and only for
 * requests that have fields in their path or query.
 */
import { RivuletError } from '../../errors.ts';

const MARKS = '{}[],:';
const ENDS = `${MARKS}" \t\r\n`;
const MAX_WORDS = 100;
/** Members of both together: each is an object here. */
const MAX_MEMBERS = 500_000;

/** The members of an object: objects as objects, and every other value as its text. */
type Members = Map<string, Members | string>;

/** Both must be JSON. A patch that is no object replaces the target. */
export function mergeJson(target: string, patch: string): string {
  const over = membersOf(patch);
  if (over === null) return patch;
  const merged = membersOf(target) ?? new Map();
  // A list of what is left to merge, and not a recursion: the client chooses the depth.
  const rest: [Members, Members][] = [[merged, over]];
  for (let pair = rest.pop(); pair !== undefined; pair = rest.pop()) {
    const [into, from] = pair;
    for (const [name, value] of from) {
      if (value === 'null') into.delete(name);
      else if (typeof value === 'string') into.set(name, value);
      else {
        const known = into.get(name);
        const inner: Members = known instanceof Map ? known : new Map();
        into.set(name, inner);
        rest.push([inner, value]);
      }
    }
  }
  return textOf(merged);
}

/** The parts of a JSON text, one after the other: marks, and the text of every other value. */
class Parts {
  readonly #text: string;
  /** Behind the part that was read last. */
  at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Null at the end. A loop and no expression: on long texts those exhaust the stack. */
  next(): string | null {
    const text = this.#text;
    while (this.at < text.length && ' \t\r\n'.includes(text[this.at] as string)) this.at++;
    const from = this.at;
    const first = text[from];
    if (first === undefined) return null;
    this.at++;
    if (first === '"') {
      while (this.at < text.length && text[this.at] !== '"')
        this.at += text[this.at] === '\\' ? 2 : 1;
      this.at++;
    } else if (!MARKS.includes(first)) {
      while (this.at < text.length && !ENDS.includes(text[this.at] as string)) this.at++;
    }
    return text.slice(from, this.at);
  }

  /** The text of the array whose bracket was just read. */
  array(): string {
    const from = this.at - 1;
    for (let depth = 1; depth > 0; ) {
      const part = this.next();
      if (part === '[') depth++;
      else if (part === ']') depth--;
      else if (part === null) break;
    }
    return this.#text.slice(from, this.at);
  }
}

/** Null where the text is no object. */
function membersOf(text: string): Members | null {
  const parts = new Parts(text);
  if (parts.next() !== '{') return null;
  const root: Members = new Map();
  const open: Members[] = [root];
  let count = 0;
  let name: string | null = null;
  for (let part = parts.next(); part !== null; part = parts.next()) {
    const members = open.at(-1) as Members;
    if (part === '}') {
      open.pop();
      if (open.length === 0) break;
    } else if (part === ',' || part === ':') continue;
    else if (name === null) {
      name = JSON.parse(part) as string;
      if (++count > MAX_MEMBERS) {
        const text = `the body has more than ${MAX_MEMBERS} members, too many to merge with a query or path`;
        throw new RivuletError('INVALID_ARGUMENT', text);
      }
    } else {
      if (part === '{') {
        const inner: Members = new Map();
        members.set(name, inner);
        open.push(inner);
      } else members.set(name, part === '[' ? parts.array() : part);
      name = null;
    }
  }
  return root;
}

function textOf(root: Members): string {
  const out: string[] = ['{'];
  const open = [{ members: root.entries(), isFirst: true }];
  for (let at = open.at(-1); at !== undefined; at = open.at(-1)) {
    const next = at.members.next();
    if (next.done) {
      out.push('}');
      open.pop();
      continue;
    }
    const [name, value] = next.value;
    out.push(at.isFirst ? '' : ',', JSON.stringify(name), ':');
    at.isFirst = false;
    if (typeof value === 'string') out.push(value);
    else {
      out.push('{');
      open.push({ members: value.entries(), isFirst: true });
    }
  }
  return out.join('');
}

/** `{ 'a.b': value }` as nested objects; names of prototypes are ordinary names. */
export function nest(fields: Iterable<readonly [string, unknown]>): Record<string, unknown> {
  const root: Record<string, unknown> = Object.create(null);
  for (const [path, value] of fields) {
    const words = path.split('.');
    if (words.length > MAX_WORDS) {
      throw new RivuletError('INVALID_ARGUMENT', `a field has more than ${MAX_WORDS} parts`);
    }
    let at = root;
    for (const word of words.slice(0, -1)) {
      const next = at[word];
      if (typeof next === 'object' && next !== null) at = next as Record<string, unknown>;
      else {
        const made: Record<string, unknown> = Object.create(null);
        at[word] = made;
        at = made;
      }
    }
    at[words.at(-1) as string] = value;
  }
  return root;
}
