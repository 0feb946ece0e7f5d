/**
 * One responder on our own server: a connection of its own, kept up, and the handlers that run.
 *
 * Invariants: at most `concurrency` requests are in hand, which is the credit that the server was
 * told; a handler hears through its signal that its caller is gone; a lost connection is replaced
 * with backoff, and what was in hand is over then, because the server has told the callers.
 * Cost: replies of one turn leave in one write; the AbortController is made when somebody looks.
 */
import type { CommandArgument } from '../client/command-encoder.ts';
import type { Connection, Pending } from '../client/connection.ts';
import { type Reply, ReplyError } from '../client/reply.ts';
import { RivuletError } from '../errors.ts';
import type { BrokerEvents, Responder } from './broker.ts';
import type { Attachment } from './broker-base.ts';
import type { Events } from './events.ts';
import { KeptConnection } from './kept-connection.ts';
import type { Message } from './message.ts';
import type { BrokerOptions } from './options.ts';
import { messageFrom, pushParts } from './remote-frames.ts';
import type { RemoteLink } from './remote-link.ts';
import type { Tracing } from './trace.ts';

const LONGEST_TEXT = 1000;
/** So the server hears something within this time, or tells callers that this responder is lost. */
const ALIVE_MS = 4000;

export interface ResponderSetup {
  readonly topic: string;
  readonly handler: Responder;
  readonly group: string;
  readonly concurrency: number;
  readonly link: RemoteLink;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
}

export class RemoteResponder implements Attachment {
  readonly #setup: ResponderSetup;
  readonly #jobs = new Map<number, Job>();
  readonly #kept: KeptConnection;
  #whenIdle: (() => void) | null = null;

  private constructor(setup: ResponderSetup) {
    this.#setup = setup;
    const { link, broker, topic, group, concurrency } = setup;
    const options = ['GROUP', group, 'CREDIT', concurrency, 'ALIVE', ALIVE_MS];
    this.#kept = new KeptConnection({
      link,
      broker,
      push: (items) => this.#onPush(items),
      greet: (connection) => connection.call('RESPOND', topic, ...options),
      lost: (error) => this.#onLost(error),
      failed: (error) => this.#warn(error),
    });
  }

  /** Resolves once requests can come. */
  static async open(setup: ResponderSetup): Promise<RemoteResponder> {
    const responder = new RemoteResponder(setup);
    await responder.#kept.connect();
    return responder;
  }

  get inFlight(): number {
    return this.#jobs.size;
  }

  async close(timeoutMs: number): Promise<void> {
    this.#kept.stop();
    await this.#connection?.call('UNRESPOND', this.#setup.topic).catch(() => {});
    await this.#idle(timeoutMs);
    const error = new RivuletError('RESPONDER_LOST', 'the responder is closed');
    for (const [id, job] of [...this.#jobs]) {
      this.#answer(id, job, ['REPLY', id, 'ERROR', error.code, error.message]);
      job.abort(error);
    }
    // What was just sent must leave before the socket ends.
    await this.#connection?.call('PING').catch(() => {});
    await this.#kept.close(new RivuletError('CLOSED', 'the responder is closed'));
  }

  get #connection(): Connection | null {
    return this.#kept.current;
  }

  #onPush(items: readonly Reply[]): void {
    const id = items[1] as number;
    switch (String(items[0])) {
      case 'request': {
        const job = new Job();
        this.#jobs.set(id, job);
        void this.#run(id, job, messageFrom(items, 3));
        break;
      }
      case 'cancel':
        this.#jobs.get(id)?.abort(new RivuletError('ABORTED', 'the caller has given up'));
        this.#forget(id);
    }
  }

  async #run(id: number, job: Job, request: Message): Promise<void> {
    const { handler, topic, tracing } = this.#setup;
    try {
      const context = new Context(job, topic);
      const result = await tracing.run(request.headers, () => handler(request, context));
      if (Symbol.asyncIterator in result) await this.#stream(id, job, result);
      else {
        const command: CommandArgument[] = ['REPLY', id, 'LAST'];
        pushParts(command, result);
        this.#answer(id, job, command);
      }
    } catch (error) {
      const code = error instanceof RivuletError ? error.code : 'RESPONDER_FAILED';
      const text = (error instanceof Error ? error.message : String(error)).slice(0, LONGEST_TEXT);
      this.#answer(id, job, ['REPLY', id, 'ERROR', code, text]);
    }
  }

  async #stream(id: number, job: Job, replies: AsyncIterable<Message>): Promise<void> {
    // Given up before it began: a generator that starts now would wait in vain for the signal.
    if (job.over) return;
    for await (const reply of replies) {
      if (job.over) return;
      const command: CommandArgument[] = ['REPLY', id, 'MORE'];
      pushParts(command, reply);
      const connection = this.#connection;
      if (connection === null) return;
      if (connection.hasRoom) connection.send(command, this.#checked);
      // Waiting for the answer is what slows a responder down to what the connection takes.
      else await connection.call(...command).catch(() => {});
    }
    this.#answer(id, job, ['REPLY', id, 'END']);
  }

  /** The last word on a request, unless it has ended before. */
  #answer(id: number, job: Job, command: CommandArgument[]): void {
    if (job.over) return;
    job.over = true;
    this.#forget(id);
    try {
      this.#connection?.send(command, this.#checked);
    } catch (cause) {
      // The handler gave something that is no message.
      const error = ['REPLY', id, 'ERROR', 'RESPONDER_FAILED', (cause as Error).message];
      this.#connection?.send(error, this.#checked);
    }
  }

  #forget(id: number): void {
    this.#jobs.delete(id);
    if (this.#jobs.size === 0) this.#whenIdle?.();
  }

  #onLost(error: RivuletError): void {
    for (const job of this.#jobs.values()) {
      job.abort(new RivuletError('ABORTED', 'the connection was lost', { cause: error }));
    }
    this.#jobs.clear();
    this.#whenIdle?.();
  }

  #idle(timeoutMs: number): Promise<void> {
    if (this.#jobs.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#setup.broker.scheduler.after(timeoutMs, () => this.#whenIdle?.());
      this.#whenIdle = () => {
        this.#whenIdle = null;
        cancel();
        resolve();
      };
    });
  }

  /** A reply that the server does not take (too large, say) is worth a word. */
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

/** One request in hand. */
class Job {
  over = false;
  #controller: AbortController | null = null;

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  abort(reason: RivuletError): void {
    this.over = true;
    // Also for who looks at the signal later.
    this.#controller ??= new AbortController();
    this.#controller.abort(reason);
  }
}

class Context {
  readonly topic: string;
  readonly #job: Job;

  constructor(job: Job, topic: string) {
    this.#job = job;
    this.topic = topic;
  }

  get signal(): AbortSignal {
    return this.#job.signal;
  }
}
