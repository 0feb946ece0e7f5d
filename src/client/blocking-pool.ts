/**
 * Connections for commands that block: one command at a time on each.
 *
 * A connection whose command has ended is kept for the next one, a few at most. A command that is
 * aborted is unblocked at the server first (CLIENT UNBLOCK): when the reply is already
 * being sent, the call still resolves with it, so an abort loses no message.
 */
import { RivuletError } from '../errors.ts';
import type { CommandArgument } from './command-encoder.ts';
import { Connection } from './connection.ts';
import type { ResolvedOptions } from './options.ts';
import { type Reply, ReplyError } from './reply.ts';
import { textOf } from './shared-connection.ts';

const MAX_IDLE = 8;
/** How long the server may take to reply to an aborted command; then the connection is closed. */
const UNBLOCK_MS = 1_000;

export class BlockingPool {
  readonly #options: ResolvedOptions;
  readonly #unblock: (id: number) => Promise<Reply>;
  readonly #idle: Connection[] = [];
  readonly #busy = new Set<Connection>();
  #opening = 0;
  #closedBy: RivuletError | undefined;

  /** `unblock` sends CLIENT UNBLOCK on another connection. */
  constructor(options: ResolvedOptions, unblock: (id: number) => Promise<Reply>) {
    this.#options = options;
    this.#unblock = unblock;
  }

  /** `blockMs` 0 blocks for ever. */
  async call(
    args: readonly CommandArgument[],
    blockMs: number,
    signal?: AbortSignal,
  ): Promise<Reply> {
    if (signal?.aborted) throw abortedBy(signal);
    const connection = await this.#take();
    if (signal?.aborted) {
      this.#giveBack(connection);
      throw abortedBy(signal);
    }
    let isAborted = false;
    let cutTimer: NodeJS.Timeout | undefined;
    const abort = () => {
      isAborted = true;
      cutTimer = setTimeout(() => connection.destroy(), UNBLOCK_MS);
      if (connection.id === 0) connection.destroy();
      else this.#unblock(connection.id).catch(() => connection.destroy());
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const reply = await this.#run(connection, args, blockMs);
      if (isAborted && (reply === null || reply instanceof ReplyError)) throw abortedBy(signal);
      if (reply instanceof ReplyError) throw reply;
      return reply;
    } catch (error) {
      throw isAborted ? abortedBy(signal) : error;
    } finally {
      clearTimeout(cutTimer);
      signal?.removeEventListener('abort', abort);
      this.#giveBack(connection);
    }
  }

  destroy(error: RivuletError): void {
    this.#closedBy = error;
    for (const connection of [...this.#idle, ...this.#busy]) connection.destroy(error);
  }

  #run(connection: Connection, args: readonly CommandArgument[], blockMs: number): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const extraMs = blockMs === 0 ? Infinity : blockMs;
      try {
        connection.send(args, { reply: resolve, fail: reject }, extraMs);
      } catch (error) {
        const cause = error as Error;
        reject(new RivuletError('INVALID_ARGUMENT', cause.message, { cause }));
      }
    });
  }

  async #take(): Promise<Connection> {
    if (this.#closedBy !== undefined) throw this.#closedBy;
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      idle.setReferenced(true);
      this.#busy.add(idle);
      return idle;
    }
    if (this.#busy.size + this.#opening >= this.#options.maxBlocking) {
      const text = `${this.#busy.size} blocking commands run already (maxBlocking)`;
      throw new RivuletError('LIMIT_EXCEEDED', text);
    }
    this.#opening++;
    try {
      const connection = await Connection.open(this.#options, {
        push: () => {},
        room: () => {},
        closed: (_error, lost) => this.#forget(lost),
      });
      if (this.#closedBy !== undefined) {
        connection.destroy();
        throw this.#closedBy;
      }
      this.#busy.add(connection);
      return connection;
    } finally {
      this.#opening--;
    }
  }

  #giveBack(connection: Connection): void {
    const isOpen = this.#busy.delete(connection);
    if (!isOpen) return;
    if (this.#closedBy === undefined && this.#idle.length < MAX_IDLE && connection.inFlight === 0) {
      connection.setReferenced(false);
      this.#idle.push(connection);
    } else connection.destroy();
  }

  #forget(connection: Connection): void {
    this.#busy.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }
}

/** How long an XREAD or XREADGROUP asks to block, in milliseconds (0 = for ever); undefined when it does not. */
export function blockMsOf(args: readonly CommandArgument[]): number | undefined {
  const name = textOf(args[0]);
  if (name.length !== 5 && name.length !== 10) return undefined;
  const command = name.toUpperCase();
  if (command !== 'XREAD' && command !== 'XREADGROUP') return undefined;
  for (let i = 1; i + 1 < args.length; i++) {
    const option = textOf(args[i]).toUpperCase();
    if (option === 'STREAMS') return undefined;
    if (option === 'BLOCK') return Math.max(0, Number(textOf(args[i + 1])) || 0);
    // The names of group and consumer are not options.
    if (option === 'GROUP') i += 2;
  }
  return undefined;
}

function abortedBy(signal: AbortSignal | undefined): RivuletError {
  return new RivuletError('ABORTED', 'the call was aborted', { cause: signal?.reason });
}
