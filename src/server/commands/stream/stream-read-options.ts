/**
 * The options of XREAD and XREADGROUP.
 *
 * Holds: one scratch object, refilled by every call, so that parsing allocates nothing.
 * Source: xreadCommand; MAXCOUNT and MAXSIZE as Redis 8.10 documents them (redis/redis#15282).
 */
import type { Arguments } from '../../../util/arguments.ts';
import type { KeySpec } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { fail, NOT_AN_INTEGER, readTimeout, SYNTAX } from '../common.ts';

export class ReadOptions {
  /** Per stream; 0 = no limit. */
  count = 0;
  /** Over all streams of the call; 0 = no limit. */
  maxCount = 0;
  /** Bytes of reply after which no further entry starts; 0 = no limit. */
  maxSize = 0;
  /** Milliseconds to wait, 0 = forever, -1 = do not wait. */
  block = -1;
  /** Least idle time of pending entries to claim, -1 = claim none. */
  claim = -1;
  /**
   * How many entries the consumer hands to its handlers at once; the delivery count of the others does
   * not rise, because they are fetched ahead. -1 = all count. An addition to Redis, with CLAIM alone.
   */
  handover = -1;
  noAck = false;
  /** The argument with the group's name; the consumer's follows it. 0 = none given. */
  groupAt = 0;
  /** The argument with the first key. */
  keysAt = 0;
  /** Number of keys; the ids follow the keys. */
  streams = 0;

  get idsAt(): number {
    return this.keysAt + this.streams;
  }

  /** Returns false after it has written an error. */
  read(session: Session, forGroup: boolean): boolean {
    this.#reset();
    const { args } = session;
    for (let i = 1; i < args.count; i++) {
      const more = args.count - 1 - i;
      if (more > 0 && args.is(i, 'COUNT')) {
        const count = args.integer(++i);
        if (count === null) return fail(session, NOT_AN_INTEGER);
        this.count = Math.max(count, 0);
      } else if (more > 0 && args.is(i, 'BLOCK')) {
        if (!this.#readBlock(session, ++i)) return false;
      } else if (more > 1 && args.is(i, 'GROUP')) {
        if (!forGroup) return fail(session, onlyForGroups('GROUP'));
        this.groupAt = i + 1;
        i += 2;
      } else if (args.is(i, 'NOACK')) {
        if (!forGroup) return fail(session, onlyForGroups('NOACK'));
        this.noAck = true;
      } else if (more > 0 && args.is(i, 'CLAIM')) {
        if (!forGroup) return fail(session, onlyForGroups('CLAIM'));
        if (!this.#readClaim(session, ++i)) return false;
      } else if (more > 0 && args.is(i, 'HANDOVER')) {
        if (!forGroup) return fail(session, onlyForGroups('HANDOVER'));
        const handover = args.integer(++i);
        if (handover === null || handover < 0) {
          return fail(session, 'ERR HANDOVER must be a whole number, 0 or more');
        }
        this.handover = handover;
      } else if (more > 0 && args.is(i, 'MAXCOUNT')) {
        this.maxCount = args.integer(++i) ?? 0;
        if (this.maxCount <= 0) return fail(session, 'ERR MAXCOUNT must be a positive integer');
      } else if (more > 0 && args.is(i, 'MAXSIZE')) {
        this.maxSize = args.integer(++i) ?? 0;
        if (this.maxSize <= 0) return fail(session, 'ERR MAXSIZE must be a positive integer');
      } else if (more > 0 && args.is(i, 'STREAMS')) {
        this.keysAt = i + 1;
        break;
      } else {
        return fail(session, SYNTAX);
      }
    }
    return this.#check(session, forGroup);
  }

  #reset(): void {
    this.count = 0;
    this.maxCount = 0;
    this.maxSize = 0;
    this.block = -1;
    this.claim = -1;
    this.handover = -1;
    this.noAck = false;
    this.groupAt = 0;
    this.keysAt = 0;
    this.streams = 0;
  }

  #readBlock(session: Session, at: number): boolean {
    const block = readTimeout(session, at);
    if (block === null) return false;
    if (block > LARGEST_INTEGER - session.engine.now) {
      return fail(session, 'ERR timeout is out of range');
    }
    this.block = block;
    return true;
  }

  #readClaim(session: Session, at: number): boolean {
    const claim = session.args.integer(at);
    if (claim === null) return fail(session, 'ERR min-idle-time is not an integer or out of range');
    if (claim < 0) return fail(session, 'ERR min-idle-time must be a positive integer');
    this.claim = claim;
    return true;
  }

  #check(session: Session, forGroup: boolean): boolean {
    const { args } = session;
    if (this.keysAt === 0) return fail(session, SYNTAX);
    const rest = args.count - this.keysAt;
    if (rest % 2 !== 0) {
      return fail(
        session,
        forGroup
          ? "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."
          : "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', or '$' must be specified.",
      );
    }
    this.streams = rest / 2;
    if (forGroup && this.groupAt === 0) {
      return fail(session, 'ERR Missing GROUP option for XREADGROUP');
    }
    if (this.handover >= 0 && this.claim < 0) return fail(session, 'ERR HANDOVER needs CLAIM');
    if (this.maxCount > 0 && this.count > this.maxCount) {
      return fail(session, 'ERR MAXCOUNT must be greater than or equal to COUNT');
    }
    return true;
  }
}

/** The keys of XREAD and XREADGROUP, for COMMAND GETKEYS and ACL. */
export function readKeys(startFrom: number): KeySpec {
  return {
    first: 0,
    last: 0,
    step: 0,
    flags: ['RO', 'access'],
    find: findReadKeys,
    keyword: { word: 'STREAMS', startFrom },
  };
}

/** The indices of the keys: the first half of what follows STREAMS. */
function findReadKeys(args: Arguments): number[] {
  for (let i = 1; i < args.count; i++) {
    if (args.is(i, 'GROUP')) i += 2;
    else if (TAKES_ONE.some((option) => args.is(i, option))) i += 1;
    else if (args.is(i, 'STREAMS')) {
      const streams = Math.floor((args.count - i - 1) / 2);
      return Array.from({ length: streams }, (_, n) => i + 1 + n);
    }
  }
  return [];
}

const TAKES_ONE = ['BLOCK', 'COUNT', 'CLAIM', 'HANDOVER', 'MAXCOUNT', 'MAXSIZE'];
const LARGEST_INTEGER = 2 ** 63;

function onlyForGroups(option: string): string {
  return `ERR The ${option} option is only supported by XREADGROUP. You called XREAD instead.`;
}
