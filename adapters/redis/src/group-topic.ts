/**
 * One topic as one subscription reads it: its keys, where its group stands, what is due when.
 */
import type { Position } from 'rivulet';
import { type Connection, isGroupLost } from './connection.ts';
import type { Keys } from './keys.ts';

export class GroupTopic {
  readonly topic: string;
  readonly stream: string;
  readonly deadlines: string;
  readonly leader: string;
  readonly group: string;
  /** The last id that came; where a group that was lost is made anew. */
  lastId: string | null = null;
  /** Where the search for idle messages goes on. */
  cursor = '-';
  /** Monotonic time of the next look at what is due or idle. */
  nextLook = 0;
  /** What was delivered before this connection has still to be taken over; after this id. */
  recoverAfter: string | null = '';
  leading = false;
  /** Monotonic time until which it is left alone, because the server refuses to read it. */
  restsUntil = 0;
  /** Up to where the group has been given what the stream holds, as the last sweep has seen it. */
  upTo = '0';

  constructor(keys: Keys, topic: string, group: string) {
    this.topic = topic;
    this.group = group;
    this.stream = keys.stream(topic);
    this.deadlines = keys.deadlines(topic, group);
    this.leader = keys.leader(topic, group);
  }

  /**
   * Makes the group where it is missing; an existing one keeps its place. Answers what it did: `there`,
   * `made`, or `no topic` where there is no stream and none is to be made.
   */
  async ensure(
    commands: Connection,
    from: string,
    makeStream: boolean,
  ): Promise<'there' | 'made' | 'no topic'> {
    try {
      const how = makeStream ? ['MKSTREAM'] : [];
      await commands.call('XGROUP', 'CREATE', this.stream, this.group, from, ...how);
      return 'made';
    } catch (error) {
      const { message } = error as Error;
      if (message.startsWith('BUSYGROUP')) return 'there';
      if (!makeStream && /requires the key to exist|no such key/.test(message)) return 'no topic';
      throw error;
    }
  }

  /**
   * Makes a lost group anew where it stood, or from the start when the stream is a new one too.
   */
  async restore(commands: Connection, makeStream: boolean): Promise<'there' | 'made' | 'no topic'> {
    let from = this.lastId ?? '0';
    if (this.lastId !== null) {
      try {
        const facts = (await commands.call('XINFO', 'STREAM', this.stream)) as unknown[];
        const at = facts.findIndex((fact) => String(fact) === 'last-generated-id');
        if (compareIds(String(facts[at + 1]), this.lastId) < 0) from = '0';
      } catch (error) {
        if (!isGroupLost(error) && !/no such key/.test((error as Error).message)) throw error;
        from = '0';
      }
    }
    return this.ensure(commands, from, makeStream);
  }
}

/** A position as the id after which a group begins. */
export function toId(position: Position): string {
  if (position === 'new') return '$';
  if (position === 'earliest') return '0';
  if ('id' in position) return position.id;
  const ms = Math.max(1, position.time.getTime());
  return `${ms - 1}-18446744073709551615`;
}

export function compareIds(a: string, b: string): number {
  const [aMs = '0', aSeq = '0'] = a.split('-');
  const [bMs = '0', bSeq = '0'] = b.split('-');
  const ms = BigInt(aMs) - BigInt(bMs);
  const difference = ms === 0n ? BigInt(aSeq) - BigInt(bSeq) : ms;
  return difference === 0n ? 0 : difference < 0n ? -1 : 1;
}

/** The milliseconds that an id was made at. */
export function timeOf(id: Uint8Array): number {
  let ms = 0;
  for (let i = 0; i < id.length && id[i] !== DASH; i++) ms = ms * 10 + id[i] - ZERO;
  return ms;
}

const DASH = 0x2d;
const ZERO = 0x30;
