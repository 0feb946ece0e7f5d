/**
 * A caller, a responder, or both (a connection, an embedded broker), as the router knows it: what it
 * asks, what it answers, and the checks of the rules of streams. The creator closes it when its
 * connection ends.
 */
import type { PeerListener, PeerState, Registration, ReplyKind, Request } from './registrations.ts';
import {
  MESSAGE_OVERHEAD,
  MOST_CREDIT_BYTES,
  type Refusal,
  type RequestRouter,
} from './request-router.ts';

export class RequestPeer<P> implements PeerState<P> {
  readonly listener: PeerListener<P>;
  readonly asked = new Map<number, Request<P>>();
  readonly given = new Map<number, Request<P>>();
  queuedBytes = 0;
  readonly #router: RequestRouter<P>;
  readonly #registrations = new Map<string, Registration<P>>();

  constructor(router: RequestRouter<P>, listener: PeerListener<P>) {
    this.#router = router;
    this.listener = listener;
  }

  /** Topics it answers on. */
  get registrations(): number {
    return this.#registrations.size;
  }

  /** Its listener has room for requests again. */
  onRoom(): void {
    for (const { topic } of this.#registrations.values()) {
      if (topic.queue.size > 0) this.#router.pump(topic);
    }
  }

  /** Begins to answer, with at most `credit` requests in flight. False when it already does. */
  respond(topic: string, group: string, credit: number, window = 0): boolean {
    if (this.#registrations.has(topic)) return false;
    this.#registrations.set(topic, this.#router.register(this, topic, group, credit, window));
    return true;
  }

  /** Receives no more; it may still answer what it has received. False when it did not answer. */
  unrespond(topic: string): boolean {
    const registration = this.#registrations.get(topic);
    if (registration === undefined) return false;
    this.#registrations.delete(topic);
    this.#router.unregister(registration);
    return true;
  }

  /** Asks. Returns the request's id, or why it was refused. `now` as for `expire`. */
  request(topic: string, timeoutMs: number, now: number, payload: P): number | Refusal {
    return this.#router.ask(this, topic, timeoutMs, now, payload, null);
  }

  /** As `request`, with a stream each way: `window` bytes of replies may come before it grants more. */
  open(
    topic: string,
    timeoutMs: number,
    now: number,
    window: number,
    payload: P,
  ): number | Refusal {
    return this.#router.ask(this, topic, timeoutMs, now, payload, window);
  }

  /** A message on a stream that it opened. False when that has ended. */
  send(id: number, payload: P): boolean {
    const request = this.asked.get(id);
    if (request === undefined) return false;
    const { streams, registration } = request;
    if (streams === null) return this.#broken(request, 'SEND to a request that is no stream');
    if (streams.callerEnded) return this.#broken(request, 'SEND after the end');
    if (registration === null || streams.callerCredit <= 0) {
      return this.#broken(request, 'SEND beyond the credit');
    }
    streams.callerCredit -= this.#router.rules.size(payload) + MESSAGE_OVERHEAD;
    registration.peer.listener.sent(id, payload);
    return true;
  }

  /** It sends no more on a stream that it opened. False when that has ended. */
  sendEnd(id: number): boolean {
    const request = this.asked.get(id);
    if (request === undefined) return false;
    const { streams, registration } = request;
    if (streams === null) return this.#broken(request, 'END of a request that is no stream');
    if (streams.callerEnded) return this.#broken(request, 'END after the end');
    if (registration === null) return this.#broken(request, 'END before a responder has it');
    streams.callerEnded = true;
    if (streams.responderEnded) this.#router.finish(request, false);
    registration.peer.listener.ended(id);
    return true;
  }

  /** It cannot go on with a stream that it opened: its responder is notified. False when that has ended. */
  sendFailed(id: number): boolean {
    return this.cancel(id);
  }

  /** `bytes` more may be sent to it on a stream. False when that has ended. */
  grant(id: number, bytes: number): boolean {
    const own = this.asked.get(id);
    const request = own ?? this.given.get(id);
    if (request === undefined) return false;
    const { streams, registration } = request;
    if (streams === null) return this.#broken(request, 'GRANT to a request that is no stream');
    // Before a responder has the request nothing has arrived, so there is nothing to grant.
    if (registration === null) return this.#broken(request, 'GRANT before a responder has it');
    const credit = own === undefined ? streams.callerCredit : streams.responderCredit;
    if (credit + bytes > MOST_CREDIT_BYTES) return this.#broken(request, 'GRANT of too much');
    if (own === undefined) streams.callerCredit += bytes;
    else streams.responderCredit += bytes;
    const other = own === undefined ? request.caller : registration.peer;
    other.listener.granted(id, bytes);
    return true;
  }

  /** Answers. False when the request has ended: its caller cancelled it, or its connection ended. */
  reply(id: number, kind: ReplyKind, payload: P): boolean {
    const request = this.given.get(id);
    if (request === undefined) return false;
    const { streams } = request;
    const { listener } = request.caller;
    if (streams !== null) {
      if (streams.responderEnded) return this.#broken(request, 'REPLY after the end');
      if (kind === 'more') {
        if (streams.responderCredit <= 0) return this.#broken(request, 'REPLY beyond the credit');
        streams.responderCredit -= this.#router.rules.size(payload) + MESSAGE_OVERHEAD;
      } else if (kind === 'end' && !streams.callerEnded) {
        streams.responderEnded = true;
        listener.reply(id, kind, payload);
        return true;
      }
    }
    if (kind !== 'more') this.#router.finish(request, false);
    listener.reply(id, kind, payload);
    return true;
  }

  /** One side of a request broke the rules: both are notified that it has ended. */
  #broken(request: Request<P>, text: string): boolean {
    this.#router.finish(request, true);
    request.caller.listener.failed(request.id, 'PROTOCOL', text);
    return false;
  }

  /** Answers that it cannot. */
  fail(id: number, code: string, text: string): boolean {
    const request = this.given.get(id);
    if (request === undefined) return false;
    this.#router.finish(request, false);
    request.caller.listener.failed(id, code, text);
    return true;
  }

  /** Cancels a request that it made. False when that has ended. */
  cancel(id: number): boolean {
    const request = this.asked.get(id);
    if (request === undefined) return false;
    this.#router.finish(request, true);
    return true;
  }

  /** Its connection has ended: its callers and its responders are notified at once. */
  close(): void {
    for (const topic of [...this.#registrations.keys()]) this.unrespond(topic);
    for (const request of [...this.asked.values()]) this.#router.finish(request, true);
    for (const request of [...this.given.values()]) {
      this.#router.finish(request, false);
      const text = 'the connection of the responder has ended';
      request.caller.listener.failed(request.id, 'RESPONDERLOST', text);
    }
  }
}
