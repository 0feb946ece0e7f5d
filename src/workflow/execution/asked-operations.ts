/**
 * The operations that a workflow's code asks for, numbered, and compared with those of the journal.
 *
 * Invariants: every operation that the code asks for is noted in the journal with the next commit. On replay
 * the n-th operation must have the same kind and name, otherwise `Mismatch` says what differs and where.
 * Code that asks for operations without an end is stopped.
 */
import { fileURLToPath } from 'node:url';
import type { JournalRecord, Note, OperationKind } from '../journal/records.ts';

/** What the code asks for next differs from what the journal says it asked for. */
export class Mismatch extends Error {
  readonly n: number;

  constructor(n: number, text: string) {
    super(text);
    this.n = n;
  }
}

/** Operations that the code may ask for between two records. */
const MOST_AT_ONCE = 200_000;

export class AskedOperations {
  /** Asked for and not in the journal yet. */
  readonly notes: Note[] = [];
  readonly #expected: ReadonlyMap<number, Note>;
  #mismatch: Mismatch | null = null;
  #count = 0;
  /** Operations that were asked for since the last record. */
  #atOnce = 0;
  #ended = false;

  constructor(records: readonly JournalRecord[]) {
    const expected = new Map<number, Note>();
    for (const { data } of records) {
      for (const note of (data as { o?: readonly Note[] }).o ?? []) expected.set(note[0], note);
    }
    this.#expected = expected;
  }

  /** How many operations the code has asked for. */
  get count(): number {
    return this.#count;
  }

  /** The next operation according to the journal; undefined where the journal has no more. */
  get expected(): Note | undefined {
    return this.#expected.get(this.#count + 1);
  }

  /** The number of the next operation; 0 when the code does not follow the journal. */
  next(kind: OperationKind, name: string): number {
    if (this.#mismatch !== null || this.#ended) {
      // A loop that does not even await what it asks for ends no other way.
      if (++this.#atOnce > 2 * MOST_AT_ONCE)
        throw this.#mismatch ?? new Mismatch(0, 'it has ended');
      return 0;
    }
    const n = ++this.#count;
    if (++this.#atOnce > MOST_AT_ONCE) {
      const text = `at ${n}: the code has asked for ${MOST_AT_ONCE} operations and waits for none of them: a loop without a wait${placeOf(new Error().stack)}`;
      this.#mismatch = new Mismatch(n, text);
      return 0;
    }
    const expected = this.#expected.get(n);
    if (expected === undefined) {
      this.notes.push([n, kind, name]);
      return n;
    }
    if (expected[1] === kind && expected[2] === name) return n;
    const has = said(expected[1], expected[2]);
    this.#mismatch = new Mismatch(
      n,
      `at ${n}: journal has ${has}, code asks for ${said(kind, name)}${placeOf(new Error().stack)}`,
    );
    return 0;
  }

  /**
   * Compares what was asked for with the notes of the record that comes next; throws Mismatch. Operations from
   * the number `cut` on are not in the notes. `hasEnded`: the function has returned or thrown.
   */
  check(noted: readonly Note[] | undefined, cut: number | undefined, hasEnded: boolean): void {
    const last = noted?.at(-1);
    if (last !== undefined) this.#compare(last, cut ?? Number.POSITIVE_INFINITY, hasEnded);
    this.#atOnce = 0;
  }

  #compare(last: Note, cut: number, hasEnded: boolean): void {
    const [n] = last;
    if (this.#count < n) {
      const missing = this.expected ?? last;
      const does = hasEnded ? 'has ended' : 'awaits something that is no operation of wf';
      throw new Mismatch(
        this.#count + 1,
        `at ${this.#count + 1}: journal has ${said(missing[1], missing[2])}, code ${does}`,
      );
    }
    if (this.#count > n && n + 1 < cut) {
      const extra = this.notes.find(([at]) => at === n + 1) ?? this.#expected.get(n + 1);
      if (extra === undefined) return;
      throw new Mismatch(
        n + 1,
        `at ${n + 1}: code asks for ${said(extra[1], extra[2])}, which the journal does not have there`,
      );
    }
  }

  /** Throws where the code did not follow the journal. */
  throwMismatch(): void {
    if (this.#mismatch !== null) throw this.#mismatch;
  }

  /** The function was dropped: nothing that it asks for counts any more. */
  end(): void {
    this.#ended = true;
  }
}

function said(kind: string, name: string): string {
  return name === '' ? kind : `${kind} ${JSON.stringify(name)}`;
}

const HERE = new URL('..', import.meta.url).href;

/** ` (order.ts:31)`: the line of the program that asked. */
function placeOf(stack: string | undefined): string {
  const here = fileURLToPath(HERE);
  for (const line of (stack ?? '').split('\n').slice(1)) {
    if (line.includes(HERE) || line.includes(here)) continue;
    const found = /([^/\\(\s]+):(\d+):\d+\)?$/.exec(line);
    if (found !== null) return ` (${found[1]}:${found[2]})`;
  }
  return '';
}
