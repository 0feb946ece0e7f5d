/**
 * The options that XADD and XTRIM share: which entries are removed (MAXLEN, MINID, `=`, `~`, LIMIT) and what
 * happens to references to them (KEEPREF, DELREF, ACKED); and XADD's own NOMKSTREAM, IDMP, IDMPAUTO,
 * DELAY, AT and IFLAST (the last three are not Redis's).
 *
 * Holds: one scratch object per command, refilled by every call, so that parsing allocates nothing.
 * Options may be in any order; for XADD the first argument that is not an option is the id.
 * Source: streamParseAddOrTrimArgsOrReply.
 */
import type { DueTime } from '../../../engine/schedule/scheduled-queue.ts';
import type { References } from '../../../engine/streams/stream-entries.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import type { Session } from '../../connection/session.ts';
import { fail, NOT_AN_INTEGER, SYNTAX } from '../common.ts';
import { INVALID_ID, isCharacter, readStrictId } from './stream-ids.ts';
import { readReferences } from './stream-references.ts';

const ASTERISK = 42;
const TILDE = 126;
const EQUALS = 61;
const DASH = 45;
/** In the year 10889; integers are exact up to 2^53. */
const LATEST_DUE = 2 ** 48;
/** LIMIT's default: the entries of a hundred nodes, between these bounds. */
const DEFAULT_LIMIT = 10_000;
const LARGEST_LIMIT = 1_000_000;

export class TrimOptions {
  strategy: 'none' | 'maxlen' | 'minid' = 'none';
  maxlen = 0;
  readonly minid = new StreamId();
  approximate = false;
  /** Most entries to remove; 0 = no limit. */
  limit = 0;
  references: References = 'keepref';

  // XADD only.
  makeStream = true;
  /** The argument with the id. */
  idAt = 0;
  /** `*` = the server generates both halves; `ms-*` = it generates the sequence. */
  idKind: 'given' | 'auto' | 'auto-sequence' = 'auto';
  readonly id = new StreamId();
  /** The argument with the producer's id; 0 = no IDMP. */
  producerAt = 0;
  /** The argument with the idempotent id; 0 = IDMPAUTO. */
  idempotentAt = 0;
  /** When to add the entry; null = now. */
  due: DueTime | null = null;
  /** With IFLAST: the id that the stream must have generated last, in `last`. */
  ifLast = false;
  readonly last = new StreamId();

  /** Returns false after it has written an error. */
  read(session: Session, forAdd: boolean, nodeMaxEntries: number): boolean {
    this.#reset();
    const { args } = session;
    let referencesGiven = false;
    let limitGiven = false;
    let i = 2;
    for (; i < args.count; i++) {
      const more = args.count - 1 - i;
      if (forAdd && isCharacter(args, i, ASTERISK)) break;
      if (more > 0 && (args.is(i, 'MAXLEN') || args.is(i, 'MINID'))) {
        i = this.#readThreshold(session, i);
        if (i === 0) return false;
      } else if (more > 0 && args.is(i, 'LIMIT')) {
        const limit = args.integer(++i);
        if (limit === null) return fail(session, NOT_AN_INTEGER);
        if (limit < 0) return fail(session, 'ERR The LIMIT argument must be >= 0.');
        this.limit = limit;
        limitGiven = true;
      } else if (!referencesGiven && this.#readReferences(session, i)) {
        referencesGiven = true;
      } else if (forAdd && args.is(i, 'NOMKSTREAM')) {
        this.makeStream = false;
      } else if (forAdd && more > 0 && (args.is(i, 'DELAY') || args.is(i, 'AT'))) {
        if (!this.#readDue(session, i)) return false;
        i += 1;
      } else if (forAdd && more > 0 && args.is(i, 'IFLAST')) {
        if (this.ifLast) return fail(session, 'ERR syntax error, IFLAST specified multiple times');
        if (!readStrictId(session, ++i, this.last)) return false;
        this.ifLast = true;
      } else if (forAdd && more > 0 && args.is(i, 'IDMPAUTO')) {
        if (!this.#readProducer(session, i, 'IDMPAUTO')) return false;
        i += 1;
      } else if (forAdd && more > 1 && args.is(i, 'IDMP')) {
        if (!this.#readProducer(session, i, 'IDMP')) return false;
        i += 2;
      } else if (forAdd) {
        if (!this.#readId(session, i)) return false;
        break;
      } else {
        return fail(session, SYNTAX);
      }
    }
    this.idAt = i;
    return this.#check(session, forAdd, limitGiven, nodeMaxEntries);
  }

  #reset(): void {
    this.strategy = 'none';
    this.approximate = false;
    this.limit = 0;
    this.references = 'keepref';
    this.makeStream = true;
    this.idKind = 'auto';
    this.producerAt = 0;
    this.idempotentAt = 0;
    this.due = null;
    this.ifLast = false;
  }

  /** `DELAY ms` or `AT unix-ms`. */
  #readDue(session: Session, i: number): boolean {
    const { args, engine } = session;
    if (this.due !== null)
      return fail(session, 'ERR syntax error, DELAY and AT exclude each other');
    const given = args.integer(i + 1);
    if (given === null) return fail(session, NOT_AN_INTEGER);
    const isDelay = args.is(i, 'DELAY');
    const date = isDelay ? engine.now + given : given;
    if (given < 0 || date > LATEST_DUE) return fail(session, 'ERR invalid time to add an entry at');
    this.due = { at: isDelay ? engine.steady + given : given, isDelay };
    return true;
  }

  /** Returns the index of the threshold, or 0 after an error. */
  #readThreshold(session: Session, i: number): number {
    const { args } = session;
    if (this.strategy !== 'none') {
      fail(
        session,
        'ERR syntax error, MAXLEN and MINID options at the same time are not compatible',
      );
      return 0;
    }
    const maxlen = args.is(i, 'MAXLEN');
    this.approximate = false;
    if (i + 2 < args.count) {
      if (isCharacter(args, i + 1, TILDE)) {
        this.approximate = true;
        i++;
      } else if (isCharacter(args, i + 1, EQUALS)) {
        i++;
      }
    }
    i++;
    if (!maxlen) {
      if (!readStrictId(session, i, this.minid)) return 0;
      this.strategy = 'minid';
      return i;
    }
    const count = args.integer(i);
    if (count === null || count < 0) {
      fail(session, count === null ? NOT_AN_INTEGER : 'ERR The MAXLEN argument must be >= 0.');
      return 0;
    }
    this.maxlen = count;
    this.strategy = 'maxlen';
    return i;
  }

  #readReferences(session: Session, i: number): boolean {
    const references = readReferences(session, i);
    if (references === null) return false;
    this.references = references;
    return true;
  }

  #readProducer(session: Session, i: number, option: 'IDMP' | 'IDMPAUTO'): boolean {
    const { lengths } = session.args;
    if (this.producerAt !== 0) {
      return fail(session, 'ERR syntax error, IDMP/IDMPAUTO specified multiple times');
    }
    if (lengths[i + 1] === 0) {
      return fail(session, `ERR syntax error, ${option} requires a non-empty producer ID`);
    }
    if (option === 'IDMP' && lengths[i + 2] === 0) {
      return fail(session, 'ERR syntax error, IDMP requires a non-empty idempotent ID');
    }
    this.producerAt = i + 1;
    this.idempotentAt = option === 'IDMP' ? i + 2 : 0;
    return true;
  }

  #readId(session: Session, i: number): boolean {
    const { args } = session;
    const from = args.offsets[i];
    const length = args.lengths[i];
    const { buffer } = args;
    // `ms-*`: what comes before the last two characters must be a number.
    this.idKind = 'given';
    if (
      length > 2 &&
      buffer[from + length - 1] === ASTERISK &&
      buffer[from + length - 2] === DASH
    ) {
      if (!readMilliseconds(buffer, from, length - 2, this.id)) return fail(session, INVALID_ID);
      this.idKind = 'auto-sequence';
    } else if (!this.id.read(buffer, from, length)) {
      return fail(session, INVALID_ID);
    }
    if (this.due !== null) {
      return fail(
        session,
        'ERR syntax error, DELAY and AT can be used only with auto-generated IDs',
      );
    }
    if (this.producerAt === 0) return true;
    return fail(
      session,
      'ERR syntax error, IDMP/IDMPAUTO can be used only with auto-generated IDs',
    );
  }

  #check(session: Session, forAdd: boolean, limitGiven: boolean, nodeMaxEntries: number): boolean {
    if (this.strategy === 'none') {
      if (this.limit > 0) {
        return fail(
          session,
          'ERR syntax error, LIMIT cannot be used without specifying a trimming strategy',
        );
      }
      if (!forAdd) {
        return fail(session, 'ERR syntax error, XTRIM must be called with a trimming strategy');
      }
    }
    if (limitGiven) {
      if (this.approximate) return true;
      return fail(session, 'ERR syntax error, LIMIT cannot be used without the special ~ option');
    }
    if (this.approximate) {
      const limit = nodeMaxEntries * 100;
      this.limit = limit <= 0 ? DEFAULT_LIMIT : Math.min(limit, LARGEST_LIMIT);
    }
    return true;
  }
}

function readMilliseconds(buffer: Buffer, from: number, length: number, id: StreamId): boolean {
  for (let i = from; i < from + length; i++) if (buffer[i] === DASH) return false;
  return id.read(buffer, from, length);
}
