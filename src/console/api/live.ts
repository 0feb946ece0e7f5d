/** The live stream: frames of server-sent events. */
import type { EntryRow } from './entries.ts';
import type { ApiError } from './errors.ts';

/**
 * One server-sent event, `event: frame`, at most one a second. Watches: `overview`, `topics:<query string
 * of GET topics>`, `topic:<name>`, `group:<topic>/<group>`, `tail:<topic>`, `dead`, `workflows`, `jobs`,
 * `services`, `server`; names percent-encoded. `parts` has only what changed since the last frame, and
 * series (`series`, `seconds`, `minutes`) of a frame that is no snapshot hold only their newest points.
 */
export interface LiveFrame {
  readonly at: number;
  /** True for the first frame and after a jam: every watch is in `parts`. */
  readonly snapshot: boolean;
  /** By the watch as it was given: the reply of the route that it names, or an ApiError. */
  readonly parts: Readonly<Record<string, LivePart>>;
}

export type LivePart =
  | { readonly kind: 'value'; readonly value: unknown }
  | {
      readonly kind: 'append';
      /** Oldest first, at most 100. */
      readonly entries: readonly EntryRow[];
      /** Above 0: there were more than 100 since the last frame, and the oldest of them are not here. */
      readonly skipped: number;
      /** Id of the newest message. */
      readonly position: string;
    }
  | { readonly kind: 'error'; readonly error: ApiError };
