/**
 * The local transport: calls within one process, without bytes.
 *
 * Holds: the nodes of this process by their id. Invariants: as the contract says, deadlines,
 * cancellation and errors included; a stream holds at most `WINDOW_MESSAGES` unread messages in each
 * direction. Cost: a unary call is one object and the handler's own promises.
 */
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Scheduler } from '../util/scheduler.ts';
import { systemScheduler } from '../util/system-scheduler.ts';
import { Timeouts } from '../util/timeouts.ts';
import {
  type Call,
  CallError,
  type CallFailure,
  type CallHandler,
  type Channel,
  type IncomingCall,
  type Listener,
  type ListenOptions,
  type Metadata,
  NO_METADATA,
  type OutgoingCall,
  type Reply,
  type ReplyHead,
  type Transport,
} from './transport.ts';
import { ValueQueue } from './value-queue.ts';

const PEER = { address: 'local' };

interface LocalNode {
  readonly handler: CallHandler;
  isClosing: boolean;
}

/** The nodes that run in this process, whatever created them. */
const nodes = new Map<string, LocalNode>();

export class LocalTransport implements Transport {
  readonly name = 'local';
  readonly #timeouts: Timeouts;

  constructor(scheduler: Scheduler = systemScheduler) {
    this.#timeouts = new Timeouts(scheduler);
  }

  canDial(node: ServiceNode): boolean {
    return nodes.has(node.id);
  }

  async listen({ handler, nodeId = '' }: ListenOptions): Promise<Listener> {
    const node: LocalNode = { handler, isClosing: false };
    nodes.set(nodeId, node);
    return {
      address: 'local',
      metadata: {},
      async close() {
        node.isClosing = true;
        if (nodes.get(nodeId) === node) nodes.delete(nodeId);
      },
    };
  }

  async dial(node: ServiceNode): Promise<Channel> {
    const found = this.channel(node.id);
    if (found !== null) return found;
    throw new RivuletError('CONNECTION_FAILED', `node ${node.id} is not in this process`);
  }

  /** The channel to a node of this process; null when it is not here. */
  channel(nodeId: string): Channel | null {
    const node = nodes.get(nodeId);
    return node === undefined ? null : new LocalChannel(node, this.#timeouts);
  }
}

class LocalChannel implements Channel {
  readonly #node: LocalNode;
  readonly #timeouts: Timeouts;
  #load = 0;

  constructor(node: LocalNode, timeouts: Timeouts) {
    this.#node = node;
    this.#timeouts = timeouts;
  }

  get load(): number {
    return this.#load;
  }

  request(call: OutgoingCall): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.#start(
        new LocalCall(call, (error, reply) => {
          if (error === null) resolve(reply as Reply);
          else reject(error);
        }),
      );
    });
  }

  open(call: OutgoingCall): Call {
    const local = new LocalCall(call, null);
    this.#start(local);
    return local.caller;
  }

  async close(): Promise<void> {}

  #start(call: LocalCall): void {
    if (this.#node.isClosing) {
      const text = `the node of ${call.service} is stopping`;
      call.end(new RivuletError('UNAVAILABLE', text, { sent: 'no' }));
      return;
    }
    this.#load++;
    call.watch(this.#timeouts, () => this.#load--);
    // The caller's turn ends first, as it does on every other transport.
    queueMicrotask(() => {
      if (!call.isOver) this.#node.handler(call.incoming);
    });
  }
}

type Settle = (error: Error | null, reply: Reply | null) => void;

/** Both ends of one call. */
class LocalCall {
  readonly service: string;
  isOver = false;
  readonly #call: OutgoingCall;
  readonly #settle: Settle | null;
  #reason: RivuletError | null = null;
  #listeners: ((reason: RivuletError) => void)[] = [];
  #stops: (() => void)[] = [];
  #head: Deferred<ReplyHead> | null = null;
  #trailers: Deferred<Metadata> | null = null;
  /** From caller to handler, and back. */
  #requests: ValueQueue<Uint8Array> | null = null;
  #replies: ValueQueue<Uint8Array> | null = null;

  constructor(call: OutgoingCall, settle: Settle | null) {
    this.#call = call;
    this.service = call.service;
    this.#settle = settle;
    if (call.body === null) this.#requests = new ValueQueue(() => {});
    if (settle === null) {
      this.#head = new Deferred();
      this.#trailers = new Deferred();
      this.#replies = new ValueQueue(() => this.#cancel(left(call.endpoint)));
    }
  }

  watch(timeouts: Timeouts, ended: () => void): void {
    const { timeoutMs, signal, service, endpoint } = this.#call;
    this.#stops.push(ended);
    if (timeoutMs !== null) {
      this.#stops.push(
        timeouts.add(timeoutMs, () => {
          const text = `${service} ${endpoint} did not answer within ${Math.round(timeoutMs)} ms`;
          this.#cancel(new RivuletError('TIMEOUT', text));
        }),
      );
    }
    if (signal === null) return;
    const abort = () => {
      const text = `the call of ${service} ${endpoint} was aborted`;
      this.#cancel(new RivuletError('ABORTED', text, { cause: signal.reason }));
    };
    if (signal.aborted) abort();
    else {
      signal.addEventListener('abort', abort, { once: true });
      this.#stops.push(() => signal.removeEventListener('abort', abort));
    }
  }

  /** Ends the call for its caller, once. */
  end(error: Error | null, reply: Reply | null = null, trailers: Metadata = NO_METADATA): void {
    if (this.isOver) return;
    this.isOver = true;
    for (const stop of this.#stops.splice(0)) stop();
    if (this.#settle !== null) this.#settle(error, reply);
    else if (error !== null) {
      this.#head?.reject(error);
      this.#trailers?.reject(error);
      this.#replies?.fail(error);
    } else {
      const contentType = reply?.contentType ?? this.#call.contentType;
      this.#head?.resolve({ contentType, metadata: reply?.metadata ?? NO_METADATA });
      if (reply !== null) void this.#replies?.push(reply.body);
      this.#replies?.end();
      this.#trailers?.resolve(trailers);
    }
    const over = error ?? new RivuletError('CLOSED', `${this.#call.endpoint} has ended the call`);
    this.#requests?.abort(over);
  }

  #cancel(reason: RivuletError): void {
    if (this.isOver) return;
    this.#reason = reason;
    this.end(reason);
    for (const listener of this.#listeners.splice(0)) {
      listener(new RivuletError('ABORTED', `the caller cancelled the call: ${reason.message}`));
    }
  }

  get caller(): Call {
    return {
      head: (this.#head as Deferred<ReplyHead>).promise,
      trailers: (this.#trailers as Deferred<Metadata>).promise,
      messages: this.#replies as ValueQueue<Uint8Array>,
      send: (body) =>
        this.isOver || this.#requests === null
          ? Promise.reject(new RivuletError('CLOSED', `${this.#call.endpoint} takes no messages`))
          : this.#requests.push(body),
      end: () => this.#requests?.end(),
      cancel: (reason) => this.#cancel(reason ?? left(this.#call.endpoint)),
    };
  }

  get incoming(): IncomingCall {
    const call = this.#call;
    const self = this;
    return {
      service: call.service,
      endpoint: call.endpoint,
      kind: call.kind,
      contentType: call.contentType,
      metadata: call.metadata,
      timeoutMs: call.timeoutMs,
      peer: PEER,
      carriesValues: true,
      body: call.body,
      get messages() {
        return self.#messages();
      },
      onCancel: (listener) => {
        if (this.#reason !== null) listener(this.#reason);
        else this.#listeners.push(listener);
      },
      reply: (reply) => this.end(null, reply),
      head: (head) => this.#head?.resolve(head),
      send: (body) => {
        if (this.isOver || this.#replies === null) {
          const text = `the call of ${call.endpoint} has ended`;
          return Promise.reject(this.#reason ?? new RivuletError('CLOSED', text));
        }
        this.#head?.resolve({ contentType: call.contentType, metadata: NO_METADATA });
        return this.#replies.push(body);
      },
      end: (trailers) => this.end(null, null, trailers),
      fail: (failure: CallFailure) => this.end(new CallError(failure)),
    };
  }

  #messages(): ValueQueue<Uint8Array> {
    if (this.#requests === null) {
      this.#requests = new ValueQueue(() => {});
      void this.#requests.push(this.#call.body as Uint8Array);
      this.#requests.end();
    }
    return this.#requests;
  }
}

class Deferred<T> {
  readonly promise: Promise<T>;
  resolve: (value: T) => void = () => {};
  reject: (error: Error) => void = () => {};

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // A caller that reads only the messages learns of the failure there.
    this.promise.catch(() => {});
  }
}

function left(endpoint: string): RivuletError {
  return new RivuletError('ABORTED', `the caller of ${endpoint} left`);
}
