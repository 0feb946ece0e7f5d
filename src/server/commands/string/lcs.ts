/**
 * LCS: the longest common subsequence of two strings.
 *
 * Invariant: of several that are equally long it returns the same one as Redis, which walks back from both
 * ends and, where it may drop a byte of either string, drops one of the second.
 * Cost: O(n * m / 32) time, n * m bits of memory; refused when Redis's table of four bytes a pair would exceed
 * its limit. Source: Redis 7.0 t_string.c, lcsCommand.
 */
import type { Command } from '../../command/command.ts';
import { keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { NOT_AN_INTEGER, SYNTAX } from '../common.ts';

const MAX_TABLE = 512 * 1024 * 1024;
const EMPTY = Buffer.alloc(0);
const ALL = 0xffff_ffff;

interface LcsOptions {
  length: boolean;
  indexes: boolean;
  withMatchLength: boolean;
  minMatchLength: number;
}

/** A match: from and to, both inclusive, in either string. */
type Range = readonly [aFrom: number, aTo: number, bFrom: number, bTo: number];

function lcs(session: Session): void {
  const { args, database, reply } = session;
  const values = [1, 2].map((i) => database.read(args, i)?.value);
  if (values.some((value) => value !== undefined && value.type !== 'string')) {
    reply.error('ERR The specified keys must contain string values');
    return;
  }
  const [a, b] = values.map((value) => (value?.type === 'string' ? value.bytes : EMPTY));
  const options = readOptions(session);
  if (options === null) return;
  if (options.length && options.indexes) {
    reply.error('ERR If you want both the length and indexes, please just use IDX.');
    return;
  }
  if ((a.length + 1) * (b.length + 1) * 4 > MAX_TABLE) {
    reply.error('ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len');
    return;
  }
  const table = new LcsTable(a, b);
  if (options.indexes) replyRanges(session, table, options);
  else if (options.length) reply.integer(table.length);
  else reply.bulk(table.walk(() => {}));
}

function readOptions(session: Session): LcsOptions | null {
  const { args, reply } = session;
  const options = { length: false, indexes: false, withMatchLength: false, minMatchLength: 0 };
  for (let i = 3; i < args.count; i++) {
    if (args.is(i, 'IDX')) options.indexes = true;
    else if (args.is(i, 'LEN')) options.length = true;
    else if (args.is(i, 'WITHMATCHLEN')) options.withMatchLength = true;
    else if (args.is(i, 'MINMATCHLEN') && i + 1 < args.count) {
      const least = args.integer(++i);
      if (least === null) {
        reply.error(NOT_AN_INTEGER);
        return null;
      }
      options.minMatchLength = Math.max(0, least);
    } else {
      reply.error(SYNTAX);
      return null;
    }
  }
  return options;
}

function replyRanges(session: Session, table: LcsTable, options: LcsOptions): void {
  const { reply } = session;
  const ranges: Range[] = [];
  table.walk((range) => {
    if (range[1] - range[0] + 1 >= options.minMatchLength) ranges.push(range);
  });
  reply.map(2);
  reply.bulkText('matches');
  reply.array(ranges.length);
  for (const [aFrom, aTo, bFrom, bTo] of ranges) {
    reply.array(options.withMatchLength ? 3 : 2);
    reply.array(2);
    reply.integer(aFrom);
    reply.integer(aTo);
    reply.array(2);
    reply.integer(bFrom);
    reply.integer(bTo);
    if (options.withMatchLength) reply.integer(aTo - aFrom + 1);
  }
  reply.bulkText('len');
  reply.integer(table.length);
}

/**
 * For each pair of positions one bit: 0 where the common subsequence of all before and the second
 * string's byte is one longer than without that byte. A row is made from the one before 32 bits at a
 * time (H. Hyyrö, Bit-parallel LCS-length computation revisited, 2004): adding the row's bits that
 * match carries each step to the next match.
 */
class LcsTable {
  readonly length: number;
  readonly #a: Buffer;
  readonly #b: Buffer;
  readonly #words: number;
  readonly #rows: Uint32Array;

  constructor(a: Buffer, b: Buffer) {
    const words = Math.ceil(b.length / 32);
    this.#a = a;
    this.#b = b;
    this.#words = words;
    this.#rows = new Uint32Array(words * a.length);
    const rows = this.#rows;
    const matches = matchesByByte(b, words);
    const row = new Uint32Array(words).fill(ALL);
    for (let i = 0; i < a.length; i++) {
      const match = matches[a[i]];
      if (match !== undefined) {
        let carry = 0;
        for (let word = 0; word < words; word++) {
          const bits = row[word];
          const sum = bits + ((bits & match[word]) >>> 0) + carry;
          carry = sum > ALL ? 1 : 0;
          row[word] = sum | (bits & ~match[word]);
        }
      }
      rows.set(row, i * words);
    }
    let length = 0;
    for (let j = 0; j < b.length; j++) if ((row[j >> 5] & (1 << (j & 31))) === 0) length++;
    this.length = length;
  }

  /** Walks back from both ends: gives each run of matching bytes, last first, and returns all of them. */
  walk(visit: (range: Range) => void): Buffer {
    const [a, b] = [this.#a, this.#b];
    const common = Buffer.allocUnsafeSlow(this.length);
    let left = this.length;
    let [i, j] = [a.length, b.length];
    let range: [number, number, number, number] | null = null;
    while (i > 0 && j > 0) {
      let ends = false;
      if (a[i - 1] === b[j - 1]) {
        common[--left] = a[i - 1];
        if (range === null) range = [i - 1, i - 1, j - 1, j - 1];
        else if (range[0] === i && range[2] === j) {
          range[0]--;
          range[2]--;
        } else ends = true;
        ends ||= range[0] === 0 || range[2] === 0;
        i--;
        j--;
      } else {
        // Longer only with this byte of b: then without the byte of a it is as long.
        const bits = this.#rows[(i - 1) * this.#words + ((j - 1) >> 5)];
        if ((bits & (1 << ((j - 1) & 31))) === 0) i--;
        else j--;
        ends = range !== null;
      }
      if (!ends) continue;
      if (range !== null) visit(range);
      range = null;
    }
    return common;
  }
}

/** For each byte, its positions in `b` as bits; absent = none. */
function matchesByByte(b: Buffer, words: number): (Uint32Array | undefined)[] {
  const matches: (Uint32Array | undefined)[] = [];
  for (let j = 0; j < b.length; j++) {
    const match = matches[b[j]] ?? new Uint32Array(words);
    matches[b[j]] = match;
    match[j >> 5] |= 1 << (j & 31);
  }
  return matches;
}

export const lcsCommands: readonly Command[] = [
  {
    name: 'lcs',
    arity: -3,
    flags: ['readonly'],
    keys: { ...keyAt(1, 'RO', 'access'), last: 2 },
    group: 'string',
    since: '7.0.0',
    summary: 'Finds the longest common subsequence of two strings.',
    complexity: 'O(N*M) of the lengths of the two strings',
    run: lcs,
  },
];
