/**
 * The closed list of effect records, and their layout.
 *
 * A record says what became of a key, never which command did it, so that replay needs neither
 * clock nor chance. Every body begins with the database's number (varint) and, where the record is
 * about a key, the key (bytes); what follows stands beside each number. Times are unix ms as varint,
 * 0 = none. A number once used is never given another meaning.
 *
 * Codes 1-39 are here; 40-99 are stream-records.ts.
 */
export const RecordType = {
  /** key, expireAt, bytes: the string's whole value and expiry. */
  SET: 1,
  /** key. */
  DEL: 2,
  /** key, expireAt. */
  EXPIRE: 3,
  /** key, new name (bytes): replaces what has that name. */
  RENAME: 4,
  /** key, destination database (varint), new name (bytes): replaces what has that name. */
  COPY: 5,
  /** key, destination database (varint). */
  MOVE: 6,
  /** (no key). */
  FLUSHDB: 7,
  /** database number is 0 and means nothing. */
  FLUSHALL: 8,
  /** the other database (varint). */
  SWAPDB: 9,
  /** key, bytes to append to a string. */
  APPEND: 10,
  /** key, expireAt, payload (bytes) as DUMP gives it: replaces the key. */
  RESTORE: 11,
  /** key, expireAt: a new, empty stream; replaces the key. */
  MKSTREAM: 12,
  /** no database: f64, by how many ms the clock was set forward since the data was made. */
  CLOCK: 13,
  /**
   * key, offset (varint), bytes: written over a part of a string, which grows by zero bytes where it is
   * too short. A missing key is made.
   */
  WRITE_PART: 14,
} as const;
