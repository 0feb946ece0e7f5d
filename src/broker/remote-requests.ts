/**
 * The caller's side of request and reply on our own server: REQUEST, and the pushes that follow.
 *
 * Holds: one connection for all requests of the broker, made when the first is asked, and who waits
 * for which number. Invariants: what waits ends at the latest with its timeout or the connection; a
 * caller that gives up before the end has the server tell the responder.
 * Cost: a request is one object and one promise; requests of one turn leave in one write.
 */
import type { CommandArgument } from '../client/command-encoder.ts';
import type { Connection, Pending } from '../client/connection.ts';
import { type Reply, ReplyError } from '../client/reply.ts';
import { type ErrorCode, errorTable, RivuletError } from '../errors.ts';
import type { Message } from './message.ts';
import type { BrokerOptions, RequestOptions } from './options.ts';
import { messageFrom, pushParts } from './remote-frames.ts';
import { outage, type RemoteLink } from './remote-link.ts';
import { Timeouts } from './timeouts.ts';

const DEFAULT_TIMEOUT_MS = 10_000;
const MOST_IN_FLIGHT = 10_000;
/** Replies that nobody has read yet, per request. */
const MOST_UNREAD = 10_000;
/** The server's own deadline comes after ours: a reply on its way still counts. */
const GRACE_MS = 200;

export class RemoteRequests {
  readonly #link: RemoteLink;
  readonly #timeouts: Timeouts;
  readonly #waiting = new Map<number, Asked>();
  #inFlight = 0;
  #connection: Connection | null = null;
  #opening: Promise<Connection> | null = null;
  #closed = false;

  constructor(link: RemoteLink, broker: BrokerOptions) {
    this.#link = link;
    this.#timeouts = new Timeouts(broker.scheduler);
  }

  /** The first reply. */
  one(topic: string, message: Message, options: RequestOptions = {}): Promise<Message> {
    return new Promise((resolve, reject) => {
      const asked = new OneReply(this, topic, resolve, reject);
      this.#ask(asked, message, options);
    });
  }

  /** Every reply, in order. Leaving the loop cancels the request. */
  async *many(
    topic: string,
    message: Message,
    options: RequestOptions = {},
  ): AsyncGenerator<Message, void, void> {
    const asked = new ManyReplies(this, topic);
    this.#ask(asked, message, options);
    try {
      for (;;) {
        const next = asked.take();
        if (next !== undefined) yield next;
        else if (asked.error !== null) throw asked.error;
        else if (asked.over) return;
        else await asked.more();
      }
    } finally {
      asked.giveUp(null);
    }
  }

  close(error: RivuletError): void {
    this.#closed = true;
    this.#connection?.destroy(error);
    this.#opening?.then((late) => late.destroy(error)).catch(() => {});
  }

  // ---- For Asked

  taken(asked: Asked): void {
    this.#waiting.set(asked.id, asked);
  }

  ended(asked: Asked, tellServer: boolean): void {
    this.#inFlight--;
    if (asked.id === 0) return;
    this.#waiting.delete(asked.id);
    if (tellServer) this.cancel(asked.id);
  }

  cancel(id: number): void {
    this.#connection?.send(['CANCEL', id], DEAF);
  }

  #ask(asked: Asked, message: Message, options: RequestOptions): void {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    const { topic } = asked;
    this.#inFlight++;
    if (!(timeoutMs > 0)) {
      asked.fail(new RivuletError('INVALID_ARGUMENT', 'timeoutMs must be above 0'));
      return;
    }
    if (this.#inFlight > MOST_IN_FLIGHT) {
      asked.fail(new RivuletError('LIMIT_EXCEEDED', `${MOST_IN_FLIGHT} requests are in flight`));
      return;
    }
    asked.stopTimer = this.#timeouts.add(timeoutMs, () =>
      asked.giveUp(new RivuletError('TIMEOUT', `no reply on ${topic} within ${timeoutMs} ms`)),
    );
    if (signal !== undefined) asked.watch(signal);
    if (asked.over) return;
    const command: CommandArgument[] = ['REQUEST', topic, Math.ceil(timeoutMs) + GRACE_MS];
    pushParts(command, message);
    const connection = this.#connection;
    if (connection !== null) connection.send(command, asked);
    else this.#askLater(asked, command);
  }

  #askLater(asked: Asked, command: CommandArgument[]): void {
    this.#open().then(
      (connection) => {
        if (!asked.over) connection.send(command, asked);
      },
      (error) => asked.fail(error),
    );
  }

  #open(): Promise<Connection> {
    this.#opening ??= this.#openNow().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #openNow(): Promise<Connection> {
    const connection = await this.#link.another({
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
    const asked = this.#waiting.get(items[1] as number);
    if (asked === undefined) return;
    switch (String(items[0])) {
      case 'reply':
        asked.receive(messageFrom(items, 2), true);
        break;
      case 'more':
        asked.receive(messageFrom(items, 2), false);
        break;
      case 'end':
        asked.end();
        break;
      case 'failed':
        asked.fail(failureOf(String(items[2]), String(items[3])));
    }
  }

  #onLost(error: RivuletError, lost: Connection): void {
    if (this.#connection === lost) this.#connection = null;
    // Those that were not answered yet were failed by the connection.
    for (const asked of [...this.#waiting.values()]) asked.fail(outage(error));
  }
}

/** One request, as whoever waits for the reply of its command and the pushes after it. */
abstract class Asked implements Pending {
  readonly topic: string;
  /** 0 until the server has told it. */
  id = 0;
  over = false;
  stopTimer = () => {};
  readonly #requests: RemoteRequests;
  #unwatch: (() => void) | null = null;

  constructor(requests: RemoteRequests, topic: string) {
    this.#requests = requests;
    this.topic = topic;
  }

  abstract receive(message: Message, last: boolean): void;
  abstract end(): void;
  protected abstract failed(error: RivuletError): void;

  /** The server's answer to REQUEST: the number, or why it was not taken. */
  reply(value: Reply): void {
    if (value instanceof ReplyError) {
      this.fail(failureOf(value.prefix, value.message, value));
    } else if (this.over) {
      this.#requests.cancel(value as number);
    } else {
      this.id = value as number;
      this.#requests.taken(this);
    }
  }

  fail(error: RivuletError): void {
    if (this.over) return;
    this.finish(false);
    this.failed(outage(error));
  }

  /** The caller's own end: its time is up, it was aborted, or (null) it has had enough. */
  giveUp(error: RivuletError | null): void {
    if (this.over) return;
    this.finish(true);
    if (error !== null) this.failed(error);
  }

  watch(signal: AbortSignal): void {
    const abort = () =>
      this.giveUp(
        new RivuletError('ABORTED', `request on ${this.topic} was aborted`, {
          cause: signal.reason,
        }),
      );
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    this.#unwatch = () => signal.removeEventListener('abort', abort);
  }

  protected finish(tellServer: boolean): void {
    this.over = true;
    this.stopTimer();
    this.#unwatch?.();
    this.#requests.ended(this, tellServer);
  }
}

class OneReply extends Asked {
  readonly #resolve: (message: Message) => void;
  protected readonly failed: (error: RivuletError) => void;

  constructor(
    requests: RemoteRequests,
    topic: string,
    resolve: (message: Message) => void,
    reject: (error: RivuletError) => void,
  ) {
    super(requests, topic);
    this.#resolve = resolve;
    this.failed = reject;
  }

  receive(message: Message, last: boolean): void {
    // Of several the first is wanted, and the responder may stop.
    this.finish(!last);
    this.#resolve(message);
  }

  end(): void {
    const text = `the responder on ${this.topic} ended without a reply`;
    this.fail(new RivuletError('RESPONDER_FAILED', text));
  }
}

class ManyReplies extends Asked {
  error: RivuletError | null = null;
  readonly #ready: Message[] = [];
  #wake: (() => void) | null = null;

  take(): Message | undefined {
    return this.#ready.shift();
  }

  more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  receive(message: Message, last: boolean): void {
    this.#ready.push(message);
    if (last) this.finish(false);
    else if (this.#ready.length > MOST_UNREAD) {
      this.giveUp(new RivuletError('LIMIT_EXCEEDED', `${MOST_UNREAD} replies are waiting unread`));
    }
    this.#wake?.();
  }

  end(): void {
    this.finish(false);
    this.#wake?.();
  }

  protected failed(error: RivuletError): void {
    this.error = error;
    this.#wake?.();
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
  const known = CODES[code] ?? (code in errorTable ? (code as ErrorCode) : 'RESPONDER_FAILED');
  return new RivuletError(known, text, { cause });
}
