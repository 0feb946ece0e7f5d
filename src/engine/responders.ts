/**
 * Request and reply: who answers on which topic, and which requests are under way. Nothing durable.
 *
 *   caller ──request──> topic ──> the seat with the fewest in hand ──> responder
 *   caller <──reply, more ..., end, failed──────────────────────────── responder
 *
 * A request goes to one responder in all. The groups of a topic take turns; within a group the seat
 * with the fewest requests in hand has it, equals in turn. When every seat has as many as its credit
 * allows, requests wait in the topic's queue, which is bounded in number and bytes.
 *
 * Holds: per topic its groups of seats and its queue; per party (a connection, an embedded broker)
 * what it has asked and what it has been given. Invariants: every request accepted ends once: by a
 * reply that is the last, by an end, by a failure, or by its caller's cancelling; the responder that
 * holds it then is told unless it was the one to end it. Time comes in as an argument.
 * Cost: a request is one object, two map entries and a place in the heap of deadlines, O(log n) of the
 * requests under way; its payload is handed on without being kept unless it has to wait.
 */
import { DeadlineHeap, type Timed } from './deadline-heap.ts';

export type ReplyKind = 'reply' | 'more' | 'end';

/** What a party hears. `payload` is valid during the call only. */
export interface PartyListener<P> {
  /** Whether it takes a further request now; when it does again, call `Party.roomAgain`. @default true */
  hasRoom?(): boolean;
  /** It is to answer this one. */
  request(id: number, topic: string, payload: P): void;
  /** A request that it was given has ended: the caller has given up, or is gone. */
  cancelled(id: number): void;
  /** An answer to what it asked: `reply` is the last one, `more` is not, `end` carries nothing. */
  reply(id: number, kind: ReplyKind, payload: P): void;
  /** What it asked has failed: RESPONDERLOST, TIMEOUT, or a code of the responder's own. */
  failed(id: number, code: string, text: string): void;
}

export interface PayloadRules<P> {
  /** A form that outlives the call. */
  keep(payload: P): P;
  /** In bytes. */
  size(payload: P): number;
}

export interface RespondersLimits {
  /** Requests that may wait on one topic. @default 10000 */
  readonly maxQueued?: number;
  /** Bytes of them. @default 64 MiB */
  readonly maxQueuedBytes?: number;
  /** Requests of one caller that are not answered yet. @default 1000000 */
  readonly maxAsked?: number;
  /** Bytes of one caller's requests that wait, on all topics. @default 256 MiB */
  readonly maxAskedBytes?: number;
}

/** Why a request was not taken. */
export type Refusal = 'NORESPONDERS' | 'LIMIT';

export interface TopicFacts {
  readonly topic: string;
  readonly queued: number;
  readonly groups: readonly { name: string; responders: number; credit: number; inHand: number }[];
}

interface Request<P> extends Timed {
  readonly id: number;
  readonly caller: Party<P>;
  readonly topic: Topic<P>;
  /** Monotonic ms of its deadline. */
  expireAt: number;
  seat: Seat<P> | null;
  /** While it waits in the queue. */
  payload: P | null;
}

interface Seat<P> {
  readonly party: Party<P>;
  readonly topic: Topic<P>;
  readonly group: Group<P>;
  readonly credit: number;
  inHand: number;
  /** Its party answers on the topic no longer. */
  left: boolean;
}

interface Group<P> {
  readonly name: string;
  readonly seats: Seat<P>[];
  /** Of all seats together. */
  credit: number;
  inHand: number;
  turn: number;
}

interface Topic<P> {
  readonly name: string;
  readonly groups: Group<P>[];
  turn: number;
  readonly queue: Set<Request<P>>;
  queuedBytes: number;
}

/** Requests that one call of `expire` fails at most: about ten milliseconds' work. */
const EXPIRED_PER_CALL = 5000;

export class Responders<P> {
  readonly rules: PayloadRules<P>;
  readonly #maxQueued: number;
  readonly #maxQueuedBytes: number;
  readonly #maxAsked: number;
  readonly #maxAskedBytes: number;
  readonly #topics = new Map<string, Topic<P>>();
  readonly #deadlines = new DeadlineHeap<Request<P>>();
  #lastId = 0;

  constructor(rules: PayloadRules<P>, limits: RespondersLimits = {}) {
    this.rules = rules;
    this.#maxQueued = limits.maxQueued ?? 10_000;
    this.#maxQueuedBytes = limits.maxQueuedBytes ?? 64 * 1024 * 1024;
    this.#maxAsked = limits.maxAsked ?? 1_000_000;
    this.#maxAskedBytes = limits.maxAskedBytes ?? 256 * 1024 * 1024;
  }

  /** One who asks, answers, or both. Close it when its connection ends. */
  party(listener: PartyListener<P>): Party<P> {
    return new Party(this, listener);
  }

  *topics(): Generator<TopicFacts> {
    for (const topic of this.#topics.values()) yield factsOf(topic);
  }

  /** Undefined where nobody answers. */
  facts(topic: string): TopicFacts | undefined {
    const found = this.#topics.get(topic);
    return found && factsOf(found);
  }

  /** Fails what is overdue. To be called now and then; `now` is any clock that never goes back. */
  expire(now: number): void {
    for (let left = EXPIRED_PER_CALL; left > 0; left--) {
      const request = this.#deadlines.first();
      if (request === undefined || request.expireAt > now) return;
      this.finish(request, true);
      request.caller.listener.failed(request.id, 'TIMEOUT', 'no reply in time');
    }
  }

  // ---- For Party

  join(party: Party<P>, name: string, groupName: string, credit: number): Seat<P> {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      topic = { name, groups: [], turn: 0, queue: new Set(), queuedBytes: 0 };
      this.#topics.set(name, topic);
    }
    let group = topic.groups.find((each) => each.name === groupName);
    if (group === undefined) {
      group = { name: groupName, seats: [], credit: 0, inHand: 0, turn: 0 };
      topic.groups.push(group);
    }
    const seat: Seat<P> = { party, topic, group, credit, inHand: 0, left: false };
    group.seats.push(seat);
    group.credit += credit;
    this.pump(topic);
    return seat;
  }

  /** What it has in hand stays with it. */
  leave(seat: Seat<P>): void {
    const { topic, group } = seat;
    seat.left = true;
    remove(group.seats, seat);
    group.credit -= seat.credit;
    group.inHand -= seat.inHand;
    if (group.seats.length > 0) return;
    remove(topic.groups, group);
    if (topic.groups.length > 0) return;
    this.#topics.delete(topic.name);
    for (const request of [...topic.queue]) {
      this.finish(request, false);
      const text = 'the last responder on the topic has left';
      request.caller.listener.failed(request.id, 'NORESPONDERS', text);
    }
  }

  /** The request's id, or why it was not taken. */
  ask(
    caller: Party<P>,
    name: string,
    timeoutMs: number,
    now: number,
    payload: P,
  ): number | Refusal {
    const topic = this.#topics.get(name);
    if (topic === undefined) return 'NORESPONDERS';
    const seat = topic.queue.size === 0 ? chooseSeat(topic) : null;
    if (caller.asked.size >= this.#maxAsked) return 'LIMIT';
    if (seat === null && !this.#hasRoom(topic, caller, payload)) return 'LIMIT';
    const id = ++this.#lastId;
    const expireAt = now + timeoutMs;
    const request: Request<P> = {
      id,
      caller,
      topic,
      expireAt,
      heapIndex: -1,
      seat,
      payload: null,
    };
    this.#deadlines.update(request);
    caller.asked.set(id, request);
    if (seat !== null) {
      this.#give(request, seat, payload);
    } else {
      request.payload = this.rules.keep(payload);
      const bytes = this.rules.size(payload);
      topic.queuedBytes += bytes;
      caller.queuedBytes += bytes;
      topic.queue.add(request);
    }
    return id;
  }

  /** Ends a request, tells its responder if asked to, and lets the next one have the free place. */
  finish(request: Request<P>, tellResponder: boolean): void {
    const { seat, topic, id } = request;
    if (!request.caller.asked.delete(id)) return;
    this.#deadlines.remove(request);
    if (seat === null) {
      this.#unqueue(request);
      return;
    }
    seat.party.given.delete(id);
    seat.inHand--;
    if (!seat.left) seat.group.inHand--;
    if (tellResponder) seat.party.listener.cancelled(id);
    if (topic.queue.size > 0) this.pump(topic);
  }

  #give(request: Request<P>, seat: Seat<P>, payload: P): void {
    request.seat = seat;
    seat.inHand++;
    seat.group.inHand++;
    seat.party.given.set(request.id, request);
    seat.party.listener.request(request.id, request.topic.name, payload);
  }

  /** Hands out what waits on the topic, as far as there are seats for it. */
  pump(topic: Topic<P>): void {
    for (const request of topic.queue) {
      const seat = chooseSeat(topic);
      if (seat === null) return;
      const payload = request.payload as P;
      this.#unqueue(request);
      this.#give(request, seat, payload);
    }
  }

  #unqueue(request: Request<P>): void {
    const { topic, payload, caller } = request;
    if (!topic.queue.delete(request)) return;
    const bytes = this.rules.size(payload as P);
    topic.queuedBytes -= bytes;
    caller.queuedBytes -= bytes;
    request.payload = null;
  }

  #hasRoom(topic: Topic<P>, caller: Party<P>, payload: P): boolean {
    const bytes = this.rules.size(payload);
    return (
      topic.queue.size < this.#maxQueued &&
      topic.queuedBytes + bytes <= this.#maxQueuedBytes &&
      caller.queuedBytes + bytes <= this.#maxAskedBytes
    );
  }
}

export class Party<P> {
  readonly listener: PartyListener<P>;
  /** What it has asked and got no last answer to. */
  readonly asked = new Map<number, Request<P>>();
  /** What it has been given and not answered. */
  readonly given = new Map<number, Request<P>>();
  /** Bytes of its requests that wait on their topics. */
  queuedBytes = 0;
  readonly #responders: Responders<P>;
  readonly #seats = new Map<string, Seat<P>>();

  constructor(responders: Responders<P>, listener: PartyListener<P>) {
    this.#responders = responders;
    this.listener = listener;
  }

  /** Topics it answers on. */
  get seats(): number {
    return this.#seats.size;
  }

  /** Its listener takes requests again. */
  roomAgain(): void {
    for (const { topic } of this.#seats.values()) {
      if (topic.queue.size > 0) this.#responders.pump(topic);
    }
  }

  /** Begins to answer, with at most `credit` requests in hand. False when it does already. */
  respond(topic: string, group: string, credit: number): boolean {
    if (this.#seats.has(topic)) return false;
    this.#seats.set(topic, this.#responders.join(this, topic, group, credit));
    return true;
  }

  /** Takes no more; what it has been given it may still answer. False when it did not answer. */
  unrespond(topic: string): boolean {
    const seat = this.#seats.get(topic);
    if (seat === undefined) return false;
    this.#seats.delete(topic);
    this.#responders.leave(seat);
    return true;
  }

  /** Asks: the request's id, or why it was not taken. `now` as for `expire`. */
  request(topic: string, timeoutMs: number, now: number, payload: P): number | Refusal {
    return this.#responders.ask(this, topic, timeoutMs, now, payload);
  }

  /** Answers. False when the request has ended: the caller gave up or is gone. */
  reply(id: number, kind: ReplyKind, payload: P): boolean {
    const request = this.given.get(id);
    if (request === undefined) return false;
    const { listener } = request.caller;
    if (kind !== 'more') this.#responders.finish(request, false);
    listener.reply(id, kind, payload);
    return true;
  }

  /** Answers that it cannot. */
  fail(id: number, code: string, text: string): boolean {
    const request = this.given.get(id);
    if (request === undefined) return false;
    this.#responders.finish(request, false);
    request.caller.listener.failed(id, code, text);
    return true;
  }

  /** Gives up what it asked. False when that has ended. */
  cancel(id: number): boolean {
    const request = this.asked.get(id);
    if (request === undefined) return false;
    this.#responders.finish(request, true);
    return true;
  }

  /** Its connection has ended: its callers and its responders hear so at once. */
  close(): void {
    for (const topic of [...this.#seats.keys()]) this.unrespond(topic);
    for (const request of [...this.asked.values()]) this.#responders.finish(request, true);
    for (const request of [...this.given.values()]) {
      this.#responders.finish(request, false);
      const text = 'the connection of the responder has ended';
      request.caller.listener.failed(request.id, 'RESPONDERLOST', text);
    }
  }
}

/** A seat with credit left, or null. */
function chooseSeat<P>(topic: Topic<P>): Seat<P> | null {
  const { groups } = topic;
  for (let tried = 0; tried < groups.length; tried++) {
    topic.turn = (topic.turn + 1) % groups.length;
    const seat = leastBusy(groups[topic.turn]);
    if (seat !== null) return seat;
  }
  return null;
}

function leastBusy<P>(group: Group<P>): Seat<P> | null {
  const { seats } = group;
  let best: Seat<P> | null = null;
  let bestAt = 0;
  for (let i = 1; i <= seats.length; i++) {
    const at = (group.turn + i) % seats.length;
    const seat = seats[at];
    if (seat.inHand >= seat.credit || seat.party.listener.hasRoom?.() === false) continue;
    if (best !== null && seat.inHand >= best.inHand) continue;
    best = seat;
    bestAt = at;
    if (seat.inHand === 0) break;
  }
  group.turn = bestAt;
  return best;
}

function factsOf<P>({ name, queue, groups }: Topic<P>): TopicFacts {
  return {
    topic: name,
    queued: queue.size,
    groups: groups.map(({ name, seats, credit, inHand }) => ({
      name,
      responders: seats.length,
      credit,
      inHand,
    })),
  };
}

function remove<T>(list: T[], item: T): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}
