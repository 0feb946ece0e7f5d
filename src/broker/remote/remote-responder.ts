/**
 * One responder on our own server: a dedicated connection, which is replaced when lost, and the calls
 * that run.
 *
 * Invariants: at most `concurrency` calls run, which is the credit that the server gets; the signal of
 * a handler aborts when its caller cancels or is lost; when the connection is lost all running calls are
 * aborted, because the server has failed them for their callers. The state of a call is in requests/.
 * Cost: replies of one turn leave in one write.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Connection, Pending } from '../../client/connection.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import { errorText } from '../../util/error-text.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import type { BrokerEvents } from '../broker.ts';
import type { SubscriptionHandle } from '../broker-base.ts';
import type { Events } from '../events.ts';
import type { RawMessage } from '../message/message.ts';
import type { BrokerOptions } from '../options/options.ts';
import { DEFAULT_WINDOW, headOf } from '../requests/call-costs.ts';
import {
  IncomingCall,
  type RawResponder,
  type ResponderCarrier,
} from '../requests/incoming-call.ts';
import type { Tracing } from '../trace.ts';
import { ReconnectingConnection } from './reconnecting-connection.ts';
import type { RemoteClient } from './remote-client.ts';
import { costOfParts, messageFrom, pushParts } from './remote-frames.ts';

const LONGEST_TEXT = 1000;
/** The server treats the responder as lost when it receives nothing from it for this time, ms. */
const ALIVE_MS = 4000;

export interface ResponderSetup {
  readonly topic: string;
  readonly handler: RawResponder;
  readonly group: string;
  readonly concurrency: number;
  readonly client: RemoteClient;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
}

export class RemoteResponder implements SubscriptionHandle, ResponderCarrier {
  readonly #setup: ResponderSetup;
  readonly #timeouts: Timeouts;
  readonly #calls = new Map<number, IncomingCall>();
  readonly #reconnecting: ReconnectingConnection;
  #whenIdle: (() => void) | null = null;

  private constructor(setup: ResponderSetup) {
    this.#setup = setup;
    const { client, broker, topic, group, concurrency } = setup;
    this.#timeouts = new Timeouts(broker.scheduler);
    const options = ['GROUP', group, 'CREDIT', concurrency, 'ALIVE', ALIVE_MS];
    options.push('WINDOW', DEFAULT_WINDOW);
    this.#reconnecting = new ReconnectingConnection({
      client,
      broker,
      push: (items) => this.#onPush(items),
      onOpen: (connection) => connection.call('RESPOND', topic, ...options),
      onDisconnect: (error) => this.#onLost(error),
      onAttemptFailed: (error) => this.#warn(error),
    });
  }

  /** Resolves once requests can come. */
  static async open(setup: ResponderSetup): Promise<RemoteResponder> {
    const responder = new RemoteResponder(setup);
    await responder.#reconnecting.connect();
    return responder;
  }

  get inFlight(): number {
    return this.#calls.size;
  }

  async close(timeoutMs: number): Promise<void> {
    this.#reconnecting.stop();
    await this.#connection?.call('UNRESPOND', this.#setup.topic).catch(() => {});
    await this.#idle(timeoutMs);
    const error = new RivuletError('RESPONDER_LOST', 'the responder is closed');
    for (const call of [...this.#calls.values()]) call.refuse(error);
    // The reply to PING says that the server has received the last replies.
    await this.#connection?.call('PING').catch(() => {});
    await this.#reconnecting.close(new RivuletError('CLOSED', 'the responder is closed'));
  }

  // ---- For calls

  reply({ id }: IncomingCall, message: RawMessage): boolean {
    const command: CommandArgument[] = ['REPLY', id, 'LAST'];
    pushParts(command, message);
    this.#connection?.send(command, this.#checked);
    return true;
  }

  more({ id }: IncomingCall, message: RawMessage): Promise<boolean> | boolean {
    const connection = this.#connection;
    if (connection === null) return false;
    const command: CommandArgument[] = ['REPLY', id, 'MORE'];
    pushParts(command, message);
    if (connection.hasRoom) {
      connection.send(command, this.#checked);
      return true;
    }
    // Awaiting the server's reply limits a responder to the speed of the connection.
    return connection.call(...command).then(
      () => true,
      () => true,
    );
  }

  end({ id }: IncomingCall, trailers: Readonly<Record<string, string>>): void {
    const head = headOf({ headers: trailers, body: EMPTY });
    const command = head === '' ? ['REPLY', id, 'END'] : ['REPLY', id, 'END', head];
    this.#connection?.send(command, this.#checked);
  }

  fail({ id }: IncomingCall, error: unknown): void {
    const code = error instanceof RivuletError ? error.code : 'RESPONDER_FAILED';
    const text = errorText(error).slice(0, LONGEST_TEXT);
    this.#connection?.send(['REPLY', id, 'ERROR', code, text], this.#checked);
  }

  grant({ id }: IncomingCall, bytes: number): void {
    this.#connection?.send(['GRANT', id, bytes], this.#checked);
  }

  get #connection(): Connection | null {
    return this.#reconnecting.current;
  }

  #onPush(items: readonly Reply[]): void {
    const id = items[1] as number;
    const kind = String(items[0]);
    if (kind === 'request') {
      this.#begin(id, messageFrom(items, 3), null);
      return;
    }
    if (kind === 'open') {
      this.#begin(id, messageFrom(items, 4), items[3] as number);
      return;
    }
    const call = this.#calls.get(id);
    if (call === undefined) return;
    call.heard();
    switch (kind) {
      case 'more':
        call.received(messageFrom(items, 2), costOfParts(items, 2));
        break;
      case 'end':
        call.callerEnded();
        break;
      case 'grant':
        call.granted(items[2] as number);
        break;
      case 'cancel':
        call.abort(new RivuletError('ABORTED', 'the caller has cancelled the call'));
        this.#forget(id);
    }
  }

  #begin(id: number, request: RawMessage, callerWindow: number | null): void {
    const { topic, handler, tracing } = this.#setup;
    const isStream = callerWindow !== null;
    const call = new IncomingCall(this, topic, { id, request, callerWindow, isStream });
    this.#calls.set(id, call);
    if (isStream) call.watch(this.#timeouts);
    void call.run(handler, tracing).then(() => this.#forget(id));
  }

  #forget(id: number): void {
    this.#calls.delete(id);
    if (this.#calls.size === 0) this.#whenIdle?.();
  }

  #onLost(error: RivuletError): void {
    for (const call of this.#calls.values()) {
      call.abort(new RivuletError('ABORTED', 'the connection was lost', { cause: error }));
    }
    this.#calls.clear();
    this.#whenIdle?.();
  }

  #idle(timeoutMs: number): Promise<void> {
    if (this.#calls.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#setup.broker.scheduler.after(timeoutMs, () => this.#whenIdle?.());
      this.#whenIdle = () => {
        this.#whenIdle = null;
        cancel();
        resolve();
      };
    });
  }

  /** Warns of replies that the server refuses, because they are too large, for example. */
  readonly #checked: Pending = {
    reply: (value) => {
      if (value instanceof ReplyError) this.#warn(value);
    },
    fail: () => {},
  };

  #warn(error: RivuletError): void {
    this.#setup.events.emit('warning', { error });
  }
}

const EMPTY = new Uint8Array(0);
