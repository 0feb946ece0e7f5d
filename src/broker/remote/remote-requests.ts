/**
 * The caller's side of request and reply on our own server: REQUEST, OPEN, and the pushes that follow.
 *
 * Holds: one connection for all calls of the broker, opened for the first one, and the calls by their
 * numbers; the state of a call is in requests/. Invariants: a call ends at the latest with its timeout
 * or with the connection; when a caller cancels before the end, the server notifies the responder; a
 * request that failed before its command was written says `sent: 'no'`.
 * Cost: a request is one object and one promise; requests of one turn leave in one write.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Connection, Pending } from '../../client/connection.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { type ErrorCode, errorTable, notSent, RivuletError } from '../../errors.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import type { RawMessage } from '../message/message.ts';
import type { BrokerOptions, RequestOptions, StreamOptions } from '../options/options.ts';
import { DEFAULT_WINDOW } from '../requests/call-costs.ts';
import { type CallerCarrier, OneReply, type OutgoingCall } from '../requests/outgoing-call.ts';
import type { CallForm } from '../requests/requests.ts';
import { StreamCall } from '../requests/stream-call.ts';
import { notConnected, type RemoteClient } from './remote-client.ts';
import { costOfParts, headersFrom, messageFrom, pushParts } from './remote-frames.ts';

const DEFAULT_TIMEOUT_MS = 10_000;
const MOST_IN_FLIGHT = 10_000;
/** The server's deadline is this much later than ours: a reply sent in time still arrives, ms. */
const GRACE_MS = 200;

export class RemoteRequests implements CallerCarrier {
  readonly #client: RemoteClient;
  readonly #timeouts: Timeouts;
  readonly #waiting = new Map<number, OutgoingCall>();
  #inFlight = 0;
  #connection: Connection | null = null;
  #opening: Promise<Connection> | null = null;
  #closed = false;

  constructor(client: RemoteClient, broker: BrokerOptions) {
    this.#client = client;
    this.#timeouts = new Timeouts(broker.scheduler);
  }

  /** The first reply. */
  one(topic: string, message: RawMessage, options: RequestOptions = {}): Promise<RawMessage> {
    return new Promise((resolve, reject) => {
      const call = new OneReply(this, topic, resolve, reject);
      this.#ask(call, 'REQUEST', message, options, DEFAULT_TIMEOUT_MS);
    });
  }

  /** Every reply, in order; with `stream`, the caller's messages too. */
  start(topic: string, message: RawMessage, options: StreamOptions, form: CallForm): StreamCall {
    if (form === 'one') {
      const call = new StreamCall(this, topic, { windowBytes: null });
      this.#ask(call, 'REQUEST', message, options, DEFAULT_TIMEOUT_MS);
      return call;
    }
    const { windowBytes = DEFAULT_WINDOW } = options;
    const call = new StreamCall(this, topic, { windowBytes, sends: form === 'stream' });
    this.#ask(call, 'OPEN', message, options, form === 'stream' ? null : DEFAULT_TIMEOUT_MS);
    return call;
  }

  close(error: RivuletError): void {
    this.#closed = true;
    this.#connection?.destroy(error);
    this.#opening?.then((late) => late.destroy(error)).catch(() => {});
  }

  // ---- For calls

  cancel({ id }: OutgoingCall): void {
    if (id !== null) this.#connection?.send(['CANCEL', id], DEAF);
  }

  more({ id }: OutgoingCall, message: RawMessage): void {
    const command: CommandArgument[] = ['SEND', id as number, 'MORE'];
    pushParts(command, message);
    this.#connection?.send(command, DEAF);
  }

  end({ id }: OutgoingCall): void {
    this.#connection?.send(['SEND', id as number, 'END'], DEAF);
  }

  grant({ id }: OutgoingCall, bytes: number): void {
    this.#connection?.send(['GRANT', id as number, bytes], DEAF);
  }

  forget({ id }: OutgoingCall): void {
    this.#inFlight--;
    if (id !== null) this.#waiting.delete(id as number);
  }

  #ask(
    call: OutgoingCall,
    name: 'REQUEST' | 'OPEN',
    message: RawMessage,
    { timeoutMs, signal, windowBytes }: StreamOptions,
    defaultTimeoutMs: number | null,
  ): void {
    const { topic } = call;
    this.#inFlight++;
    if (timeoutMs !== undefined && !(timeoutMs > 0)) {
      const text = `timeoutMs must be above 0, not ${timeoutMs}`;
      call.fail(new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' }));
      return;
    }
    if (this.#inFlight > MOST_IN_FLIGHT) {
      call.fail(new RivuletError('LIMIT_EXCEEDED', `${MOST_IN_FLIGHT} requests are in flight`));
      return;
    }
    const ends = timeoutMs ?? defaultTimeoutMs;
    call.watch(this.#timeouts, { timeoutMs: ends, signal });
    if (call.over) return;
    const command: CommandArgument[] = [
      name,
      topic,
      ends === null ? 0 : Math.ceil(ends) + GRACE_MS,
    ];
    if (name === 'OPEN') command.push(windowBytes ?? DEFAULT_WINDOW);
    pushParts(command, message);
    const connection = this.#connection;
    if (connection !== null) this.#send(connection, call, command);
    else this.#askLater(call, command);
  }

  #send(connection: Connection, call: OutgoingCall, command: CommandArgument[]): void {
    try {
      connection.send(command, new Asked(this, call, command));
    } catch (error) {
      call.fail(error as RivuletError);
    }
  }

  #askLater(call: OutgoingCall, command: CommandArgument[]): void {
    this.#open().then(
      (connection) => {
        if (!call.over) this.#send(connection, call, command);
      },
      (error) => call.fail(notSent(notConnected(error)) as RivuletError),
    );
  }

  /** A responder that does not support streams gets a REQUEST: it replies without credit. */
  askWithoutCredit(call: OutgoingCall, command: CommandArgument[]): boolean {
    const connection = this.#connection;
    if (!(call instanceof StreamCall) || call.sends || connection === null) return false;
    call.withoutCredit();
    const [, topic = '', timeoutMs = 0, , ...parts] = command;
    if (!call.over) this.#send(connection, call, ['REQUEST', topic, timeoutMs, ...parts]);
    return true;
  }

  /** The server has taken the call under this number. */
  taken(call: OutgoingCall, id: number): void {
    if (call.over) {
      this.#connection?.send(['CANCEL', id], DEAF);
      return;
    }
    call.id = id;
    this.#waiting.set(id, call);
    // The server knows the call: from now on its messages can be sent.
    if (call instanceof StreamCall) call.opened(this.#timeouts);
  }

  #open(): Promise<Connection> {
    this.#opening ??= this.#openNow().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #openNow(): Promise<Connection> {
    const connection = await this.#client.openDedicated({
      push: (items) => this.#onPush(items),
      room: () => {},
      closed: (error, lost) => this.#onLost(error, lost),
    });
    if (this.#closed) {
      connection.destroy();
      throw new RivuletError('CLOSED', 'the broker is disconnected');
    }
    this.#connection = connection;
    return connection;
  }

  #onPush(items: readonly Reply[]): void {
    const call = this.#waiting.get(items[1] as number);
    if (call === undefined) return;
    if (call instanceof StreamCall) call.heard();
    switch (String(items[0])) {
      case 'reply':
        call.receive(messageFrom(items, 2), costOfParts(items, 2), true);
        break;
      case 'more':
        call.receive(messageFrom(items, 2), costOfParts(items, 2), false);
        break;
      case 'end':
        call.finished(headersFrom(items[2]));
        break;
      case 'grant':
        if (call instanceof StreamCall) call.granted(items[2] as number);
        break;
      case 'failed':
        call.fail(failureOf(String(items[2]), String(items[3])));
    }
  }

  #onLost(error: RivuletError, lost: Connection): void {
    if (this.#connection === lost) this.#connection = null;
    // The connection has failed the commands that had no reply.
    for (const call of [...this.#waiting.values()]) call.fail(notConnected(error));
  }
}

/** Receives the reply to REQUEST or OPEN: the call's number, or the error that refused it. */
class Asked implements Pending {
  readonly #requests: RemoteRequests;
  readonly #call: OutgoingCall;
  readonly #command: CommandArgument[] | null;

  constructor(requests: RemoteRequests, call: OutgoingCall, command: CommandArgument[]) {
    this.#requests = requests;
    this.#call = call;
    // Only an OPEN may have to be sent again, as REQUEST.
    this.#command = command[0] === 'OPEN' ? command : null;
  }

  reply(value: Reply): void {
    if (value instanceof ReplyError) {
      if (value.prefix === 'UNSUPPORTED' && this.#command !== null) {
        if (this.#requests.askWithoutCredit(this.#call, this.#command)) return;
      }
      // The server refused the command: no responder has seen it.
      const refused = failureOf(value.prefix, value.message, value);
      this.#call.fail(notSent(refused) as RivuletError);
    } else this.#requests.taken(this.#call, value as number);
  }

  fail(error: RivuletError): void {
    this.#call.fail(notConnected(error));
  }
}

const DEAF: Pending = { reply() {}, fail() {} };

const CODES: Record<string, ErrorCode> = {
  NORESPONDERS: 'NO_RESPONDERS',
  RESPONDERLOST: 'RESPONDER_LOST',
  LIMIT: 'LIMIT_EXCEEDED',
  NOPERM: 'PERMISSION_DENIED',
  ERR: 'INVALID_ARGUMENT',
};

function failureOf(code: string, text: string, cause?: unknown): RivuletError {
  const ours = CODES[code];
  // The code of a server's error says whether a handler ran. The code of a responder's error does not:
  // it may come from a call that its handler made.
  if (ours !== undefined) return new RivuletError(ours, text, { cause });
  const known = Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'RESPONDER_FAILED';
  return new RivuletError(known, text, { cause, sent: 'maybe' });
}
