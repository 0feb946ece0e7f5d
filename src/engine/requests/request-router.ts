/**
 * Request and reply: which peers answer on which topic, and which requests are in flight. Nothing is
 * durable.
 *
 *   caller ──request──> topic ──> the registration with the fewest in flight ──> responder
 *   caller <──reply, more ..., end, failed──────────────────────────────────── responder
 *
 * A request goes to one responder in all. The groups of a topic take turns; within a group the
 * registration with the fewest requests in flight receives it, equals in turn. When every registration
 * has as many as its credit allows, requests wait in the topic's queue, which is bounded in number and
 * bytes.
 *
 * A request may be *open*: a stream each way. Each direction has a window in bytes, granted by its
 * reader and spent by what is sent (bytes + 64 each); a sender may send while its credit is above 0. The
 * router keeps no message: what a connection must hold for a reader is bounded by the window plus one
 * message. Each side ends its own direction; both ends end the request. Breaking these rules fails that
 * stream only.
 *
 * Holds: per topic its groups of registrations and its queue; RequestPeer holds what one peer has asked
 * and received. Invariants: every accepted request ends once: by its last reply, by an end, by a failure,
 * or by its caller's cancelling; the responder that holds it then is notified unless it ended the request
 * itself. Time is an argument.
 * Cost: a request is one object, two map entries and a place in the heap of deadlines, O(log n) of the
 * requests in flight; its payload is passed on without being kept unless the request has to wait.
 */
import { DeadlineHeap } from '../schedule/deadline-heap.ts';
import {
  chooseRegistration,
  factsOf,
  openedWith,
  type PayloadRules,
  type PeerState,
  type Registration,
  type Request,
  remove,
  type Topic,
  type TopicFacts,
  takesStreams,
} from './registrations.ts';

export interface RouterLimits {
  /** Requests that may wait on one topic. @default 10000 */
  readonly maxQueued?: number;
  /** Bytes of them. @default 64 MiB */
  readonly maxQueuedBytes?: number;
  /** Requests of one caller that are not answered yet. @default 1000000 */
  readonly maxAsked?: number;
  /** Bytes of one caller's requests that wait, on all topics. @default 256 MiB */
  readonly maxAskedBytes?: number;
}

/** Why a request was refused. UNSUPPORTED: a stream, and no responder there accepts streams. */
export type Refusal = 'NORESPONDERS' | 'LIMIT' | 'UNSUPPORTED';

/** What a message on a stream costs beside its bytes. */
export const MESSAGE_OVERHEAD = 64;
/** The credit of one direction may not be greater. */
export const MOST_CREDIT_BYTES = 2 ** 31 - 1;

/** Requests that one call of `expire` fails at most: about ten milliseconds' work. */
const EXPIRED_PER_CALL = 5000;

export class RequestRouter<P> {
  readonly rules: PayloadRules<P>;
  readonly #maxQueued: number;
  readonly #maxQueuedBytes: number;
  readonly #maxAsked: number;
  readonly #maxAskedBytes: number;
  readonly #topics = new Map<string, Topic<P>>();
  readonly #deadlines = new DeadlineHeap<Request<P>>();
  #lastId = 0;

  constructor(rules: PayloadRules<P>, limits: RouterLimits = {}) {
    this.rules = rules;
    this.#maxQueued = limits.maxQueued ?? 10_000;
    this.#maxQueuedBytes = limits.maxQueuedBytes ?? 64 * 1024 * 1024;
    this.#maxAsked = limits.maxAsked ?? 1_000_000;
    this.#maxAskedBytes = limits.maxAskedBytes ?? 256 * 1024 * 1024;
  }

  *topics(): Generator<TopicFacts> {
    for (const topic of this.#topics.values()) yield factsOf(topic);
  }

  /** Undefined where no responder is registered. */
  facts(topic: string): TopicFacts | undefined {
    const found = this.#topics.get(topic);
    return found && factsOf(found);
  }

  /** Fails overdue requests; called regularly. `now` is of a clock that never goes back. */
  expire(now: number): void {
    for (let left = EXPIRED_PER_CALL; left > 0; left--) {
      const request = this.#deadlines.first();
      if (request === undefined || request.expireAt > now) return;
      this.finish(request, true);
      request.caller.listener.failed(request.id, 'TIMEOUT', 'no reply in time');
    }
  }

  // ---- For RequestPeer

  register(
    peer: PeerState<P>,
    name: string,
    groupName: string,
    credit: number,
    window: number,
  ): Registration<P> {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      topic = { name, groups: [], turn: 0, queue: new Set(), queuedBytes: 0 };
      this.#topics.set(name, topic);
    }
    let group = topic.groups.find((each) => each.name === groupName);
    if (group === undefined) {
      group = { name: groupName, registrations: [], credit: 0, inFlight: 0, turn: 0 };
      topic.groups.push(group);
    }
    const registration: Registration<P> = {
      peer,
      topic,
      group,
      credit,
      window,
      inFlight: 0,
      left: false,
    };
    group.registrations.push(registration);
    group.credit += credit;
    this.pump(topic);
    return registration;
  }

  /** Requests that the responder has received stay with it. */
  unregister(registration: Registration<P>): void {
    const { topic, group } = registration;
    registration.left = true;
    remove(group.registrations, registration);
    group.credit -= registration.credit;
    group.inFlight -= registration.inFlight;
    if (group.registrations.length === 0) remove(topic.groups, group);
    if (topic.groups.length === 0) this.#topics.delete(topic.name);
    if (topic.queue.size === 0) return;
    // Of the requests that wait, those fail for which no responder is left.
    const isEmpty = topic.groups.length === 0;
    if (!isEmpty && (registration.window === 0 || takesStreams(topic, null))) return;
    for (const request of [...topic.queue]) {
      if (!isEmpty && request.streams === null) continue;
      this.finish(request, false);
      const text = 'the last responder on the topic has left';
      request.caller.listener.failed(request.id, 'NORESPONDERS', text);
    }
  }

  /** Returns the request's id, or why it was refused. `window` null: a plain request. */
  ask(
    caller: PeerState<P>,
    name: string,
    timeoutMs: number,
    now: number,
    payload: P,
    window: number | null,
  ): number | Refusal {
    const topic = this.#topics.get(name);
    if (topic === undefined) return 'NORESPONDERS';
    if (window !== null && !takesStreams(topic, caller)) return 'UNSUPPORTED';
    const registration =
      topic.queue.size === 0 ? chooseRegistration(topic, window === null ? null : caller) : null;
    if (caller.asked.size >= this.#maxAsked) return 'LIMIT';
    if (registration === null && !this.#hasRoom(topic, caller, payload)) return 'LIMIT';
    const id = ++this.#lastId;
    const expireAt = now + timeoutMs;
    const request: Request<P> = {
      id,
      caller,
      topic,
      expireAt,
      heapIndex: -1,
      registration,
      payload: null,
      streams: window === null ? null : openedWith(window),
    };
    if (expireAt !== Number.POSITIVE_INFINITY) this.#deadlines.update(request);
    caller.asked.set(id, request);
    if (registration !== null) {
      this.#give(request, registration, payload);
    } else {
      request.payload = this.rules.keep(payload);
      const bytes = this.rules.size(payload);
      topic.queuedBytes += bytes;
      caller.queuedBytes += bytes;
      topic.queue.add(request);
    }
    return id;
  }

  /** Ends a request, notifies its responder if asked to, and gives the free place to the next one. */
  finish(request: Request<P>, tellResponder: boolean): void {
    const { registration, topic, id } = request;
    if (!request.caller.asked.delete(id)) return;
    this.#deadlines.remove(request);
    if (registration === null) {
      this.#unqueue(request);
      return;
    }
    registration.peer.given.delete(id);
    registration.inFlight--;
    if (!registration.left) registration.group.inFlight--;
    if (tellResponder) registration.peer.listener.cancelled(id);
    if (topic.queue.size > 0) this.pump(topic);
  }

  #give(request: Request<P>, registration: Registration<P>, payload: P): void {
    request.registration = registration;
    registration.inFlight++;
    registration.group.inFlight++;
    registration.peer.given.set(request.id, request);
    const { id, topic, streams, caller } = request;
    if (streams === null) {
      registration.peer.listener.request(id, topic.name, payload);
      return;
    }
    streams.callerCredit = registration.window;
    registration.peer.listener.opened(id, topic.name, streams.callerWindow, payload);
    // The listener may have ended the request.
    if (caller.asked.get(id) === request) caller.listener.granted(id, registration.window);
  }

  /** Gives waiting requests of the topic to registrations with credit left. */
  pump(topic: Topic<P>): void {
    for (const request of topic.queue) {
      const registration = chooseRegistration(
        topic,
        request.streams === null ? null : request.caller,
      );
      // A stream waits alone where a plain request behind it could be taken.
      if (
        registration === null &&
        request.streams !== null &&
        chooseRegistration(topic, null) !== null
      )
        continue;
      if (registration === null) return;
      const payload = request.payload as P;
      this.#unqueue(request);
      this.#give(request, registration, payload);
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

  #hasRoom(topic: Topic<P>, caller: PeerState<P>, payload: P): boolean {
    const bytes = this.rules.size(payload);
    return (
      topic.queue.size < this.#maxQueued &&
      topic.queuedBytes + bytes <= this.#maxQueuedBytes &&
      caller.queuedBytes + bytes <= this.#maxAskedBytes
    );
  }
}
