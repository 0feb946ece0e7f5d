/**
 * The filter language: `json.total > 100 && header.tenant == "a" && key ^= "eu."`.
 *
 *   or         = and { "||" and }
 *   and        = not { "&&" not }
 *   not        = "!" not | "(" or ")" | comparison
 *   comparison = operand [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "^=" | "$=" | "*=") operand ]
 *   operand    = text in "..." | number | true | false | null | place
 *   place      = "key" | "id" | "time" | "size" | "text" | "header" part | "json" { part }
 *   part       = "." name | "[" number "]" | "[" text "]"
 *
 * There is no code and no regular expression in it, and nothing that repeats.
 * Invariant: an expression has at most STEPS steps (operands, operators, parts of places), each of which
 * is taken at most once for an entry; it is at most 50 parentheses deep.
 */
import { RivuletError } from '../../errors.ts';

export type Place = 'key' | 'id' | 'time' | 'size' | 'text' | 'header' | 'json';
export type Operator = '==' | '!=' | '<' | '<=' | '>' | '>=' | '^=' | '$=' | '*=';
export type Constant = string | number | boolean | null;

export type Expression =
  | { readonly kind: 'constant'; readonly value: Constant }
  | { readonly kind: 'place'; readonly place: Place; readonly path: readonly (string | number)[] }
  | { readonly kind: 'not'; readonly of: Expression }
  | { readonly kind: 'all' | 'any'; readonly of: readonly Expression[] }
  | {
      readonly kind: 'compare';
      readonly operator: Operator;
      readonly left: Expression;
      readonly right: Expression;
    };

const STEPS = 1000;
const LONGEST = 10_000;
const DEEPEST = 50;

const TOKEN =
  /\s*(?:("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(&&|\|\||[=!<>^$*]=|[<>!()[\].])|([\p{L}_][\p{L}\p{N}_-]*))/uy;

interface Token {
  readonly kind: 'text' | 'number' | 'sign' | 'word' | 'end';
  readonly text: string;
  readonly at: number;
}

/** Throws INVALID_ARGUMENT, with the place, for what is no expression. */
export function parseFilter(source: string): Expression {
  if (source.length > LONGEST) throw wrong(`a filter has at most ${LONGEST} characters`);
  return new Parser(tokensOf(source)).parse();
}

function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (source.slice(at).trim() !== '') {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(source);
    if (match === null) {
      const place = at + (source.slice(at).length - source.slice(at).trimStart().length);
      const shown = JSON.stringify(source.slice(place, place + 20));
      throw wrong(`character ${place + 1}: ${shown} is no part of a filter`);
    }
    const [whole, text, number, sign] = match;
    const kind = text ? 'text' : number ? 'number' : sign ? 'sign' : 'word';
    tokens.push({ kind, text: whole.trim(), at: at + whole.length - whole.trimStart().length });
    at = TOKEN.lastIndex;
    if (tokens.length > 4 * STEPS) throw tooLong();
  }
  tokens.push({ kind: 'end', text: '', at: source.length });
  return tokens;
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #steps = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  parse(): Expression {
    const expression = this.#any();
    if (this.#token.kind !== 'end') throw this.#expected('"&&", "||" or the end');
    return expression;
  }

  get #token(): Token {
    return this.#tokens[this.#at]!;
  }

  #any(): Expression {
    return this.#several('||', 'any', () => this.#all());
  }

  #all(): Expression {
    return this.#several('&&', 'all', () => this.#not());
  }

  #several(sign: string, kind: 'all' | 'any', next: () => Expression): Expression {
    const of = [next()];
    while (this.#takes(sign)) {
      this.#step();
      of.push(next());
    }
    return of.length === 1 ? of[0]! : { kind, of };
  }

  #not(): Expression {
    if (this.#takes('!')) {
      this.#step();
      return this.#deeper(() => ({ kind: 'not', of: this.#not() }));
    }
    if (!this.#takes('(')) return this.#comparison();
    const inner = this.#deeper(() => this.#any());
    if (!this.#takes(')')) throw this.#expected('")"');
    return inner;
  }

  #deeper(read: () => Expression): Expression {
    if (++this.#depth > DEEPEST) throw wrong(`a filter is at most ${DEEPEST} levels deep`);
    const expression = read();
    this.#depth--;
    return expression;
  }

  #comparison(): Expression {
    const left = this.#operand();
    const { kind, text } = this.#token;
    if (kind !== 'sign' || !OPERATORS.has(text)) return left;
    this.#at++;
    this.#step();
    return { kind: 'compare', operator: text as Operator, left, right: this.#operand() };
  }

  #operand(): Expression {
    this.#step();
    const token = this.#token;
    this.#at++;
    if (token.kind === 'text') return { kind: 'constant', value: textOf(token) };
    if (token.kind === 'number') return { kind: 'constant', value: Number(token.text) };
    if (token.kind === 'word') {
      const constant = CONSTANTS.get(token.text);
      if (constant !== undefined) return { kind: 'constant', value: constant };
      if (PLACES.has(token.text)) return this.#place(token.text as Place);
    }
    this.#at--;
    throw this.#expected(
      'a text in "...", a number, key, id, time, size, text, header.x or json.x',
    );
  }

  #place(place: Place): Expression {
    const path: (string | number)[] = [];
    for (;;) {
      if (this.#takes('.')) {
        const { kind, text } = this.#token;
        if (kind !== 'word') throw this.#expected('a name after "."');
        path.push(text);
        this.#at++;
      } else if (this.#takes('[')) {
        const token = this.#token;
        if (token.kind === 'text') path.push(textOf(token));
        else if (/^\d+$/.test(token.text)) path.push(Number(token.text));
        else throw this.#expected('a number or a text in "[ ]"');
        this.#at++;
        if (!this.#takes(']')) throw this.#expected('"]"');
      } else break;
      this.#step();
    }
    if (place === 'header' && (path.length !== 1 || typeof path[0] !== 'string')) {
      throw wrong('a header has one name: header.tenant or header["x-tenant"]');
    }
    if (place !== 'header' && place !== 'json' && path.length > 0) {
      throw wrong(`${place} has no parts`);
    }
    return { kind: 'place', place, path };
  }

  #takes(sign: string): boolean {
    const { kind, text } = this.#token;
    if (kind !== 'sign' || text !== sign) return false;
    this.#at++;
    return true;
  }

  #step(): void {
    if (++this.#steps > STEPS) throw tooLong();
  }

  #expected(what: string): RivuletError {
    const { at, text, kind } = this.#token;
    const found = kind === 'end' ? 'the end' : JSON.stringify(text.slice(0, 40));
    return wrong(`character ${at + 1}: expected ${what}, found ${found}`);
  }
}

function textOf({ text, at }: Token): string {
  try {
    return JSON.parse(text);
  } catch {
    throw wrong(`character ${at + 1}: a text is written as in JSON: ${text.slice(0, 40)}`);
  }
}

function tooLong(): RivuletError {
  return wrong(`a filter has at most ${STEPS} steps`);
}

function wrong(why: string): RivuletError {
  return new RivuletError('INVALID_ARGUMENT', `the filter cannot be read: ${why}`);
}

const OPERATORS = new Set<string>(['==', '!=', '<', '<=', '>', '>=', '^=', '$=', '*=']);
const CONSTANTS = new Map<string, Constant>([
  ['true', true],
  ['false', false],
  ['null', null],
]);
const PLACES = new Set<string>(['key', 'id', 'time', 'size', 'text', 'header', 'json']);
