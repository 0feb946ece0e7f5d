/**
 * One client's part in requests and replies: what the router notifies it of becomes pushes.
 *
 *   request <id> <topic> <part> ...        a request that it is to answer
 *   open <id> <topic> <window> <part> ...  the same, with a stream each way
 *   cancel <id>                            a request that it need no longer answer
 *   reply <id> <part> ...                  the last answer to its request
 *   more <id> <part> ...                   one answer of several; or a message of the caller
 *   end <id> [head]                        no more answers, or messages, follow
 *   grant <id> <bytes>                     this many more bytes may be sent on the stream
 *   failed <id> <code> <text>              no answer follows: RESPONDERLOST, TIMEOUT, or the responder's code
 *
 * Pushes in RESP3, arrays in RESP2. Cost: bytes are copied once, from the sender's input to the
 * receiver's output.
 */
import { NO_PAYLOAD, type Payload } from '../../engine/requests/payload.ts';
import type { PeerListener, ReplyKind } from '../../engine/requests/registrations.ts';
import { RequestPeer } from '../../engine/requests/request-peer.ts';
import type { PushTarget } from '../output/push-target.ts';
import type { Reply } from '../output/reply.ts';

const REQUEST = Buffer.from('request');
const OPEN = Buffer.from('open');
const GRANT = Buffer.from('grant');
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
export type Answer = Payload | { readonly code: string; readonly text: string } | null;

export class RequestSession implements PeerListener<Payload> {
  readonly peer: RequestPeer<Payload>;
  readonly #target: PushTarget;
  /** How long the client may send nothing before it counts as dead (ALIVE), ms; Infinity = for ever. */
  aliveMs = Number.POSITIVE_INFINITY;
  /** The request that ASK waits for; its answer is the command's reply, not a push. */
  #asked: { readonly id: number; readonly answered: (answer: Answer) => void } | null = null;
  /** A request was not sent to the client, because it does not read. */
  #isFull = false;
  /** Names of the topics that it answers on, as bytes, by the same as latin1. */
  readonly #topics = new Map<string, Buffer>();

  constructor(target: PushTarget) {
    this.#target = target;
    this.peer = new RequestPeer(target.engine.requests, this);
  }

  /** Whether pushes may come at any time: it answers on a topic, or a request has not ended. */
  get active(): boolean {
    const { peer } = this;
    return peer.registrations > 0 || peer.asked.size > 0 || peer.given.size > 0;
  }

  /** Bytes that are held for its requests. */
  get bytes(): number {
    const { peer } = this;
    return peer.queuedBytes + (peer.asked.size + peer.given.size) * REQUEST_BYTES;
  }

  /** The topics that it answers on. */
  get topics(): Iterable<Buffer> {
    return this.#topics.values();
  }

  hasRoom(): boolean {
    if (this.#target.hasRoom) return true;
    this.#isFull = true;
    return false;
  }

  /** The client has read: requests that wait for it are sent if there is room. */
  outputRead(): void {
    if (!this.#isFull || !this.#target.hasRoom) return;
    this.#isFull = false;
    this.peer.onRoom();
  }

  /** False when it answers on the topic already. `window` is 0 when it accepts no streams. */
  respond(topic: Buffer, group: string, credit: number, window: number): boolean {
    const name = topic.toString('latin1');
    if (this.#topics.has(name)) return false;
    // Before the peer: it pushes a request that waits on the topic at once.
    this.#topics.set(name, topic);
    return this.peer.respond(name, group, credit, window);
  }

  unrespond(topic: string): boolean {
    this.#topics.delete(topic);
    return this.peer.unrespond(topic);
  }

  /** The answer to this request is given to `answered`, valid during the call. One at a time. */
  expect(id: number, answered: (answer: Answer) => void): void {
    this.#asked = { id, answered };
  }

  /** Cancels the request that ASK waits for. False when it has ended. */
  cancelExpected(id: number): boolean {
    if (this.#asked?.id === id) this.#asked = null;
    return this.peer.cancel(id);
  }

  /** RESET and the connection's end: cancels its requests, and gives back those it has received. */
  clear(): void {
    this.#asked = null;
    this.peer.close();
    this.aliveMs = Number.POSITIVE_INFINITY;
    this.#topics.clear();
  }

  // ---- What the router notifies it of

  request(id: number, topic: string, payload: Payload): void {
    const { reply, start } = this.#begin(REQUEST, id, 1 + partsIn(payload));
    reply.bulk(this.#topics.get(topic) as Buffer);
    this.#endWith(payload, reply, start);
  }

  opened(id: number, topic: string, window: number, payload: Payload): void {
    const { reply, start } = this.#begin(OPEN, id, 2 + partsIn(payload));
    reply.bulk(this.#topics.get(topic) as Buffer);
    reply.integer(window);
    this.#endWith(payload, reply, start);
  }

  sent(id: number, payload: Payload): void {
    this.#push(KINDS.more, id, payload);
  }

  ended(id: number): void {
    this.#push(KINDS.end, id, NO_PAYLOAD);
  }

  granted(id: number, bytes: number): void {
    const { reply, start } = this.#begin(GRANT, id, 1);
    reply.integer(bytes);
    this.#target.written(start);
  }

  cancelled(id: number): void {
    this.#target.written(this.#begin(CANCEL, id, 0).start);
  }

  reply(id: number, kind: ReplyKind, payload: Payload): void {
    if (this.#asked?.id === id) {
      this.#answer(kind === 'end' ? null : payload);
      // ASK takes the first of several answers.
      if (kind === 'more') this.peer.cancel(id);
      return;
    }
    this.#push(KINDS[kind], id, payload);
  }

  failed(id: number, code: string, text: string): void {
    if (this.#asked?.id === id) {
      this.#answer({ code, text });
      return;
    }
    const { reply, start } = this.#begin(FAILED, id, 2);
    reply.bulkText(code);
    reply.bulkText(text);
    this.#target.written(start);
  }

  #answer(answer: Answer): void {
    const asked = this.#asked;
    this.#asked = null;
    asked?.answered(answer);
  }

  #push(kind: Buffer, id: number, payload: Payload): void {
    const { reply, start } = this.#begin(kind, id, partsIn(payload));
    this.#endWith(payload, reply, start);
  }

  /** Begins a push of kind, id and `more` further elements. */
  #begin(kind: Buffer, id: number, more: number): { reply: Reply; start: number } {
    const reply = this.#target.pushes;
    const start = reply.length;
    reply.push(2 + more);
    reply.bulk(kind);
    reply.integer(id);
    return { reply, start };
  }

  #endWith({ args, from }: Payload, reply: Reply, start: number): void {
    for (let i = from; i < args.count; i++) {
      reply.bulkSlice(args.buffer, args.offsets[i], args.lengths[i]);
    }
    this.#target.written(start);
  }
}

function partsIn({ args, from }: Payload): number {
  return args.count - from;
}
