/** A client of a simulated server: its socket is an object, the rest is the server's own. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { ConnectedClient, ServerState } from '../../src/server/server-state.ts';

/** A command on its way. */
export interface Sent {
  readonly args: readonly string[];
  /** The position behind everything that its reply may show. */
  readonly shows: number;
  /** What the first byte of its reply may be, but for an error's. */
  readonly kinds: string;
  /** It may wait for entries. */
  readonly blocks: boolean;
  /** Where the log stood when it was sent. */
  readonly sentAt: number;
}

class SimulatedSocket extends EventEmitter {
  readonly remoteAddress = '10.0.0.1';
  readonly remotePort = 1000;
  readonly writableLength = 0;
  destroyed = false;
  received = '';

  write(bytes: Buffer, done?: () => void): boolean {
    this.received += bytes.toString('latin1');
    if (done !== undefined) setImmediate(done);
    return true;
  }

  destroy(): void {
    this.destroyed = true;
  }

  destroySoon(): void {
    this.destroyed = true;
  }

  cork(): void {}
  uncork(): void {}
  pause(): void {}
  resume(): void {}
}

export class SimulatedClient {
  readonly waiting: Sent[] = [];
  /** The commands that it has queued since MULTI; null outside of one. */
  unit: (readonly string[])[] | null = null;
  readonly #socket = new SimulatedSocket();
  readonly #server: ServerState;
  readonly #connection: ConnectedClient;

  constructor(server: ServerState) {
    this.#server = server;
    this.#connection = server.connect(this.#socket as unknown as Socket, null);
    server.connections.set(this.#connection.id, this.#connection);
  }

  get id(): number {
    return this.#connection.id;
  }

  /** What it sends now may be left until entries have come. */
  get mayBeBlocked(): boolean {
    return this.waiting.some(({ blocks }) => blocks);
  }

  /** The command that waits for entries of this stream; null where none does. */
  blockedOn(stream: string): string | null {
    const args = this.waiting.find(({ blocks }) => blocks)?.args;
    const isOn = this.#connection.blocked && args?.at(-2) === stream;
    return isOn ? (args[0] as string) : null;
  }

  /** Where the log stood when the command that may wait was sent. */
  get blockedSince(): number {
    return this.waiting.find(({ blocks }) => blocks)?.sentAt ?? 0;
  }

  send(args: readonly string[]): void {
    const parts = args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join('');
    const bytes = Buffer.from(`*${args.length}\r\n${parts}`, 'latin1');
    this.#connection.receive(bytes, bytes.length);
  }

  /** The connection is gone, whatever it waits for. */
  leave(): void {
    this.#socket.destroyed = true;
    this.#connection.closed();
    this.#server.connections.delete(this.#connection.id);
  }

  /** The replies that have come since the last call, each with its command. */
  *take(): Generator<{ reply: string; sent: Sent }> {
    for (;;) {
      const { received } = this.#socket;
      const end = endOfReply(received, 0);
      if (end === -1) return;
      const sent = this.waiting.shift();
      assert.ok(sent !== undefined, `a reply to nothing: ${JSON.stringify(received)}`);
      this.#socket.received = received.slice(end);
      yield { reply: received.slice(0, end), sent };
    }
  }
}

/** Where the reply ends that begins at `at`; -1 = it is not there whole. */
function endOfReply(text: string, at: number): number {
  const line = text.indexOf('\r\n', at);
  if (line === -1) return -1;
  const count = Number(text.slice(at + 1, line));
  if (text[at] === '$') {
    const end = count < 0 ? line + 2 : line + 2 + count + 2;
    return end <= text.length ? end : -1;
  }
  if (text[at] !== '*') return line + 2;
  let end = line + 2;
  for (let i = 0; i < count && end !== -1; i++) end = endOfReply(text, end);
  return end;
}
