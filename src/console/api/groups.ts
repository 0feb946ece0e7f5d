/** Groups, their consumers and their pending messages. */

export interface GroupPolicy {
  readonly ackWaitMs: number | null;
  readonly maxDeliveries: number | null;
  readonly deadLetter: string | null;
  readonly backoffMs: readonly number[];
}

export interface GroupRow {
  readonly name: string;
  /** Null: the broker does not tell. */
  readonly consumers: number | null;
  readonly pending: number;
  readonly lag: number | null;
  /** Empty: the broker does not tell. */
  readonly lastDeliveredId: string;
  /** Up to here all that was delivered is settled; absent: the broker tells each pending one, or nothing. */
  readonly settledUpTo?: string;
  readonly policy: GroupPolicy | null;
}

export interface ConsumerRow {
  readonly name: string;
  readonly pending: number;
  readonly idleMs: number;
  /** Since its last successful read; null = it never had one. */
  readonly inactiveMs: number | null;
}

export interface GroupDetail extends GroupRow {
  readonly topic: string;
  readonly at: number;
  readonly consumerRows: readonly ConsumerRow[];
  readonly oldestPendingMs: number | null;
  /** Pending ones that were delivered more than once, where the broker counts them. */
  readonly redelivered?: number;
}

export interface PendingRow {
  readonly id: string;
  /** Empty: it was given back and waits for its next delivery. */
  readonly consumer: string;
  readonly idleMs: number;
  readonly attempts: number;
  /** Until it is delivered again; null = no policy says so. */
  readonly dueInMs: number | null;
  /** Why it was given back last. */
  readonly reason: string | null;
}

export interface PendingPage {
  readonly entries: readonly PendingRow[];
  readonly total: number;
  readonly next: string | null;
}
