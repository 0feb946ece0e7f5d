/**
 * What commands write replies to, in RESP2 or RESP3 (reply-writer.ts implements it).
 *
 * Invariant: a command writes exactly one reply.
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
import type { StreamId } from '../../stream/stream-id.ts';

export interface Reply {
  protocol: 2 | 3;
  /** Bytes written and not yet handed over. Within one command, differences of it are lengths. */
  readonly length: number;
  /** Takes back what was written from this length on. */
  truncate(length: number): void;
  ok(): void;
  /** `+text`. */
  simple(text: string): void;
  /** `-text`: the code comes first, as in `ERR syntax error`. Line breaks become spaces. */
  error(text: string): void;
  /** As `error`, where the text quotes a client's bytes: one of them per character (latin1). */
  errorBytes(text: string): void;
  /** `:n`; a bigint where a double would round. */
  integer(value: number | bigint): void;
  /** `$n`: a whole byte string. */
  bulk(bytes: Uint8Array): void;
  /** `$n`: part of a byte string. */
  bulkSlice(source: Uint8Array, from: number, length: number): void;
  /** `$n`: UTF-8 of a string. */
  bulkText(text: string): void;
  /** `$n`: bytes given as a string, one of them per character. */
  bulkLatin1(text: string): void;
  /** A stream id as bulk string. */
  id(id: StreamId): void;
  /** `$-1`, in RESP3 `_`. */
  null(): void;
  /** `*-1`, in RESP3 `_`. */
  nullArray(): void;
  array(length: number): void;
  /** Room for an array or map whose length is known later: returns a mark for `setLength`. */
  deferred(): number;
  /** Fills in the header of `deferred`: an array of `length`, or a map of `length` pairs. */
  setLength(mark: number, length: number, kind?: 'array' | 'map' | 'set'): void;
  /** RESP3 `%pairs`; RESP2 an array of twice as many. */
  map(pairs: number): void;
  /** RESP3 `~n`; RESP2 an array. */
  set(length: number): void;
  /** RESP3 `>n`; RESP2 an array. */
  push(length: number): void;
  double(value: number): void;
  /** A number with more digits than a double holds. */
  doubleText(text: string): void;
  boolean(value: boolean): void;
  /** RESP3 `=txt:`; RESP2 a bulk string. */
  verbatim(text: string, format?: 'txt' | 'mkd', encoding?: 'utf8' | 'latin1'): void;
}
