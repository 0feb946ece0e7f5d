/**
 * A message as a command: its words, and the text behind a word as it was written.
 *
 * Invariants: words end at white space; quotes ("…", '…', “…”) hold a word with spaces only where they
 * enclose it whole, so that JSON and apostrophes stay as they are; nothing is expanded. Cost: one walk.
 */

export interface Word {
  /** Without its quotes. */
  readonly value: string;
  /** Where it begins in the text, its quote included. */
  readonly at: number;
}

const CLOSING: Readonly<Record<string, string>> = { '"': '"', "'": "'", '“': '”' };

export class CommandLine {
  readonly text: string;
  readonly words: readonly Word[];

  constructor(text: string) {
    this.text = text.trim();
    this.words = wordsOf(this.text);
  }

  /** The first word; empty where there is none. */
  get name(): string {
    return this.words[0]?.value ?? '';
  }

  get values(): string[] {
    return this.words.map(({ value }) => value);
  }

  /** Everything from a word on, as it was written; one quoted word without its quotes. */
  from(index: number): string {
    const word = this.words[index];
    if (word === undefined) return '';
    return index === this.words.length - 1 ? word.value : this.text.slice(word.at);
  }
}

function wordsOf(text: string): Word[] {
  const words: Word[] = [];
  const quotes = new Quotes(text);
  // Sticky: each matches at its lastIndex only.
  const space = /\s*/y;
  const plain = /\S+/y;
  let at = 0;
  while (at < text.length) {
    space.lastIndex = at;
    at += space.exec(text)?.[0].length ?? 0;
    const end = quotes.endOf(at);
    if (end !== null) {
      words.push({ value: text.slice(at + 1, end), at });
      at = end + 1;
      continue;
    }
    plain.lastIndex = at;
    const value = plain.exec(text)?.[0] ?? '';
    if (value !== '') words.push({ value, at });
    at += value.length;
  }
  return words;
}

class Quotes {
  readonly #text: string;
  /** Closing quotes that end no word from here to the end, so that no text is searched twice. */
  readonly #absent = new Set<string>();

  constructor(text: string) {
    this.#text = text;
  }

  /** Where the closing quote is, if white space or the end follows it; null where the word has none. */
  endOf(at: number): number | null {
    const closing = CLOSING[this.#text[at] as string];
    if (closing === undefined || this.#absent.has(closing)) return null;
    let end = this.#text.indexOf(closing, at + 1);
    while (end >= 0) {
      const next = this.#text[end + 1];
      if (next === undefined || /\s/.test(next)) return end;
      end = this.#text.indexOf(closing, end + 1);
    }
    this.#absent.add(closing);
    return null;
  }
}

/** JSON as it was written, or with the quotes that telephones write replaced; null where it is none. */
export function jsonText(text: string): string | null {
  for (const each of [text, text.replace(/[“”„]/g, '"')]) {
    try {
      JSON.parse(each);
      return each;
    } catch {}
  }
  return null;
}
