/**
 * One session's part in requests and replies: what it hears of them goes into its reply buffer.
 *
 *   request <id> <topic> <part> ...     it is to answer
 *   cancel <id>                         and no longer
 *   reply <id> <part> ...               the last answer to what it asked
 *   more <id> <part> ...                one answer of several
 *   end <id>                            there are no more
 *   failed <id> <code> <text>           there will be none: RESPONDERLOST, TIMEOUT, or the responder's own
 *
 * Pushes in RESP3, arrays in RESP2. Cost: bytes are copied once, from the sender's input to the
 * receiver's output.
 */
import type { Parts } from '../engine/parts.ts';
import type { Party, PartyListener, ReplyKind } from '../engine/responders.ts';
import type { Reply } from './reply.ts';
import type { ExchangeState, Session } from './session.ts';

const REQUEST = Buffer.from('request');
const CANCEL = Buffer.from('cancel');
const FAILED = Buffer.from('failed');
const KINDS: Record<ReplyKind, Buffer> = {
  reply: Buffer.from('reply'),
  more: Buffer.from('more'),
  end: Buffer.from('end'),
};

/** What an unanswered request takes on the server: an object and two map entries. */
const REQUEST_BYTES = 256;

/** The answer to ASK; null = the responder ended without one. */
export type Answer = Parts | { readonly code: string; readonly text: string } | null;

export class Exchange implements ExchangeState, PartyListener<Parts> {
  readonly party: Party<Parts>;
  readonly #session: Session;
  longestSilence = Number.POSITIVE_INFINITY;
  /** What ASK waits for; its answer comes as the command's reply, not as a push. */
  #asked: { readonly id: number; readonly answered: (answer: Answer) => void } | null = null;
  /** A request was not sent to it, because it does not read. */
  #isFull = false;
  /** Names of the topics that it answers on, as bytes. */
  readonly #topics = new Map<string, Buffer>();

  private constructor(session: Session) {
    this.#session = session;
    this.party = session.engine.responders.party(this);
  }

  /** The session's own; made when it first asks or answers. */
  static of(session: Session): Exchange {
    const present = session.exchange;
    if (present instanceof Exchange) return present;
    const made = new Exchange(session);
    session.exchange = made;
    return made;
  }

  get responds(): number {
    return this.party.seats;
  }

  get active(): boolean {
    const { party } = this;
    return party.seats > 0 || party.asked.size > 0 || party.given.size > 0;
  }

  get bytes(): number {
    const { party } = this;
    return party.queuedBytes + (party.asked.size + party.given.size) * REQUEST_BYTES;
  }

  /** The topics that it answers on. */
  get topics(): Iterable<Buffer> {
    return this.#topics.values();
  }

  hasRoom(): boolean {
    if (this.#session.hasRoom) return true;
    this.#isFull = true;
    return false;
  }

  roomAgain(): void {
    if (!this.#isFull || !this.#session.hasRoom) return;
    this.#isFull = false;
    this.party.roomAgain();
  }

  respond(topic: Buffer, group: string, credit: number): boolean {
    const name = topic.toString('latin1');
    if (this.#topics.has(name)) return false;
    // Before the party: a request that waits on the topic is handed over at once.
    this.#topics.set(name, topic);
    return this.party.respond(name, group, credit);
  }

  unrespond(topic: string): boolean {
    this.#topics.delete(topic);
    return this.party.unrespond(topic);
  }

  /** The answer to this request goes to `answered`, during the call only. One at a time. */
  expect(id: number, answered: (answer: Answer) => void): void {
    this.#asked = { id, answered };
  }

  /** Gives up the request that ASK waits for: its answer is not wanted. False when it has ended. */
  giveUp(id: number): boolean {
    if (this.#asked?.id === id) this.#asked = null;
    return this.party.cancel(id);
  }

  clear(): void {
    this.#asked = null;
    this.party.close();
    this.longestSilence = Number.POSITIVE_INFINITY;
    this.#topics.clear();
  }

  request(id: number, topic: string, parts: Parts): void {
    const reply = this.#session.pushes;
    const start = reply.length;
    reply.push(3 + parts.args.count - parts.from);
    reply.bulk(REQUEST);
    reply.integer(id);
    reply.bulk(this.#topics.get(topic) as Buffer);
    this.#end(reply, start, parts);
  }

  cancelled(id: number): void {
    const reply = this.#session.pushes;
    const start = reply.length;
    reply.push(2);
    reply.bulk(CANCEL);
    reply.integer(id);
    this.#session.written(start);
  }

  reply(id: number, kind: ReplyKind, parts: Parts): void {
    if (this.#asked?.id === id) {
      this.#answer(kind === 'end' ? null : parts);
      // Of several the first is wanted.
      if (kind === 'more') this.party.cancel(id);
      return;
    }
    const reply = this.#session.pushes;
    const start = reply.length;
    reply.push(2 + parts.args.count - parts.from);
    reply.bulk(KINDS[kind]);
    reply.integer(id);
    this.#end(reply, start, parts);
  }

  failed(id: number, code: string, text: string): void {
    if (this.#asked?.id === id) {
      this.#answer({ code, text });
      return;
    }
    const reply = this.#session.pushes;
    const start = reply.length;
    reply.push(4);
    reply.bulk(FAILED);
    reply.integer(id);
    reply.bulkText(code);
    reply.bulkText(text);
    this.#session.written(start);
  }

  #answer(answer: Answer): void {
    const asked = this.#asked;
    this.#asked = null;
    asked?.answered(answer);
  }

  #end(reply: Reply, start: number, { args, from }: Parts): void {
    for (let i = from; i < args.count; i++) {
      reply.bulkSlice(args.buffer, args.offsets[i], args.lengths[i]);
    }
    this.#session.written(start);
  }
}
