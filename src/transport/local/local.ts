/**
 * The local transport: calls within one process, without bytes.
 *
 * Holds: the nodes of this process by their id. Invariants: as the contract says, deadlines,
 * cancellation and errors included; a stream holds at most `WINDOW_MESSAGES` unread messages in each
 * direction. Cost: a unary call is one object and the handler's own promises.
 */
import { AsyncResource } from 'node:async_hooks';
import { RivuletError } from '../../errors.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import { Deferred } from '../../util/time/deferred.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { type Expiring, type Timeout, Timeouts } from '../../util/time/timeouts.ts';
import { TurnBudget } from '../../util/time/turn-budget.ts';
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
  type MethodKind,
  NO_METADATA,
  type OutgoingCall,
  type Reply,
  type ReplyHead,
  type ReplyReceiver,
  type Transport,
} from '../transport.ts';
import { ValueQueue } from './value-queue.ts';

const PEER = { address: 'local' };

interface LocalNode {
  readonly handler: CallHandler;
  readonly calls: CallSet;
}

/** The calls of a node, or of a channel, that have not ended. */
class CallSet {
  isClosing = false;
  readonly #calls = new Set<LocalCall>();
  #whenIdle: (() => void) | null = null;

  get size(): number {
    return this.#calls.size;
  }

  add(call: LocalCall): void {
    this.#calls.add(call);
  }

  delete(call: LocalCall): void {
    this.#calls.delete(call);
    if (this.#calls.size === 0) this.#whenIdle?.();
  }

  /** Waits at most `drainMs` for the calls, then ends them. */
  async close(timeouts: Timeouts, drainMs: number, reason: RivuletError): Promise<void> {
    this.isClosing = true;
    if (this.#calls.size > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const stop = timeouts.add(drainMs, resolve);
        this.#whenIdle = () => {
          stop();
          resolve();
        };
      });
    }
    for (const call of [...this.#calls]) call.cancel(reason);
  }
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
    const node: LocalNode = { handler, calls: new CallSet() };
    nodes.set(nodeId, node);
    const timeouts = this.#timeouts;
    return {
      address: 'local',
      metadata: {},
      close(drainMs = 0) {
        if (nodes.get(nodeId) === node) nodes.delete(nodeId);
        const reason = new RivuletError('RESPONDER_LOST', `node ${nodeId} has stopped`);
        return node.calls.close(timeouts, drainMs, reason);
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
  readonly #calls = new CallSet();

  constructor(node: LocalNode, timeouts: Timeouts) {
    this.#node = node;
    this.#timeouts = timeouts;
  }

  get load(): number {
    return this.#calls.size;
  }

  request(call: OutgoingCall): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.send(call, { onReply: resolve, onFailure: reject });
    });
  }

  send(call: OutgoingCall, receiver: ReplyReceiver): void {
    this.#start(new LocalCall(call, receiver));
  }

  call(call: OutgoingCall): Call {
    const local = new LocalCall(call, null);
    this.#start(local);
    return local.caller;
  }

  close(drainMs = 0): Promise<void> {
    const reason = new RivuletError('CLOSED', 'the client closed the channel');
    return this.#calls.close(this.#timeouts, drainMs, reason);
  }

  #start(call: LocalCall): void {
    const { calls } = this.#node;
    if (calls.isClosing || this.#calls.isClosing) {
      const text = calls.isClosing
        ? `the node of ${call.service} is stopping`
        : 'the channel is closed';
      call.finish(new RivuletError('UNAVAILABLE', text, { sent: 'no' }));
      return;
    }
    call.begin(this.#node, this.#calls, this.#timeouts);
  }
}

/** Calls whose handlers run when the turn of their callers has ended, as on every other transport. */
const begun: LocalCall[] = [];
/** Handlers run in no context of their caller, as if the call had come over a connection. */
const outside = new AsyncResource('RivuletLocalCalls', { requireManualDestroy: true });
let isDispatchDue = false;
/** Callers that call in a loop would otherwise keep timers and sockets waiting for ever. */
const turns = new TurnBudget(100);

function dispatchSoon(call: LocalCall): void {
  begun.push(call);
  if (isDispatchDue) return;
  isDispatchDue = true;
  turns.run(dispatchAll);
}

function dispatchAll(): void {
  isDispatchDue = false;
  outside.runInAsyncScope(dispatchEach);
}

function dispatchEach(): void {
  // What handlers call is dispatched in a separate microtask, after those that were called before.
  const calls = begun.splice(0);
  for (const call of calls) {
    try {
      call.dispatch();
    } catch (error) {
      // One handler's defect must not fail the calls of others: it becomes an uncaught error by itself.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

/** Both ends of one call; it is what the handler receives. */
class LocalCall implements IncomingCall, Expiring {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly timeoutMs: number | null;
  readonly body: Uint8Array | null;
  readonly peer = PEER;
  readonly carriesValues = true;
  isOver = false;
  readonly #receiver: ReplyReceiver | null;
  readonly #signal: AbortSignal | null;
  #node: LocalNode | null = null;
  /** Of the channel. */
  #calls: CallSet | null = null;
  #timeout: Timeout | null = null;
  #unwatch: (() => void) | null = null;
  #reason: RivuletError | null = null;
  #listeners: ((reason: RivuletError) => void)[] | null = null;
  #head: Deferred<ReplyHead> | null = null;
  #trailers: Deferred<Metadata> | null = null;
  /** From caller to handler, and back. */
  #requests: ValueQueue<Uint8Array> | null = null;
  #replies: ValueQueue<Uint8Array> | null = null;

  /** Without a receiver the caller has the call's streams. */
  constructor(call: OutgoingCall, receiver: ReplyReceiver | null) {
    this.service = call.service;
    this.endpoint = call.endpoint;
    this.kind = call.kind;
    this.contentType = call.contentType;
    this.metadata = call.metadata;
    this.timeoutMs = call.timeoutMs;
    this.body = call.body;
    this.#signal = call.signal;
    this.#receiver = receiver;
    if (call.body === null) this.#requests = new ValueQueue(() => {});
    if (receiver === null) {
      this.#head = new Deferred();
      this.#trailers = new Deferred();
      this.#replies = new ValueQueue(() => this.cancel(left(this.endpoint)));
    }
  }

  begin(node: LocalNode, calls: CallSet, timeouts: Timeouts): void {
    this.#node = node;
    this.#calls = calls;
    node.calls.add(this);
    calls.add(this);
    if (this.timeoutMs !== null) this.#timeout = timeouts.start(this.timeoutMs, this);
    const signal = this.#signal;
    if (signal !== null) {
      const unwatch = onAbort(signal, () => {
        const text = `the call of ${this.service} ${this.endpoint} was aborted`;
        this.cancel(new RivuletError('ABORTED', text, { cause: signal.reason }));
      });
      if (!this.isOver) this.#unwatch = unwatch;
    }
    dispatchSoon(this);
  }

  dispatch(): void {
    if (!this.isOver) this.#node?.handler(this);
  }

  /** The deadline has passed. */
  expire(): void {
    const ms = Math.round(this.timeoutMs ?? 0);
    const text = `${this.service} ${this.endpoint} did not answer within ${ms} ms`;
    this.cancel(new RivuletError('TIMEOUT', text));
  }

  /** Ends the call for its caller, once. */
  finish(error: Error | null, reply: Reply | null = null, trailers: Metadata = NO_METADATA): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#timeout?.cancel();
    this.#unwatch?.();
    this.#node?.calls.delete(this);
    this.#calls?.delete(this);
    if (this.#receiver !== null) {
      if (error === null) this.#receiver.onReply(reply as Reply);
      else this.#receiver.onFailure(error);
    } else if (error !== null) {
      this.#head?.reject(error);
      this.#trailers?.reject(error);
      this.#replies?.fail(error);
    } else {
      const contentType = reply?.contentType ?? this.contentType;
      this.#head?.resolve({ contentType, metadata: reply?.metadata ?? NO_METADATA });
      if (reply !== null) void this.#replies?.push(reply.body);
      this.#replies?.end();
      this.#trailers?.resolve(trailers);
    }
    // An error is costly to make, and a call with one request has nothing to abort.
    if (this.#requests === null) return;
    const text = `${this.endpoint} has ended the call`;
    this.#requests.abort(error ?? new RivuletError('CLOSED', text));
  }

  /** Ends the call for its caller, and for the handler. */
  cancel(reason: RivuletError): void {
    if (this.isOver) return;
    this.#reason = reason;
    this.finish(reason);
    const listeners = this.#listeners;
    this.#listeners = null;
    for (const listener of listeners ?? []) {
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
          ? Promise.reject(new RivuletError('CLOSED', `${this.endpoint} takes no messages`))
          : this.#requests.push(body),
      end: () => this.#requests?.end(),
      cancel: (reason) => this.cancel(reason ?? left(this.endpoint)),
    };
  }

  get messages(): ValueQueue<Uint8Array> {
    if (this.#requests === null) {
      this.#requests = new ValueQueue(() => {});
      void this.#requests.push(this.body as Uint8Array);
      this.#requests.end();
    }
    return this.#requests;
  }

  onCancel(listener: (reason: RivuletError) => void): void {
    if (this.#reason !== null) listener(this.#reason);
    else {
      this.#listeners ??= [];
      this.#listeners.push(listener);
    }
  }

  reply(reply: Reply): void {
    this.finish(null, reply);
  }

  head(head: ReplyHead): void {
    this.#head?.resolve(head);
  }

  send(body: Uint8Array): Promise<void> {
    if (this.isOver || this.#replies === null) {
      const text = `the call of ${this.endpoint} has ended`;
      return Promise.reject(this.#reason ?? new RivuletError('CLOSED', text));
    }
    this.#head?.resolve({ contentType: this.contentType, metadata: NO_METADATA });
    return this.#replies.push(body);
  }

  end(trailers: Metadata): void {
    this.finish(null, null, trailers);
  }

  fail(failure: CallFailure): void {
    this.finish(new CallError(failure));
  }
}

function left(endpoint: string): RivuletError {
  return new RivuletError('ABORTED', `the caller of ${endpoint} left`);
}
