/**
 * The effect records of streams, and their layout.
 *
 * Every body begins with the database's number and the key (records.ts). Ids are 16 bytes, lists of
 * ids as IdList writes them, names are byte strings, times are unix ms as varint, counts varints.
 * A record holds the effect, not the request: a trim by `~` is recorded as the first id that stayed,
 * because nodes may be cut differently when the log is replayed under another configuration.
 * A number once used is never given another meaning.
 */
export const StreamRecord = {
  /**
   * id, number of fields, then field and value alternating, each a byte string. No longer written: it
   * leaves to the limits at the time of the replay where nodes end.
   */
  ADD: 40,
  /** references (u8: 0 kept, 1 deleted), id: the entries before it went. */
  TRIM: 41,
  /** references (u8): all entries went. */
  TRIM_ALL: 42,
  /** references (u8: 0 kept, 1 deleted, 2 there were none), ids. */
  DELETE: 43,
  /** last id, entries added, greatest deleted id. */
  SET_ID: 44,
  /**
   * producer, idempotent id, id of the entry; with the sequence's highest bit set, the number of the
   * scheduled entry that it became (scheduled-entries.ts). No longer written: REMEMBER took its place.
   */
  IDEMPOTENT: 45,
  /** (nothing more): an idempotent id was met again. */
  DUPLICATE: 46,
  /** duration in seconds, number of ids. */
  CONFIGURE: 47,
  /** ids, ascending: a trim by ACKED took them and left others between them. */
  TRIM_LIST: 48,
  /** most ms of age, bytes, entries; 0 = no limit. */
  RETENTION: 49,
  /** (the key need not exist) number, due time, trim, fields: scheduled-entries.ts. */
  SCHEDULE: 50,
  /** (the key need not exist) number: it was added to its stream, or cancelled. */
  UNSCHEDULE: 51,
  /** As IDEMPOTENT, of an entry whose sequence has the highest bit set. No longer written. */
  IDEMPOTENT_HIGH: 52,
  /** As ADD, and the entry went into the stream's last node. */
  ADD_TO_LAST_NODE: 53,
  /** As ADD, and the entry began a node. */
  ADD_TO_NEW_NODE: 54,
  /** As SCHEDULE, with the end of the delay in place of the due time: steady ms (f64). */
  DELAY: 55,
  /** producer, idempotent id, id, kind (u8: 0 entry, 1 scheduled entry), steady ms (f64). */
  REMEMBER: 56,

  /** group, last id, entries read + 1. */
  GROUP_CREATE: 60,
  /** group, last id, entries read + 1. */
  GROUP_SET_ID: 61,
  /** group. */
  GROUP_DESTROY: 62,
  /** group, consumer, time. */
  CONSUMER_CREATE: 63,
  /** group, consumer. */
  CONSUMER_DELETE: 64,
  /** group, policy (group-policy.ts of the groups; nothing = none). */
  GROUP_POLICY: 65,

  /** group, consumer, time, no-ack (u8), number of entries, first id, last id. */
  DELIVER: 70,
  /** group, consumer, time, limit, the id after which the consumer's history was read. */
  REDELIVER: 71,
  /** group, ids. */
  ACKNOWLEDGE: 72,
  /** group, consumer, active time, ids, then for each: delivery time, delivery count. */
  CLAIM: 73,
  /** group, ids, then the delivery count of each. */
  RELEASE: 74,
  /**
   * group, ids, then for each: end of its delay less the group's ACKWAIT (f64), delivery count. Of the
   * first version; REST took its place.
   */
  RETRY_LATER_V1: 75,
  /** group, ids, then for each: end of its delay (f64), delivery count. */
  RETRY_LATER: 76,
  /** group, ids, then for each: when it was given back (f64), delivery count: it waits for its dead letter. */
  AWAIT_DEAD_LETTER: 77,
  /** group, consumer, time, number of entries, first id, last id: fetched ahead, delivery count 0. */
  DELIVER_AHEAD: 78,
} as const;
