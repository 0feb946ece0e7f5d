/**
 * One topic of one subscription: its keys, its group's position, and when it is scanned next.
 *
 * Invariant: a group that was lost is made again after the last message that was read here, or from the
 * start if the stream is a new one. Cost: one object.
 */
import type { Position } from 'rivulet/adapter';
import { type Connection, isGroupLost } from '../connection.ts';
import type { Keys } from '../keys.ts';

export class GroupTopic {
  readonly topic: string;
  readonly stream: string;
  readonly deadlines: string;
  readonly leader: string;
  readonly group: string;
  /** The last id that was read. */
  lastId: string | null = null;
  /** Where the scan for idle messages continues. */
  cursor = '-';
  /** Monotonic time of the next scan for due or idle messages. */
  nextLook = 0;
  /** Messages that were delivered before this connection are still to be claimed, after this id. */
  recoverAfter: string | null = '';
  leading = false;
  /** Monotonic time until which it is skipped, because the server refused to read it. */
  restsUntil = 0;
  /** The last id that was delivered to the group, as of the last sweep. */
  upTo = '0';

  constructor(keys: Keys, topic: string, group: string) {
    this.topic = topic;
    this.group = group;
    this.stream = keys.stream(topic);
    this.deadlines = keys.deadlines(topic, group);
    this.leader = keys.leader(topic, group);
  }

  /**
   * Makes the group unless it exists. Resolves to `there`, `made`, or `no topic` if there is no stream
   * and `makeStream` is false.
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

  /** Makes a lost group again at its last position, or at the start if the stream is a new one. */
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

/** The Unix time in ms of an id. */
export function timeOf(id: Uint8Array): number {
  let ms = 0;
  for (let i = 0; i < id.length && id[i] !== DASH; i++) ms = ms * 10 + id[i] - ZERO;
  return ms;
}

const DASH = 0x2d;
const ZERO = 0x30;
