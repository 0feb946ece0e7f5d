/**
 * What an implementation can do, as data: the documentation's table, the refusals and the tests that
 * are skipped all read this.
 */
export interface Capabilities {
  /** What an acknowledged publish has survived by then. */
  readonly durability: 'none' | 'memory' | 'os' | 'fsync' | 'quorum' | 'quorum-fsync';
  /** `native`: the broker redelivers after a nack with a delay; `emulated`: the consumer's process does. */
  readonly delayedNack: 'native' | 'emulated' | 'none';
  readonly delayedPublish: 'native' | 'emulated' | 'none';
  /** `atomic`: dead letter and acknowledgement happen both or neither. */
  readonly deadLetter: 'atomic' | 'at-least-once' | 'none';
  /** Publish deduplication by id: how long and how many ids it remembers; null = none. */
  readonly dedup: { readonly windowMs: number; readonly maxIds: number } | null;
  /**
   * How often a publish without a `dedupId` is stored when the connection is cut before its answer
   * and it is sent again.
   */
  readonly retriedPublish: 'once' | 'at-least-once';
  readonly replayById: boolean;
  readonly replayByTime: boolean;
  readonly orderPerKey: boolean;
  readonly strictOrder: boolean;
  readonly maxInFlight: 'native' | 'client' | 'none';
  readonly wildcards: boolean;
  readonly requestReply: boolean;
  readonly pendingList: 'entries' | 'own' | 'none';
  /**
   * What an attempt is. `hand-overs`: each hand-over to a handler, and nothing else. `deliveries`: the
   * first delivery counts even when the connection was cut before it arrived.
   */
  readonly attempts: 'hand-overs' | 'deliveries';
  /**
   * What happens to a message that is trimmed from its topic while a group has it pending. `reported`:
   * the event `warning` reports it with `DELIVERY_LOST` when it would be delivered again, or is given back.
   * `own`: so, if this subscription gave it back; else it leaves without an event. `kept`: the group has it until it
   * is settled. `none`: no message waits.
   */
  readonly trimmedPending: 'reported' | 'own' | 'kept' | 'none';
  readonly extend: boolean;
  readonly persistent: boolean;
  /**
   * What `broker.journal` can do: `atomic` = records and everything beside them are one step; absent =
   * there is none.
   */
  readonly journal?: 'atomic';
  /** Largest body in bytes. */
  readonly maxBodyBytes: number;
}
