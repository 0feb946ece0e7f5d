/**
 * A bare RESP connection that gives back the exact bytes of each reply.
 *
 * It knows where a reply ends and nothing of what it means, so that it cannot share a mistake with
 * the client or the server. Replies come in the order of the commands; RESP3 pushes are kept apart.
 * Whatever is waited for comes, fails with the connection, or fails at its deadline by the command's
 * name: nothing waits for ever.
 */
import { connect, type Socket } from 'node:net';

export type Argument = string | number | Uint8Array;

export interface RespSessionOptions {
  readonly host?: string;
  /** Says HELLO 3 first. @default 2 */
  readonly protocol?: 2 | 3;
  /** A reply that takes longer is a failed test. @default 20000 */
  readonly timeoutMs?: number;
}

interface Waiter {
  readonly resolve: (reply: Buffer) => void;
  readonly reject: (error: Error) => void;
  readonly label: string;
  /** The answer may be a push: SUBSCRIBE's is one in RESP3, unless it is queued or refused. */
  readonly orPush: boolean;
}

export class RespSession implements AsyncDisposable {
  /** RESP3 pushes not taken yet. */
  readonly pushes: Buffer[] = [];
  /** Resolves once the server (or we) have closed the connection. */
  readonly closed: Promise<void>;
  readonly socket: Socket;
  #timeoutMs: number;
  #replyTimer: NodeJS.Timeout | undefined;
  #pushTimer: NodeJS.Timeout | undefined;
  #received: Buffer[] = [];
  #waiters: Waiter[] = [];
  #replies: Buffer[] = [];
  #pushWaiters: Waiter[] = [];
  #isClosed = false;
  /** Why we ended it, for those who still wait. */
  #ending = 'connection closed';

  static async open(port: number, options: RespSessionOptions = {}): Promise<RespSession> {
    const socket = connect({ port, host: options.host ?? '127.0.0.1', noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const session = new RespSession(socket, options.timeoutMs ?? 20_000);
    if (options.protocol === 3) await session.call('HELLO', 3);
    return session;
  }

  constructor(socket: Socket, timeoutMs: number) {
    this.socket = socket;
    this.#timeoutMs = timeoutMs;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (chunk) => this.#onData(chunk as Buffer));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#isClosed = true;
      clearTimeout(this.#replyTimer);
      clearTimeout(this.#pushTimer);
      for (const waiter of [...this.#waiters.splice(0), ...this.#pushWaiters.splice(0)]) {
        waiter.reject(new Error(`${this.#ending} before the reply to ${waiter.label}`));
      }
    });
  }

  /** Sends one command and resolves with the bytes of its reply. */
  call(...args: Argument[]): Promise<Buffer> {
    return this.callRaw(encodeCommand(args), labelOf(args));
  }

  /** As `call`, as text: one character a byte. */
  async text(...args: Argument[]): Promise<string> {
    return (await this.call(...args)).toString('latin1');
  }

  /** Sends a command whose answer may be a push, and resolves with the first thing that comes. */
  callOrPush(...args: Argument[]): Promise<Buffer> {
    const answer = this.#wait(this.#waiters, labelOf(args), true);
    if (!this.#isClosed) this.socket.write(encodeCommand(args));
    return answer;
  }

  /** Sends bytes as they are and resolves with the next reply. */
  callRaw(bytes: Uint8Array, label = 'raw bytes'): Promise<Buffer> {
    const reply = this.next(label);
    if (!this.#isClosed) this.socket.write(bytes);
    return reply;
  }

  /** Sends all commands in one write. */
  pipeline(commands: readonly (readonly Argument[])[]): Promise<Buffer[]> {
    const replies = commands.map((args) => this.next(labelOf(args)));
    this.socket.write(Buffer.concat(commands.map(encodeCommand)));
    return Promise.all(replies);
  }

  /** The next reply without a waiter: messages of a RESP2 subscriber, a late reply. */
  next(label = 'a reply'): Promise<Buffer> {
    const ready = this.#replies.shift();
    return ready === undefined ? this.#wait(this.#waiters, label) : Promise.resolve(ready);
  }

  /** The next RESP3 push. */
  nextPush(label = 'a push'): Promise<Buffer> {
    const ready = this.pushes.shift();
    return ready === undefined ? this.#wait(this.#pushWaiters, label) : Promise.resolve(ready);
  }

  close(): Promise<void> {
    this.socket.destroy();
    return this.closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #wait(waiters: Waiter[], label: string, orPush = false): Promise<Buffer> {
    if (this.#isClosed) return Promise.reject(new Error(`connection is closed; wanted ${label}`));
    return new Promise((resolve, reject) => {
      waiters.push({ resolve, reject, label, orPush });
      if (waiters.length === 1) this.#startTimer(waiters);
    });
  }

  /** Starts the time of the first of them again; the others get theirs when they are the first. */
  #startTimer(waiters: Waiter[]): void {
    const ofReplies = waiters === this.#waiters;
    clearTimeout(ofReplies ? this.#replyTimer : this.#pushTimer);
    if (waiters.length === 0) return;
    const timer = setTimeout(() => {
      this.#ending = `connection ended, for nothing came for ${waiters[0]?.label},`;
      const waiter = waiters.shift();
      waiter?.reject(new Error(`no reply to ${waiter.label} within ${this.#timeoutMs} ms`));
      this.socket.destroy();
    }, this.#timeoutMs);
    if (ofReplies) this.#replyTimer = timer;
    else this.#pushTimer = timer;
  }

  #onData(chunk: Buffer): void {
    this.#received.push(chunk);
    const bytes = this.#received.length === 1 ? chunk : Buffer.concat(this.#received);
    const [repliesDue, pushesDue] = [this.#waiters.length, this.#pushWaiters.length];
    let from = 0;
    for (;;) {
      const end = replyEnd(bytes, from);
      if (end < 0) break;
      this.#deliver(Buffer.from(bytes.subarray(from, end)));
      from = end;
    }
    const rest = bytes.subarray(from);
    this.#received = rest.length > 0 ? [rest] : [];
    if (this.#waiters.length !== repliesDue) this.#startTimer(this.#waiters);
    if (this.#pushWaiters.length !== pushesDue) this.#startTimer(this.#pushWaiters);
  }

  #deliver(reply: Buffer): void {
    const isPush = reply[0] === PUSH;
    const waiters = isPush && !this.#waiters[0]?.orPush ? this.#pushWaiters : this.#waiters;
    const waiter = waiters.shift();
    if (waiter) waiter.resolve(reply);
    else (isPush ? this.pushes : this.#replies).push(reply);
  }
}

/** The `>` before a push. */
const PUSH = 62;

export function encodeCommand(args: readonly Argument[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = typeof arg === 'object' ? arg : Buffer.from(String(arg));
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, CRLF);
  }
  return Buffer.concat(parts);
}

const CRLF = Buffer.from('\r\n');

/** Where the reply that starts at `from` ends, or -1 while it is incomplete. */
export function replyEnd(bytes: Buffer, from: number): number {
  // How many values are still to be read, in place of recursion: nesting is only arithmetic.
  let missing = 1;
  let at = from;
  while (missing > 0) {
    const lineEnd = bytes.indexOf('\r\n', at, 'latin1');
    if (lineEnd < 0) return -1;
    const type = String.fromCharCode(bytes[at]);
    missing--;
    const count = () => Math.max(0, Number(bytes.toString('latin1', at + 1, lineEnd)));
    if ('*~>'.includes(type)) missing += count();
    else if (type === '%') missing += 2 * count();
    else if (type === '|') missing += 2 * count() + 1;
    else if ('$=!'.includes(type)) {
      const isNull = bytes[at + 1] === 45;
      at = isNull ? lineEnd + 2 : lineEnd + 2 + count() + 2;
      if (at > bytes.length) return -1;
      continue;
    } else if (!'+-:_,#('.includes(type)) {
      throw new Error(`not a RESP reply: ${JSON.stringify(bytes.toString('latin1', at, lineEnd))}`);
    }
    at = lineEnd + 2;
  }
  return at;
}

function labelOf(args: readonly Argument[]): string {
  return args
    .slice(0, 8)
    .map((arg) => String(arg).slice(0, 40))
    .join(' ');
}
