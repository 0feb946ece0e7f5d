/**
 * One topic as one subscription reads it: its group, its policy, its position.
 */
import { type Reply, ReplyError, ReplyMap } from '../../client/reply.ts';
import type { Position } from '../broker.ts';
import { compositeName } from '../names.ts';
import {
  deadLetterTopic,
  deadlineGraceMs,
  type ResolvedSubscribeOptions,
} from '../options/options.ts';
import type { Command, RemoteClient } from './remote-client.ts';

/** The highest sequence of an id: an id with it is after all messages of its millisecond. */
const HIGHEST_SEQUENCE = '18446744073709551615';

export class RemoteTopic {
  readonly topic: string;
  readonly group: string;
  /** The key that names the leader of an ordered group. */
  readonly leaderKey: string;
  /** The last new id that was read: a lost group is created again at this position. */
  lastId: string | null = null;
  /** Whether deliveries from before this connection have still to be claimed. */
  recovering = true;
  leading = false;
  readonly #options: ResolvedSubscribeOptions;

  constructor(topic: string, group: string, options: ResolvedSubscribeOptions) {
    this.topic = topic;
    this.group = group;
    this.#options = options;
    this.leaderKey = compositeName('leader', group, topic);
  }

  /**
   * Creates the group where it is missing; an existing one keeps its position. Sets this
   * subscription's policy. True where the group was missing.
   */
  async ensure(client: RemoteClient, from: string): Promise<boolean> {
    const { topic, group } = this;
    const [made, set] = (await client.pipeline([
      ['XGROUP', 'CREATE', topic, group, from, 'MKSTREAM'],
      policyCommand(topic, group, this.#options),
    ])) as [Reply, Reply];
    if (made instanceof ReplyError && made.prefix !== 'BUSYGROUP') throw made;
    if (set instanceof ReplyError) throw set;
    return !(made instanceof ReplyError);
  }

  /**
   * Creates a lost group again at its last position, or at the start where the topic is new too. True
   * where the group was missing.
   */
  async restore(client: RemoteClient): Promise<boolean> {
    const { lastId } = this;
    if (lastId === null) return this.ensure(client, '0');
    const [facts] = (await client.pipeline([['XINFO', 'STREAM', this.topic]])) as [Reply];
    const last = facts instanceof ReplyMap ? facts.get('last-generated-id') : undefined;
    const isSame = last !== undefined && compareIds(String(last), lastId) >= 0;
    return this.ensure(client, isSame ? lastId : '0');
  }
}

/** What the server does for a subscription's group. */
function policyCommand(topic: string, group: string, options: ResolvedSubscribeOptions): Command {
  const { minMs, maxMs, factor, jitter } = options.backoff;
  const dead = deadLetterTopic(topic, options);
  return [
    ...['XGROUP', 'SETPOLICY', topic, group],
    ...['ACKWAIT', serverAckWaitMs(options), 'MAXDELIVERIES', options.attempts],
    ...['BACKOFF', Math.round(minMs), Math.max(Math.round(minMs), Math.round(maxMs)), factor],
    ...(jitter ? ['JITTER'] : []),
    ...(dead === null ? ['NODEADLETTER'] : ['DEADLETTER', dead]),
  ];
}

/** After how long the server delivers an unsettled message to another consumer, ms. */
export function serverAckWaitMs({
  ackWaitMs,
}: Pick<ResolvedSubscribeOptions, 'ackWaitMs'>): number {
  return Math.ceil(ackWaitMs) + deadlineGraceMs(ackWaitMs);
}

/** A position as the id after which a group begins. */
export function toId(position: Position): string {
  if (position === 'new') return '$';
  if (position === 'earliest') return '0';
  if ('id' in position) return position.id;
  const ms = Math.max(1, position.time.getTime());
  return `${ms - 1}-${HIGHEST_SEQUENCE}`;
}

function compareIds(a: string, b: string): number {
  const [aMs = '0', aSeq = '0'] = a.split('-');
  const [bMs = '0', bSeq = '0'] = b.split('-');
  const ms = BigInt(aMs) - BigInt(bMs);
  const difference = ms === 0n ? BigInt(aSeq) - BigInt(bSeq) : ms;
  return difference === 0n ? 0 : difference < 0n ? -1 : 1;
}

/** The time in an id, Unix milliseconds. */
export function timeOf(id: string): number {
  return Number(id.slice(0, id.indexOf('-')));
}
