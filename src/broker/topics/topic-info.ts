/**
 * What a broker says about topics, their groups and their messages.
 *
 * Contract only.
 */

export interface Receipt {
  /** The broker's id of the message, as text. */
  readonly id: string;
  /** True when a message with the same `PublishOptions.dedupId` was stored before and this publish stored nothing. */
  readonly duplicate: boolean;
}

export interface PendingQuery {
  readonly consumer?: string;
  readonly minIdleMs?: number;
  /** At most this many; default 100. */
  readonly limit?: number;
  /** Only ids after this one: for paging. */
  readonly after?: string;
}

export interface PendingEntry {
  readonly id: string;
  /** Empty while no consumer owns it: it waits for its retry. */
  readonly consumer: string;
  readonly idleMs: number;
  readonly attempts: number;
}

export interface RedriveOptions {
  /** Dead-letter topic; default `${topic}.dead`. */
  readonly from?: string;
  readonly limit?: number;
}

export interface TopicInfo {
  readonly topic: string;
  readonly length: number;
  /** Messages ever added, where the server counts them. */
  readonly added?: number;
  /** Bytes that the server stores of it, where the server reports them. */
  readonly bytes?: number;
  readonly groups: readonly {
    readonly name: string;
    readonly pending: number;
    readonly lag: number | null;
    /** Place of the last message that the group was given, where the server tells it. */
    readonly delivered?: number;
    /** Place up to which all that it was given is settled. */
    readonly settled?: number;
    /** Pending ones that were delivered more than once. */
    readonly redelivered?: number;
  }[];
}
