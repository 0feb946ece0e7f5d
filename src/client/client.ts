/**
 * The client: one connection shared by all calls, which it replaces when it is lost, and others for
 * commands that block.
 *
 * Calls made in one turn of the event loop are sent in one write, in the order of the calls. A call that was
 * sent and received no reply fails (CONNECTION_FAILED, TIMEOUT) and is never sent again, because the client
 * cannot know whether the server executed it. A call that was not yet sent waits for the next connection.
 * MULTI, WATCH and SELECT change the connection that all callers share: use `transaction`, and `db`. What
 * would take other calls' replies away is refused (shared-connection.ts).
 *
 *     await using client = await connect({ port: 7488 });
 *     const id = await client.call('XADD', 'orders', '*', 'total', 12);
 *
 * Limits: `maxInFlight` sent, `maxWaiting` waiting, `maxBlocking` blocked; beyond them calls are
 * refused.
 */
import { EventEmitter } from 'node:events';
import { RivuletError } from '../errors.ts';
import { backoffMs } from '../util/time/backoff.ts';
import { BlockingPool, blockMsOf } from './blocking-pool.ts';
import type { CommandArgument } from './command-encoder.ts';
import { Connection, type Pending } from './connection.ts';
import { Fifo } from './fifo.ts';
import { type ClientOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { type Reply, ReplyError } from './reply.ts';
import { refusalOf } from './shared-connection.ts';
import { Subscriptions } from './subscriptions.ts';
import { runTransaction } from './transaction.ts';

export interface SendOptions {
  /** Abandons the call. One that was already sent may still be executed. */
  readonly signal?: AbortSignal;
  /**
   * The command blocks for up to this many milliseconds (0 = for ever): it gets a separate connection.
   * XREAD and XREADGROUP with BLOCK are recognised without it.
   */
  readonly blockMs?: number;
}

interface ClientEvents {
  /** A RESP3 push: its kind, then its items (`message`, channel, payload). */
  push: [kind: string, items: Reply[]];
  /** Connected again after a loss. */
  reconnect: [];
  /** The connection was lost, or an attempt to replace it failed. */
  disconnect: [error: RivuletError];
  /** Closed by this client, or lost with `reconnect: false`. */
  close: [];
}

/** A call that waits to be sent. `commands` are sent one right after the other on one connection. */
interface Waiting {
  readonly commands: readonly (readonly CommandArgument[])[];
  readonly pending: Pending;
  /** The caller has abandoned the call. */
  isAbandoned: boolean;
}

/** Connects, and rejects when the first attempt fails. */
export async function connect(options: ClientOptions = {}): Promise<Client> {
  const client = new Client(resolveOptions(options));
  await client.open();
  return client;
}

export class Client extends EventEmitter<ClientEvents> implements AsyncDisposable {
  readonly #options: ResolvedOptions;
  readonly #waiting = new Fifo<Waiting>();
  readonly #blocking: BlockingPool;
  readonly #subscriptions = new Subscriptions();
  #connection: Connection | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #onIdle: (() => void) | undefined;

  /** Use `connect`. */
  constructor(options: ResolvedOptions) {
    super();
    this.#options = options;
    this.#blocking = new BlockingPool(options, (id) => this.call('CLIENT', 'UNBLOCK', id));
  }

  /** Whether there is a connection now. */
  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  /** Calls sent or waiting that have no reply yet. */
  get pendingCalls(): number {
    return (this.#connection?.inFlight ?? 0) + this.#waiting.length;
  }

  /** Sends one command and resolves with its reply; an error reply rejects as ReplyError. */
  call(...args: CommandArgument[]): Promise<Reply> {
    const blockMs = blockMsOf(args);
    if (blockMs !== undefined) return this.#blocking.call(args, blockMs);
    return new Promise((resolve, reject) => this.#send(args, new Call(resolve, reject)));
  }

  /** As `call`, with options. */
  send(args: readonly CommandArgument[], options: SendOptions = {}): Promise<Reply> {
    const { signal } = options;
    const blockMs = options.blockMs ?? blockMsOf(args);
    if (blockMs !== undefined) return this.#blocking.call(args, blockMs, signal);
    if (signal === undefined) return this.call(...args);
    if (signal.aborted) return Promise.reject(aborted(signal));
    return new Promise((resolve, reject) => {
      const waiting = this.#send(args, new Call(settle(resolve), settle(reject)));
      const abandon = () => {
        if (waiting !== undefined) waiting.isAbandoned = true;
        reject(aborted(signal));
      };
      signal.addEventListener('abort', abandon, { once: true });
      function settle<T>(end: (value: T) => void): (value: T) => void {
        return (value) => {
          signal?.removeEventListener('abort', abandon);
          end(value);
        };
      }
    });
  }

  /**
   * Sends the commands one right after the other, in one write, on one connection. Resolves with
   * their replies; an error reply is one of them. Rejects as a whole when the connection is lost.
   */
  pipeline(commands: readonly (readonly CommandArgument[])[]): Promise<Reply[]> {
    if (commands.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const replies: Reply[] = [];
      const reply = (value: Reply) => {
        if (replies.push(value) === commands.length) resolve(replies);
      };
      this.#enqueue({ commands, pending: { reply, fail: reject }, isAbandoned: false });
    });
  }

  /**
   * MULTI, the commands, EXEC. Resolves with EXEC's replies (errors among them); rejects when the
   * transaction was refused, and then nothing was executed. Takes two round trips: a user who may not run
   * MULTI is refused before the commands are sent, which the server would otherwise run one by one.
   */
  transaction(commands: readonly (readonly CommandArgument[])[]): Promise<Reply[]> {
    return runTransaction((each) => this.pipeline(each), commands);
  }

  /** Waits for the replies of what was sent, then closes. Calls from now on are refused. */
  async close(): Promise<void> {
    if (!this.#isClosed && this.pendingCalls > 0 && this.isConnected) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    this.destroy();
  }

  /** Closes at once: calls without a reply fail with CLOSED. */
  destroy(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    const error = new RivuletError('CLOSED', 'the client was closed');
    this.#blocking.destroy(error);
    this.#connection?.destroy(error);
    this.#connection = undefined;
    this.#failWaiting(error);
    this.#onIdle?.();
    this.emit('close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Connects for the first time; part of `connect`. */
  async open(): Promise<void> {
    const connection = await Connection.open(this.#options, {
      push: (items) => this.#onPush(items),
      room: () => this.#pump(),
      closed: (error, lost) => this.#onLost(lost, error),
    });
    if (this.#isClosed) {
      connection.destroy();
      return;
    }
    this.#connection = connection;
    // Waiting calls may subscribe or unsubscribe too: existing subscriptions are renewed before them.
    for (const args of this.#subscriptions.commands()) {
      connection.send(args, { reply: () => {}, fail: () => {} }, 0, args.length - 1);
    }
    this.#pump();
  }

  /** Sends at once if possible; otherwise returns the place in the queue. */
  #send(args: readonly CommandArgument[], pending: Pending): Waiting | undefined {
    if (this.#waiting.length === 0 && this.#connection?.hasRoom === true) {
      this.#write(this.#connection, [args], pending);
      return undefined;
    }
    const waiting = { commands: [args], pending, isAbandoned: false };
    this.#enqueue(waiting);
    return waiting;
  }

  #enqueue(waiting: Waiting): void {
    if (this.#isClosed) waiting.pending.fail(new RivuletError('CLOSED', 'the client was closed'));
    else if (this.#waiting.length >= this.#options.maxWaiting) {
      const text = `${this.#waiting.length} calls wait already (maxWaiting)`;
      waiting.pending.fail(new RivuletError('LIMIT_EXCEEDED', text));
    } else {
      this.#waiting.push(waiting);
      this.#pump();
    }
  }

  #write(
    connection: Connection,
    commands: readonly (readonly CommandArgument[])[],
    pending: Pending,
  ): void {
    for (const args of commands) {
      const reason = refusalOf(args);
      if (reason === null) continue;
      pending.fail(new RivuletError('UNSUPPORTED', reason));
      return;
    }
    const outgoing = commands.map((args) => {
      return { args, pending, confirmations: this.#subscriptions.confirmationsOf(args) };
    });
    const subscribes = outgoing.some(({ confirmations }) => confirmations !== 0);
    if (subscribes && this.#options.protocol === 2) {
      pending.fail(new RivuletError('UNSUPPORTED', 'subscriptions need protocol 3'));
      return;
    }
    try {
      // A pipeline or transaction with a bad argument sends nothing.
      connection.sendAll(outgoing);
    } catch (error) {
      const cause = error as Error;
      pending.fail(new RivuletError('INVALID_ARGUMENT', cause.message, { cause }));
    }
  }

  /** Sends waiting calls, as far as there is room. */
  #pump(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    while (this.#waiting.length > 0 && connection.hasRoom) {
      const { commands, pending, isAbandoned } = this.#waiting.shift() as Waiting;
      if (isAbandoned) continue;
      this.#write(connection, commands, pending);
    }
    if (this.#onIdle !== undefined && this.pendingCalls === 0) this.#onIdle();
  }

  #onPush(items: Reply[]): void {
    this.#subscriptions.onPush(items);
    this.emit('push', String(items[0]), items.slice(1));
  }

  #onLost(connection: Connection, error: RivuletError): void {
    if (this.#isClosed || connection !== this.#connection) return;
    this.#connection = undefined;
    this.emit('disconnect', error);
    if (this.#options.reconnect === undefined || this.#onIdle !== undefined) {
      this.#failWaiting(error);
      this.destroy();
    } else this.#retry(0);
  }

  #retry(attempt: number): void {
    const { reconnect } = this.#options;
    if (reconnect === undefined || this.#isClosed) return;
    const delay = backoffMs(reconnect, attempt + 1, Math.random());
    this.#retryTimer = setTimeout(async () => {
      try {
        await this.open();
        if (!this.#isClosed) this.emit('reconnect');
      } catch (error) {
        if (this.#isClosed) return;
        this.emit('disconnect', error as RivuletError);
        this.#retry(attempt + 1);
      }
    }, delay);
  }

  #failWaiting(error: RivuletError): void {
    for (const { pending } of this.#waiting.drain()) pending.fail(error);
  }
}

/** A promise that a reply settles. */
class Call implements Pending {
  readonly #resolve: (reply: Reply) => void;
  readonly fail: (error: RivuletError) => void;

  constructor(resolve: (reply: Reply) => void, reject: (error: RivuletError) => void) {
    this.#resolve = resolve;
    this.fail = reject;
  }

  reply(reply: Reply): void {
    if (typeof reply === 'object' && reply instanceof ReplyError) this.fail(reply);
    else this.#resolve(reply);
  }
}

function aborted(signal: AbortSignal): RivuletError {
  return new RivuletError('ABORTED', 'the call was aborted', { cause: signal.reason });
}
