/**
 * What an implementation can do, as data: the documentation's table, the refusals and the tests that
 * are skipped all read this.
 */
export interface Capabilities {
  /** What an acknowledged publish has survived by then. */
  readonly durability: 'none' | 'memory' | 'os' | 'fsync' | 'quorum' | 'quorum-fsync';
  /** Who redelivers after a nack with a delay. */
  readonly delayedNack: 'native' | 'emulated' | 'none';
  readonly delayedPublish: 'native' | 'emulated' | 'none';
  /** `atomic`: dead letter and acknowledgement happen both or neither. */
  readonly deadLetter: 'atomic' | 'at-least-once' | 'none';
  /** Publish deduplication by id: how long and how many ids it remembers; null = none. */
  readonly dedup: { readonly windowMs: number; readonly maxIds: number } | null;
  readonly replayById: boolean;
  readonly replayByTime: boolean;
  readonly orderPerKey: boolean;
  readonly strictOrder: boolean;
  readonly maxInFlight: 'native' | 'client' | 'none';
  readonly wildcards: boolean;
  readonly requestReply: boolean;
  readonly pendingList: 'entries' | 'own' | 'none';
  readonly extend: boolean;
  readonly persistent: boolean;
  /** Largest body in bytes. */
  readonly maxBodyBytes: number;
}
