/**
 * Where Rivulet means to differ from an older redis-server. Everything else is a bug.
 *
 * Rivulet follows Redis 8.10; the rows are what changed since 7.0, each with the version that brought
 * it: from that one on the row explains nothing.
 */
import { fieldsOf, type ReplyTree, removeFields, serialiseTree } from './reply-tree.ts';

export interface KnownDifference {
  readonly what: string;
  readonly reason: string;
  /** The version of Redis that does it as Rivulet does. */
  readonly since: number;
  /** Brings Rivulet's reply to the form of the older server where the difference is one of form. */
  readonly translate?: (rivulet: ReplyTree, args: readonly string[]) => void;
  /** Whether these two replies differ for this reason. */
  readonly explains?: (redis: ReplyTree, rivulet: ReplyTree, args: readonly string[]) => boolean;
  /** Whether redis-server served a blocked reader with this, for this reason, and Rivulet did not. */
  readonly explainsServing?: (redis: ReplyTree, args: readonly string[]) => boolean;
  /** The data differs from here on, so the sequence ends without a verdict. */
  readonly partsWays?: boolean;
}

export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    what: 'XINFO STREAM: the fields about idempotent producers',
    reason: 'new in Redis 8.6',
    since: 8.6,
    translate: (rivulet, args) => {
      if (isXinfo(args, 'STREAM')) removeFields(rivulet, IDEMPOTENCY_FIELDS);
    },
  },
  {
    what: 'XINFO STREAM FULL: nacked-count of a group',
    reason: 'new in Redis 8.8',
    since: 8.8,
    translate: (rivulet, args) => {
      if (!isXinfo(args, 'STREAM')) return;
      const groups = fieldsOf(rivulet).find(([name]) => name === 'groups')?.[1].items ?? [];
      for (const group of groups) removeFields(group, ['nacked-count']);
    },
  },
  {
    what: 'XINFO STREAM FULL: active-time of a consumer',
    reason: 'new in Redis 7.2',
    since: 7.2,
    translate: (rivulet, args) => {
      if (!isXinfo(args, 'STREAM')) return;
      const groups = fieldsOf(rivulet).find(([name]) => name === 'groups')?.[1].items ?? [];
      for (const group of groups) {
        const consumers = fieldsOf(group).find(([name]) => name === 'consumers')?.[1].items ?? [];
        for (const consumer of consumers) removeFields(consumer, ['active-time']);
      }
    },
  },
  {
    what: 'XSETID below the largest deleted id is refused',
    reason: 'checked since Redis 7.2; 7.0 accepts it, or finds another fault',
    since: 7.2,
    explains: (_, rivulet, args) =>
      args[0].toUpperCase() === 'XSETID' &&
      rivulet.text ===
        'ERR The ID specified in XSETID is smaller than current max_deleted_entry_id',
    partsWays: true,
  },
  {
    what: 'XREAD blocked, woken by an entry that was trimmed in the same command: goes on waiting',
    reason: 'since Redis 7.2 it is woken by entries that are there; 7.0 answers with an empty list',
    since: 7.2,
    explainsServing: (redis, args) =>
      /^XREAD(GROUP)?$/i.test(args[0]) &&
      streamsIn(redis).every(([, entries]) => entries.items?.length === 0),
    partsWays: true,
  },
  {
    what: 'XREAD blocked on several keys, one of which has become another type: WRONGTYPE',
    reason: 'since Redis 7.2 the command is executed again, all its keys are looked at',
    since: 7.2,
    explains: (redis, rivulet, args) =>
      args[0].toUpperCase() === 'XREAD' &&
      redis.items !== null &&
      /^WRONGTYPE /.test(rivulet.text ?? ''),
  },
  {
    what: 'XREAD blocked on several keys that get entries in one transaction: all of them are returned',
    reason: 'since Redis 7.2 the command is executed again; 7.0 returns the first key alone',
    since: 7.2,
    explains: (redis, rivulet, args) => {
      if (args[0].toUpperCase() !== 'XREAD') return false;
      const [served, ...others] = streamsIn(redis).map(textOfPair);
      const all = streamsIn(rivulet).map(textOfPair);
      return others.length === 0 && all.length > 1 && all.includes(served);
    },
  },
  {
    what: 'lag and entries-read of a group whose next entries were trimmed, or of an empty stream',
    reason:
      'since Redis 8.0 only what is still there counts; 7.0 counts trimmed entries too, or gives up',
    since: 8.2,
    explains: (redis, rivulet, args) =>
      args[0].toUpperCase() === 'XINFO' && differOnlyInLag(redis, rivulet),
  },
  {
    what: 'XADD ms-* after the last sequence of that millisecond: smaller than the top item',
    reason: '7.0 does not set the reason and may say that the elements are too large',
    since: 7.2,
    explains: (redis, rivulet, args) =>
      args[0].toUpperCase() === 'XADD' &&
      redis.text === 'ERR Elements are too large to be stored' &&
      /^ERR The ID specified in XADD is equal or smaller/.test(rivulet.text ?? ''),
  },
  {
    what: 'XREAD, XREADGROUP: the text about an unbalanced list of streams',
    reason: 'changed in Redis 7.4',
    since: 7.4,
    explains: (redis, rivulet) =>
      /^ERR Unbalanced XREAD list of streams/.test(redis.text ?? '') &&
      /^ERR Unbalanced '(xread|xreadgroup)' list of streams/.test(rivulet.text ?? ''),
  },
  {
    what: 'XREADGROUP blocked on a key that is removed or replaced: NOGROUP or WRONGTYPE',
    reason: 'since Redis 7.2 the command is executed again; 7.0 answers UNBLOCKED',
    since: 7.2,
    explains: (redis, rivulet, args) =>
      args[0].toUpperCase() === 'XREADGROUP' &&
      redis.text === 'UNBLOCKED the stream key no longer exists' &&
      /^(NOGROUP No such key|WRONGTYPE )/.test(rivulet.text ?? ''),
  },
  {
    what: 'XREADGROUP blocked in a group that is destroyed: the usual NOGROUP',
    reason: 'since Redis 7.2 the command is executed again; 7.0 has a text of its own',
    since: 7.2,
    explains: (redis, rivulet, args) =>
      args[0].toUpperCase() === 'XREADGROUP' &&
      redis.text === 'NOGROUP the consumer group this client was blocked on no longer exists' &&
      /^NOGROUP No such key/.test(rivulet.text ?? ''),
  },
  {
    what: 'XINFO CONSUMERS: inactive',
    reason: 'new in Redis 7.2',
    since: 7.2,
    translate: (rivulet, args) => {
      if (!isXinfo(args, 'CONSUMERS')) return;
      for (const consumer of rivulet.items ?? []) removeFields(consumer, ['inactive']);
    },
  },
];

/** Equal but for fields that 8.0 counts otherwise: a smaller lag, 0 in place of null, more entries read. */
function differOnlyInLag(redis: ReplyTree, rivulet: ReplyTree): boolean {
  const [items, others] = [redis.items, rivulet.items];
  if (items === null || others === null) return serialiseTree(redis) === serialiseTree(rivulet);
  if (items.length !== others.length) return false;
  return items.every((item, i) => {
    const other = others[i];
    const isNumber = other.type === ':' && Number(other.text) >= 0;
    switch (items[i - 1]?.text) {
      case 'lag':
        if (item.type !== ':')
          return serialiseTree(item) === serialiseTree(other) || other.text === '0';
        return isNumber && Number(other.text) <= Number(item.text);
      case 'entries-read':
        if (item.type !== ':') return serialiseTree(item) === serialiseTree(other);
        return isNumber && Number(other.text) >= Number(item.text);
    }
    return differOnlyInLag(item, other);
  });
}

/** Keys and entries of an XREAD's reply, in either protocol. */
function streamsIn(reply: ReplyTree): [key: ReplyTree, entries: ReplyTree][] {
  const items = reply.items ?? [];
  if (reply.type !== '%') return items.map((pair) => pair.items as [ReplyTree, ReplyTree]);
  return items.flatMap((key, i) => (i % 2 === 0 ? [[key, items[i + 1]]] : [])) as [
    ReplyTree,
    ReplyTree,
  ][];
}

function textOfPair([key, entries]: [ReplyTree, ReplyTree]): string {
  return serialiseTree(key) + serialiseTree(entries);
}

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
