/** The audit: what a user did, on what, and how it ended. */

export interface AuditRow {
  readonly id: string;
  readonly at: number;
  readonly user: string;
  readonly address: string;
  readonly verb: string;
  readonly target: string;
  readonly count: number | null;
  readonly reason: string;
  /** `intent`, or how the action of that intent ended; `refused` has no intent. */
  readonly phase: 'intent' | 'done' | 'failed' | 'refused';
  /** Equal in the intent and the outcome of one action. */
  readonly action: string;
  /** Why it failed or was refused. */
  readonly error: string;
}

export interface AuditPage {
  /** Newest first. */
  readonly entries: readonly AuditRow[];
  readonly next: string | null;
}
