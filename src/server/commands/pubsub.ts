/**
 * Publish/subscribe: PUBLISH, SUBSCRIBE, PSUBSCRIBE, their opposites, PUBSUB, and the sharded ones.
 *
 * A server that is no cluster has one shard, so SPUBLISH and SSUBSCRIBE differ from the others in
 * their names only. Source: Redis 7.0 pubsub.c.
 */
import type { Channels } from '../../engine/keyspace/channels.ts';
import { globMatches } from '../../util/glob.ts';
import type { Command, CommandFlag } from '../command/command.ts';
import { everyKey, keyAt } from '../command/key-specs.ts';
import { type SubscriptionKind, Subscriptions } from '../command/subscriptions.ts';
import type { Session } from '../connection/session.ts';
import { replyHelp, wrongSubcommand } from './common.ts';

function publish(session: Session, channels: Channels): void {
  const { args, reply } = session;
  // Subscribers' output is written during the call, so views are enough.
  reply.integer(channels.publish(args.view(1), args.view(2)));
}

/** The session's own; made at its first subscription. */
function subscriptionsOf(session: Session): Subscriptions {
  session.subscriptions ??= new Subscriptions(session);
  return session.subscriptions;
}

function subscribe(session: Session, kind: SubscriptionKind, word: string): void {
  const { args, reply } = session;
  // As in Redis: EXEC accepts SUBSCRIBE and PSUBSCRIBE only.
  if (kind === 'shard' && session.denyBlocking) {
    reply.error("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
    return;
  }
  const subscriptions = subscriptionsOf(session);
  for (let i = 1; i < args.count; i++) {
    const name = args.copy(i);
    subscriptions.add(kind, name);
    reply.push(3);
    reply.bulkText(word);
    reply.bulk(name);
    reply.integer(subscriptions.count(kind));
  }
}

function unsubscribe(session: Session, kind: SubscriptionKind, word: string): void {
  const { args, reply } = session;
  const subscriptions = subscriptionsOf(session);
  let names = subscriptions.list(kind);
  if (args.count > 1) {
    names = [];
    for (let i = 1; i < args.count; i++) names.push(args.copy(i));
  }
  for (const name of names) {
    subscriptions.delete(kind, name);
    reply.push(3);
    reply.bulkText(word);
    reply.bulk(name);
    reply.integer(subscriptions.count(kind));
  }
  if (names.length === 0) {
    reply.push(3);
    reply.bulkText(word);
    reply.null();
    reply.integer(subscriptions.count(kind));
  }
}

function listChannels(session: Session, channels: Channels): void {
  const { args, reply } = session;
  if (args.count > 3) {
    wrongSubcommand(session, 'PUBSUB');
    return;
  }
  const pattern = args.count === 3 ? args.view(2) : null;
  const mark = reply.deferred();
  let count = 0;
  for (const name of channels.channelNames()) {
    if (pattern !== null && !globMatches(pattern, name)) continue;
    reply.bulk(name);
    count++;
  }
  reply.setLength(mark, count);
}

function countSubscribers(session: Session, channels: Channels): void {
  const { args, reply } = session;
  reply.array((args.count - 2) * 2);
  for (let i = 2; i < args.count; i++) {
    reply.bulk(args.view(i));
    reply.integer(channels.subscribers(args.view(i)));
  }
}

const FLAGS: readonly CommandFlag[] = ['pubsub', 'noscript', 'loading', 'stale'];
const LOOK: readonly CommandFlag[] = ['pubsub', 'loading', 'stale'];
const PUBLISH: readonly CommandFlag[] = ['pubsub', 'loading', 'stale', 'fast'];

function subscribeRow(name: string, kind: SubscriptionKind, since: string): Command {
  return {
    name,
    arity: -2,
    flags: FLAGS,
    group: 'pubsub',
    since,
    summary: `Subscribes to ${kind === 'pattern' ? 'all channels that match patterns' : `${kind === 'shard' ? 'shard ' : ''}channels`}.`,
    complexity: 'O(N) of names',
    ...(kind === 'shard' ? { keys: everyKey('not_key') } : {}),
    run: (session) => subscribe(session, kind, name),
  };
}

function unsubscribeRow(name: string, kind: SubscriptionKind, since: string): Command {
  return {
    name,
    arity: -1,
    flags: FLAGS,
    group: 'pubsub',
    since,
    summary: `Unsubscribes from ${kind === 'pattern' ? 'patterns' : `${kind === 'shard' ? 'shard ' : ''}channels`}; from all when none is named.`,
    complexity: 'O(N) of names',
    ...(kind === 'shard' ? { keys: everyKey('not_key') } : {}),
    run: (session) => unsubscribe(session, kind, name),
  };
}

function lookRow(
  name: string,
  arity: number,
  since: string,
  summary: string,
  run: (session: Session) => void,
): Command {
  return {
    name: `pubsub|${name}`,
    arity,
    flags: LOOK,
    group: 'pubsub',
    since,
    summary,
    complexity: 'O(N) of channels',
    run,
  };
}

function help(session: Session): void {
  replyHelp(session, 'PUBSUB', [
    'CHANNELS [<pattern>]',
    '    List the channels that have subscribers.',
    'NUMPAT',
    '    Count the patterns that have subscribers.',
    'NUMSUB [<channel> ...]',
    '    Count the subscribers of each channel, without those of patterns.',
    'SHARDCHANNELS [<pattern>]',
    '    List the shard channels that have subscribers.',
    'SHARDNUMSUB [<shardchannel> ...]',
    '    Count the subscribers of each shard channel.',
  ]);
}

export const pubsubCommands: readonly Command[] = [
  subscribeRow('psubscribe', 'pattern', '2.0.0'),
  {
    name: 'publish',
    arity: 3,
    flags: PUBLISH,
    group: 'pubsub',
    since: '2.0.0',
    summary: 'Sends a message to the present subscribers of a channel.',
    complexity: 'O(N+M) of listeners and patterns',
    run: (session) => publish(session, session.engine.channels),
  },
  {
    name: 'pubsub',
    arity: -2,
    flags: [],
    group: 'pubsub',
    since: '2.8.0',
    summary: 'A container for commands about subscriptions.',
    subcommands: [
      lookRow('channels', -2, '2.8.0', 'Lists channels that have subscribers.', (session) =>
        listChannels(session, session.engine.channels),
      ),
      {
        name: 'pubsub|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'pubsub',
        since: '6.2.0',
        summary: 'Lists the subcommands.',
        complexity: 'O(1)',
        run: help,
      },
      lookRow('numpat', 2, '2.8.0', 'Counts patterns that have subscribers.', (session) =>
        session.reply.integer(session.engine.channels.patternCount),
      ),
      lookRow('numsub', -2, '2.8.0', 'Counts the subscribers of channels.', (session) =>
        countSubscribers(session, session.engine.channels),
      ),
      lookRow('shardchannels', -2, '7.0.0', 'Lists shard channels that have subscribers.', (s) =>
        listChannels(s, s.engine.shardChannels),
      ),
      lookRow('shardnumsub', -2, '7.0.0', 'Counts the subscribers of shard channels.', (session) =>
        countSubscribers(session, session.engine.shardChannels),
      ),
    ],
  },
  unsubscribeRow('punsubscribe', 'pattern', '2.0.0'),
  {
    name: 'spublish',
    arity: 3,
    flags: PUBLISH,
    keys: keyAt(1, 'not_key'),
    group: 'pubsub',
    since: '7.0.0',
    summary: 'Sends a message to the present subscribers of a shard channel.',
    complexity: 'O(N) of listeners',
    run: (session) => publish(session, session.engine.shardChannels),
  },
  subscribeRow('ssubscribe', 'shard', '7.0.0'),
  subscribeRow('subscribe', 'channel', '2.0.0'),
  unsubscribeRow('sunsubscribe', 'shard', '7.0.0'),
  unsubscribeRow('unsubscribe', 'channel', '2.0.0'),
];
