/**
 * What a key and a scheduled entry know of the keyspace that they are in (keyspace.ts): its name in
 * the checkpoint, and whether it was flushed.
 */
export interface KeyspaceId {
  /** Names it in the checkpoint, where keys belong to a keyspace, not to a database's number. */
  readonly uid: number;
  /** The checkpoint epoch in which it was flushed; -1 = it is in use. */
  readonly flushedEpoch: number;
}
