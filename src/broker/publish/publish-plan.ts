/**
 * The options of one publish, checked and in one form for every broker.
 *
 * Invariant: a plan asks for nothing that the broker's capabilities exclude. One object lives as long
 * as its publish, so an implementation may keep on it what a second attempt needs.
 */
import { RivuletError } from '../../errors.ts';
import type { Capabilities } from '../capabilities.ts';
import type { Message } from '../message/message.ts';
import { checkPublishOptions } from '../options/option-rows.ts';
import type { PublishOptions } from '../options/options.ts';

export interface PublishPlan {
  readonly dedupId: string | null;
  /** Milliseconds from now by the broker's clock; null where `deliverAt` is set, or for no delay. */
  readonly delayMs: number | null;
  /** Unix milliseconds; null where `delayMs` is set, or for no delay. */
  readonly deliverAt: number | null;
  readonly maxLength: number | null;
  /** For the implementation: the number of the first message, the same in every attempt. */
  mark?: number | undefined;
  /** For the implementation: the ids of the messages that earlier attempts stored. */
  ids?: readonly string[] | undefined;
  /** For the implementation: called once when the publish has succeeded, failed or was aborted. */
  ended?: ((plan: PublishPlan) => void) | undefined;
}

/** Throws INVALID_ARGUMENT, or what `require` throws for a capability that the broker does not have. */
export function planPublish(
  messages: readonly Message[],
  options: PublishOptions,
  require: (capability: keyof Capabilities, what: string) => void,
): PublishPlan {
  checkPublishOptions(options);
  if (!Array.isArray(messages)) {
    throw new RivuletError('INVALID_ARGUMENT', 'a batch is an array of messages');
  }
  const { dedupId, delayMs, deliverAt, maxLength } = options;
  if (dedupId !== undefined) {
    require('dedup', 'publishing with a dedupId');
    if (messages.length > 1) {
      throw new RivuletError(
        'INVALID_ARGUMENT',
        'a dedupId belongs to one message, not to a batch: publish each message by itself',
      );
    }
  }
  const delayed = deliverAt !== undefined || (delayMs ?? 0) > 0;
  if (delayed) require('delayedPublish', 'delayed publishing');
  return {
    dedupId: dedupId ?? null,
    delayMs: delayMs !== undefined && delayMs > 0 ? delayMs : null,
    deliverAt: deliverAt?.getTime() ?? null,
    maxLength: maxLength ?? null,
    mark: undefined,
    ids: undefined,
    ended: undefined,
  };
}
