/**
 * The types of a stream in Redis's RDB encoding: what the byte before the value says.
 *
 * Each has all that those before it have. Source: Redis rdb.h.
 */
export const StreamType = {
  /** Redis 5.0. */
  LISTPACKS: 15,
  /** Redis 7.0: first id, greatest deleted id, entries added, entries read. */
  LISTPACKS_2: 19,
  /** Redis 7.2: when a consumer was last given something. */
  LISTPACKS_3: 21,
  /** Redis 8.6: idempotent ids. */
  LISTPACKS_4: 26,
  /** Redis 8.8: released entries. */
  LISTPACKS_5: 27,
} as const;
