/**
 * Where Rivulet means to differ from redis-server 7.0.15. Everything else is a bug.
 *
 * Rivulet follows Redis 8.10; most rows are what changed between the two.
 */
import { fieldsOf, type ReplyTree, removeFields } from './reply-tree.ts';

export interface KnownDifference {
  readonly what: string;
  readonly reason: string;
  /** Brings Rivulet's reply to the form of 7.0.15 where the difference is one of form. */
  readonly translate?: (rivulet: ReplyTree, args: readonly string[]) => void;
  /** Whether these two replies differ for this reason. */
  readonly explains?: (redis: ReplyTree, rivulet: ReplyTree, args: readonly string[]) => boolean;
}

export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    what: 'XINFO STREAM: the fields about idempotent producers',
    reason: 'new in Redis 8.6',
    translate: (rivulet, args) => {
      if (isXinfo(args, 'STREAM')) removeFields(rivulet, IDEMPOTENCY_FIELDS);
    },
  },
  {
    what: 'XINFO STREAM FULL: nacked-count of a group, active-time of a consumer',
    reason: 'new in Redis 8.8 and 7.2',
    translate: (rivulet, args) => {
      if (!isXinfo(args, 'STREAM')) return;
      const groups = fieldsOf(rivulet).find(([name]) => name === 'groups')?.[1].items ?? [];
      for (const group of groups) {
        removeFields(group, ['nacked-count']);
        const consumers = fieldsOf(group).find(([name]) => name === 'consumers')?.[1].items ?? [];
        for (const consumer of consumers) removeFields(consumer, ['active-time']);
      }
    },
  },
  {
    what: 'XINFO CONSUMERS: inactive',
    reason: 'new in Redis 7.2',
    translate: (rivulet, args) => {
      if (!isXinfo(args, 'CONSUMERS')) return;
      for (const consumer of rivulet.items ?? []) removeFields(consumer, ['inactive']);
    },
  },
];

const IDEMPOTENCY_FIELDS = [
  'idmp-duration',
  'idmp-maxsize',
  'pids-tracked',
  'iids-tracked',
  'iids-added',
  'iids-duplicates',
];

function isXinfo(args: readonly string[], kind: string): boolean {
  return args[0].toUpperCase() === 'XINFO' && args[1]?.toUpperCase() === kind;
}
