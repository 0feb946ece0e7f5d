/**
 * Commands run inside the server's own process, as one user of it.
 *
 * Holds: a connection of the server whose socket is this object: bytes of commands go in, bytes of replies
 * come out. So a command of the console is checked, logged, counted and held back until the disk has it
 * exactly as a command of any client.
 * Invariants: replies come in the order of the calls; every call is settled once; a connection that the
 * server ends is replaced at the next call, and no call runs for a user that is deleted or switched off.
 * Cost: encoding and parsing, no system call.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type CommandArgument, CommandEncoder } from '../../client/command-encoder.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { ReplyParser } from '../../client/reply-parser.ts';
import { RivuletError } from '../../errors.ts';
import type { User } from '../../server/acl/acl-user.ts';
import type { ConnectedClient, ServerState } from '../../server/server-state.ts';
import { Arguments } from '../../util/arguments.ts';
import type { Commands } from './commands.ts';

/** Calls without a reply; further ones are refused. */
const MOST_CALLS = 4096;

interface Waiting {
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

export class LocalCommands implements Commands {
  readonly #state: ServerState;
  readonly #user: User;
  readonly #address: string;
  readonly #encoder = new CommandEncoder();
  #inner: Inner | null = null;
  #isClosed = false;
  readonly #isValid: () => boolean;

  /**
   * `address` is what CLIENT INFO and the ACL log show. `isValid` is asked before each call, because the
   * connection of a deleted user would otherwise be replaced by one with that user's former rights.
   */
  constructor(state: ServerState, user: User, address: string, isValid = () => true) {
    this.#state = state;
    this.#user = user;
    this.#address = address;
    this.#isValid = isValid;
  }

  call(...args: CommandArgument[]): Promise<Reply> {
    return new Promise((resolve, reject) => this.#send(args, { resolve, reject }));
  }

  async transaction(commands: readonly (readonly CommandArgument[])[]): Promise<Reply[]> {
    // Without a right to MULTI each command would run for itself.
    for (const name of ['MULTI', 'EXEC']) this.#mustBeAllowed(name);
    // Sent in one turn, so no call of another request comes between them.
    const sent = [['MULTI'], ...commands, ['EXEC']].map((args) => this.call(...args));
    const replies = await Promise.allSettled(sent);
    const last = replies.at(-1)!;
    if (last.status === 'fulfilled' && Array.isArray(last.value)) return last.value;
    const refused = replies.find((each) => each.status === 'rejected');
    if (refused?.status === 'rejected') throw refused.reason;
    throw new ReplyError('ERR the transaction was not executed');
  }

  #mustBeAllowed(name: string): void {
    const entry = this.#state.acl.table.byName(name);
    const args = Arguments.of(Buffer.from(name));
    if (entry !== null && this.#user.refusal(entry, args) === null) return;
    throw new ReplyError(`NOPERM User ${this.#user.name} has no permissions to run '${name}'`);
  }

  close(): void {
    this.#isClosed = true;
    this.#inner?.fail(new RivuletError('CLOSED', 'the console was closed'));
    this.#inner = null;
  }

  #send(args: readonly CommandArgument[], waiting: Waiting): void {
    if (this.#isClosed) throw new RivuletError('CLOSED', 'the console was closed');
    if (!this.#isValid()) {
      throw new RivuletError('AUTHENTICATION_FAILED', 'the user was deleted or switched off');
    }
    if (this.#inner === null || this.#inner.isEnded) {
      this.#inner = new Inner(this.#state, this.#user, this.#address);
    }
    if (this.#inner.waiting.length >= MOST_CALLS) {
      throw new RivuletError('LIMIT_EXCEEDED', `${MOST_CALLS} commands wait for a reply already`);
    }
    this.#encoder.write(args);
    this.#inner.send(this.#encoder.take(), waiting);
  }
}

/** The socket of one connection, with the calls that wait for its replies. */
class Inner extends Duplex {
  readonly waiting: Waiting[] = [];
  isEnded = false;
  readonly remoteAddress: string;
  readonly remotePort = 0;
  readonly localAddress = '127.0.0.1';
  readonly localPort = 0;
  readonly #connection: ConnectedClient;
  readonly #parser = new ReplyParser({
    reply: (reply) => this.#reply(reply),
    push: () => {},
  });

  constructor(state: ServerState, user: User, address: string) {
    super({ allowHalfOpen: true });
    this.remoteAddress = address;
    const greeting = { id: state.nextId(), user, protocol: 3 as const, name: 'console' };
    this.#connection = state.connect(this as unknown as Socket, greeting);
    this.on('close', () => {
      this.#connection.closed();
      this.fail(new RivuletError('CONNECTION_FAILED', 'the server ended the connection'));
    });
    this.on('drain', () => this.#connection.drained());
    this.on('error', () => this.destroy());
  }

  send(bytes: Buffer, waiting: Waiting): void {
    this.waiting.push(waiting);
    this.#connection.receive(bytes, bytes.length);
  }

  /** Named by net.Socket: the connection has said its last. */
  destroySoon(): void {
    this.destroy();
  }

  fail(error: Error): void {
    if (this.isEnded) return;
    this.isEnded = true;
    for (const { reject } of this.waiting.splice(0)) reject(error);
    this.destroy();
  }

  override _read(): void {}

  override _write(chunk: Buffer, _: unknown, done: (error?: Error) => void): void {
    // The server uses the buffer again once this returns, and replies are views of it.
    const isCopied = this.#parser.copies(chunk.length);
    this.#parser.feed(isCopied ? chunk : Buffer.from(chunk));
    done();
  }

  #reply(reply: Reply): void {
    const first = this.waiting.shift();
    if (first === undefined) return;
    if (reply instanceof ReplyError) first.reject(reply);
    else first.resolve(reply);
  }
}
