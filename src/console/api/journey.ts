/** What one message caused, and the spans of a trace. */
import type { DeadRow } from './dead-letters.ts';
import type { EntryDetail } from './entries.ts';
import type { PendingRow } from './groups.ts';

export interface JourneyGroup {
  readonly group: string;
  /**
   * `unknown`: it was delivered, and the broker does not tell whether it is settled. `untold`: the broker
   * does not tell whether it was delivered, and no service recorded it.
   */
  readonly state: 'waiting' | 'pending' | 'settled' | 'dead' | 'unknown' | 'untold';
  /** waiting: how many messages are before it. */
  readonly before: number | null;
  readonly pending: PendingRow | null;
  readonly dead: DeadRow | null;
  readonly spans: readonly SpanRow[];
}

export interface SpanRow {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string | null;
  readonly kind: 'publish' | 'deliver' | 'settle' | 'call' | 'serve' | 'step' | 'other';
  /** `orders`, `payments.Cards.Charge`, `order/order-17 charge`. */
  readonly name: string;
  readonly at: number;
  readonly ms: number;
  readonly service: string;
  readonly node: string;
  readonly group: string | null;
  readonly messageId: string | null;
  readonly attempt: number | null;
  readonly error: string | null;
  /** How many of its ancestors are in the same list; the list is in the order of the tree. */
  readonly depth: number;
}

export interface Journey {
  readonly topic: string;
  readonly id: string;
  readonly at: number | null;
  /** null: the message is deleted; what is known of it remains. */
  readonly entry: EntryDetail | null;
  readonly traceId: string | null;
  readonly groups: readonly JourneyGroup[];
  /** Copies: redriven or edited from this one, and where this one came from. */
  readonly copies: readonly {
    readonly kind: 'redriven' | 'edited' | 'origin';
    readonly topic: string;
    readonly id: string;
  }[];
  readonly workflows: readonly {
    readonly name: string;
    readonly id: string;
    readonly status: string;
    readonly waitsFor: string | null;
  }[];
  /** Spans of its trace that are about none of the groups. */
  readonly spans: readonly SpanRow[];
  /** What is not shown and why. */
  readonly missing: readonly string[];
}

export interface Trace {
  readonly traceId: string;
  readonly spans: readonly SpanRow[];
  /** Messages that carry the trace. */
  readonly messages: readonly { readonly topic: string; readonly id: string }[];
  readonly missing: readonly string[];
}
