/**
 * Calls over the broker that also carries the events: the caller's side.
 *
 * Holds: the calls of this channel that have not ended. A channel is a topic, not a connection: it costs
 * nothing to open and is never lost; the broker says at once when no node answers on it.
 * Invariant: a call that no responder took failed with `sent: 'no'`. Cost: one broker request a call.
 */
import type { Broker } from '../../broker/broker.ts';
import { BrokerBase } from '../../broker/broker-base.ts';
import type { RawMessage } from '../../broker/message/message.ts';
import { RivuletError } from '../../errors.ts';
import {
  type Call,
  CallError,
  type Channel,
  type OutgoingCall,
  type Reply,
  type ReplyReceiver,
} from '../../transport/transport.ts';
import { CallsInFlight } from '../../util/time/calls-in-flight.ts';
import { type FirstAbort, firstAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { BrokerStream } from './broker-stream.ts';
import { readReply, writeRequest } from './broker-wire.ts';

/** Requests of the broker must have an end; a call without a deadline gets the longest. */
const LONGEST_MS = 24 * 60 * 60 * 1000 - 1000;

export interface BrokerChannelSetup {
  readonly broker: Broker;
  readonly topic: string;
  /** The service, where any of its nodes may take the call; null for one node. */
  readonly whoseNodes: string | null;
  readonly scheduler: Scheduler;
}

export class BrokerChannel implements Channel {
  readonly #setup: BrokerChannelSetup;
  readonly #closing = new AbortController();
  readonly #calls = new CallsInFlight();
  #isClosed = false;

  constructor(setup: BrokerChannelSetup) {
    this.#setup = setup;
  }

  get load(): number {
    return this.#calls.count;
  }

  request(call: OutgoingCall): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.send(call, { onReply: resolve, onFailure: reject });
    });
  }

  /** The receiver runs in the context of the caller, which the broker's promise keeps. */
  send(call: OutgoingCall, receiver: ReplyReceiver): void {
    this.#mustBeOpen();
    const { broker, topic } = this.#setup;
    const timeoutMs = whole(call.timeoutMs ?? LONGEST_MS);
    const request = writeRequest(call);
    const { signal, end } = this.#signalOf(call);
    const options = { timeoutMs, signal };
    const replied = ending(
      end,
      (): Promise<RawMessage> =>
        broker instanceof BrokerBase
          ? broker.requestOwned(topic, request, options)
          : broker.request(topic, request, options),
    );
    this.#calls.begin();
    replied.then(
      (message) => {
        end();
        this.#calls.end();
        let reply: Reply;
        try {
          reply = readReply(message);
        } catch (error) {
          receiver.onFailure(error as Error);
          return;
        }
        receiver.onReply(reply);
      },
      (error) => {
        end();
        this.#calls.end();
        receiver.onFailure(this.#explained(error) as Error);
      },
    );
  }

  call(call: OutgoingCall): Call {
    this.#mustBeOpen();
    const { broker, topic } = this.#setup;
    const { timeoutMs, contentType } = call;
    const request = writeRequest(call);
    const { signal, end } = this.#signalOf(call);
    const options = { signal, ...(timeoutMs === null ? {} : { timeoutMs: whole(timeoutMs) }) };
    const opened = ending(end, () => broker.call(topic, request, options));
    this.#calls.begin();
    return new BrokerStream(opened, {
      contentType,
      explained: (error) => this.#explained(error),
      ended: () => {
        end();
        this.#calls.end();
      },
    });
  }

  /** The broker is not this channel's: calls in flight are waited for, then cancelled. */
  async close(drainMs = 0): Promise<void> {
    this.#isClosed = true;
    await this.#calls.idle(this.#setup.scheduler, drainMs);
    this.#closing.abort(new RivuletError('CLOSED', 'the client closed the channel'));
  }

  /** The call's own, and the channel's, which outlives it. */
  #signalOf({ signal }: OutgoingCall): FirstAbort {
    const closing = this.#closing.signal;
    return signal === null ? { signal: closing, end: () => {} } : firstAbort(signal, closing);
  }

  /** Where no node of the service answers, the service is not there: as with a registry. */
  #explained(error: unknown): unknown {
    const { whoseNodes, broker } = this.#setup;
    if (!(error instanceof RivuletError) || error instanceof CallError) return error;
    if (error.code === 'ABORTED' && this.#closing.signal.aborted)
      return this.#closing.signal.reason;
    if (whoseNodes === null || error.code !== 'NO_RESPONDERS' || error.sent === 'maybe')
      return error;
    const text = `service ${whoseNodes}: no node answers on the ${broker.name} broker`;
    return new RivuletError('SERVICE_NOT_FOUND', text, { cause: error });
  }

  #mustBeOpen(): void {
    if (!this.#isClosed) return;
    throw new RivuletError('CLOSED', 'the channel is closed', { sent: 'no' });
  }
}

/** What is left of a deadline may be less than a broker counts. */
function whole(ms: number): number {
  return Math.min(LONGEST_MS, Math.max(1, Math.ceil(ms)));
}

/** What cannot begin has ended. */
function ending<T>(end: () => void, begin: () => T): T {
  try {
    return begin();
  } catch (error) {
    end();
    throw error;
  }
}
