/**
 * The responders of a topic: groups of registrations, and which registration receives the next request.
 *
 * Holds: types and the choice. Groups take turns; within a group the registration with the fewest
 * requests in flight receives it, equals in turn. Cost: O(registrations) a choice.
 */
import type { Timed } from '../schedule/deadline-heap.ts';

export type ReplyKind = 'reply' | 'more' | 'end';

/** What a peer is notified of. `payload` is valid during the call only. */
export interface PeerListener<P> {
  /** Whether it takes a further request now; when it does again, call `RequestPeer.onRoom`. @default true */
  hasRoom?(): boolean;
  /** A request that it is to answer. */
  request(id: number, topic: string, payload: P): void;
  /** A request that it received has ended: its caller cancelled it, or its connection ended. */
  cancelled(id: number): void;
  /** An answer to what it asked: `reply` is the last one, `more` is not, `end` carries nothing. */
  reply(id: number, kind: ReplyKind, payload: P): void;
  /** As `request`, with a stream each way; the caller takes `window` bytes of replies. */
  opened(id: number, topic: string, window: number, payload: P): void;
  /** One of the caller's messages. */
  sent(id: number, payload: P): void;
  /** The caller has ended its direction. */
  ended(id: number): void;
  /** `bytes` more may be sent to the other side; 0 says only that it is alive. */
  granted(id: number, bytes: number): void;
  /** What it asked has failed: RESPONDERLOST, TIMEOUT, or a code that the responder chose. */
  failed(id: number, code: string, text: string): void;
}

export interface PayloadRules<P> {
  /** A form that outlives the call. */
  keep(payload: P): P;
  /** In bytes. */
  size(payload: P): number;
}

/** A caller, a responder, or both: a connection, or an embedded broker. */
export interface PeerState<P> {
  readonly listener: PeerListener<P>;
  /** The requests that it made and that have not ended, by id. */
  readonly asked: Map<number, Request<P>>;
  /** The requests that it received and that have not ended. */
  readonly given: Map<number, Request<P>>;
  /** Bytes of its requests that wait on their topics. */
  queuedBytes: number;
}

export interface TopicFacts {
  readonly topic: string;
  readonly queued: number;
  readonly groups: readonly {
    name: string;
    responders: number;
    credit: number;
    inFlight: number;
  }[];
}

export interface Request<P> extends Timed {
  readonly id: number;
  readonly caller: PeerState<P>;
  readonly topic: Topic<P>;
  /** Monotonic ms of its deadline. */
  expireAt: number;
  registration: Registration<P> | null;
  /** While it waits in the queue. */
  payload: P | null;
  /** Null for a plain request. */
  readonly streams: Streams | null;
}

/** The two directions of an open request. */
export interface Streams {
  /** Bytes of replies that its caller granted at the start. */
  readonly callerWindow: number;
  /** What the caller may still send, in bytes; and the responder. */
  callerCredit: number;
  responderCredit: number;
  callerEnded: boolean;
  responderEnded: boolean;
}

export interface Registration<P> {
  readonly peer: PeerState<P>;
  readonly topic: Topic<P>;
  readonly group: Group<P>;
  readonly credit: number;
  /** Bytes that it accepts on each stream before it has read; 0: it accepts no streams. */
  readonly window: number;
  inFlight: number;
  /** Its peer no longer answers on the topic. */
  left: boolean;
}

export interface Group<P> {
  readonly name: string;
  readonly registrations: Registration<P>[];
  /** Of all its registrations. */
  credit: number;
  inFlight: number;
  turn: number;
}

export interface Topic<P> {
  readonly name: string;
  readonly groups: Group<P>[];
  turn: number;
  readonly queue: Set<Request<P>>;
  queuedBytes: number;
}

export function openedWith(window: number): Streams {
  return {
    callerWindow: window,
    callerCredit: 0,
    responderCredit: window,
    callerEnded: false,
    responderEnded: false,
  };
}

/** Whether a responder accepts a stream of this caller. A peer opens no stream to itself. */
export function takesStreams<P>({ groups }: Topic<P>, caller: PeerState<P> | null): boolean {
  return groups.some(({ registrations }) =>
    registrations.some(({ window, peer }) => window > 0 && peer !== caller),
  );
}

/** A registration with credit left, or null; for a stream of `opener` one that accepts streams. */
export function chooseRegistration<P>(
  topic: Topic<P>,
  opener: PeerState<P> | null,
): Registration<P> | null {
  const { groups } = topic;
  for (let tried = 0; tried < groups.length; tried++) {
    topic.turn = (topic.turn + 1) % groups.length;
    const registration = leastBusy(groups[topic.turn], opener);
    if (registration !== null) return registration;
  }
  return null;
}

function leastBusy<P>(group: Group<P>, opener: PeerState<P> | null): Registration<P> | null {
  const { registrations } = group;
  let best: Registration<P> | null = null;
  let bestAt = 0;
  for (let i = 1; i <= registrations.length; i++) {
    const at = (group.turn + i) % registrations.length;
    const registration = registrations[at];
    if (
      registration.inFlight >= registration.credit ||
      registration.peer.listener.hasRoom?.() === false
    )
      continue;
    if (opener !== null && (registration.window === 0 || registration.peer === opener)) continue;
    if (best !== null && registration.inFlight >= best.inFlight) continue;
    best = registration;
    bestAt = at;
    if (registration.inFlight === 0) break;
  }
  group.turn = bestAt;
  return best;
}

export function factsOf<P>({ name, queue, groups }: Topic<P>): TopicFacts {
  return {
    topic: name,
    queued: queue.size,
    groups: groups.map(({ name, registrations, credit, inFlight }) => ({
      name,
      responders: registrations.length,
      credit,
      inFlight,
    })),
  };
}

export function remove<T>(list: T[], item: T): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}
