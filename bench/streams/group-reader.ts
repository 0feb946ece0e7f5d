/**
 * Reads a whole stream through a group and acknowledges everything, at the least cost for the reader:
 * the load must cost less than the server that it measures.
 *
 * Each connection has one request in flight: XREADGROUP COUNT 100, then XACK of those 100. An id
 * is in the reply exactly as XACK wants it, so its bytes are copied from one to the
 * other, in one pass that allocates nothing. The entries must be `fillStream`'s: one field `f` with a
 * 32-byte value.
 */
import { connect, type Socket } from 'node:net';
import { encodeCommand } from '../../test/helpers/resp-session.ts';
import { VALUE } from '../row.ts';

const BATCH = 100;
/** What follows an id in the reply: the field and its value, whose length is known. */
const FIELDS_LENGTH = '*2\r\n$1\r\nf\r\n$32\r\n\r\n'.length + VALUE.length;
const NEWLINE = 10;

/** Resolves with entries per second, over all connections. */
export async function drainGroup(
  port: number,
  key: string,
  group: string,
  connections: number,
): Promise<number> {
  const readers = Array.from(
    { length: connections },
    (_, i) => new GroupReader(port, key, group, `c${i}`),
  );
  const startedAt = performance.now();
  const counts = await Promise.all(readers.map((reader) => reader.drain()));
  const seconds = (performance.now() - startedAt) / 1000;
  return counts.reduce((sum, count) => sum + count, 0) / seconds;
}

class GroupReader {
  readonly #socket: Socket;
  readonly #readCommand: Buffer;
  /** `*103 XACK key group`; the ids of a full batch are written behind it. */
  readonly #ackHead: Buffer;
  readonly #ack = Buffer.alloc(16_384);
  readonly #key: string;
  readonly #group: string;
  #reply: Buffer = Buffer.alloc(0);
  #acknowledging = 0;
  #total = 0;
  #done: (total: number) => void = () => {};
  #failed: (error: Error) => void = () => {};

  constructor(port: number, key: string, group: string, consumer: string) {
    this.#key = key;
    this.#group = group;
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.#readCommand = encodeCommand([
      'XREADGROUP',
      'GROUP',
      group,
      consumer,
      'COUNT',
      BATCH,
      'STREAMS',
      key,
      '>',
    ]);
    this.#ackHead = this.#headOfAck(BATCH);
    this.#ackHead.copy(this.#ack);
  }

  /** Resolves with the number of entries read and acknowledged once nothing is left. */
  drain(): Promise<number> {
    this.#socket.on('data', (chunk) => this.#onData(chunk as Buffer));
    this.#socket.on('error', (error) => this.#failed(error));
    this.#socket.on('close', () => this.#failed(new Error('the server closed the connection')));
    this.#socket.write(this.#readCommand);
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
    });
  }

  #headOfAck(count: number): Buffer {
    const ids = Array.from({ length: count }, () => '');
    const whole = encodeCommand(['XACK', this.#key, this.#group, ...ids]);
    return whole.subarray(0, whole.length - count * '$0\r\n\r\n'.length);
  }

  #onData(chunk: Buffer): void {
    const reply = this.#reply.length === 0 ? chunk : Buffer.concat([this.#reply, chunk]);
    this.#reply = reply;
    if (reply[reply.length - 1] !== NEWLINE) return;
    if (this.#acknowledging > 0) this.#onAcknowledged(reply);
    else this.#onEntries(reply);
  }

  #onAcknowledged(reply: Buffer): void {
    const count = this.#acknowledging;
    if (reply.toString('latin1') !== `:${count}\r\n`) {
      this.#failed(new Error(`XACK of ${count}: ${reply.toString('latin1')}`));
      return;
    }
    this.#total += count;
    this.#acknowledging = 0;
    this.#reply = reply.subarray(reply.length);
    this.#socket.write(this.#readCommand);
  }

  /** RESP2: `*1 *2 $key *n`, then n times `*2 $id *2 $1 f $32 value`. */
  #onEntries(reply: Buffer): void {
    if (reply[0] !== 42) {
      this.#failed(new Error(`XREADGROUP: ${reply.toString('latin1', 0, 200)}`));
      return;
    }
    if (reply[1] === 45) {
      this.#socket.removeAllListeners('close').destroy();
      this.#done(this.#total);
      return;
    }
    let at = 0;
    for (let line = 0; line < 4; line++) at = reply.indexOf(NEWLINE, at) + 1;
    let count = 0;
    for (at++; reply[at] !== 13; at++) count = count * 10 + reply[at] - 48;
    at += 2;
    const end = this.#copyIds(reply, at, count);
    if (end < 0) return;
    this.#acknowledging = count;
    this.#reply = reply.subarray(reply.length);
    this.#socket.write(this.#ackOf(count, end));
  }

  /** Copies the ids behind the head of XACK; returns where they end, or -1 while the reply is cut. */
  #copyIds(reply: Buffer, at: number, count: number): number {
    const ack = this.#ack;
    let to = this.#ackHead.length;
    for (let i = 0; i < count; i++) {
      // `*2\r\n$15\r\n1234567890123-0\r\n`: an id is at least three bytes, so two line ends mark it.
      at += 4;
      for (let lines = 0; lines < 2; at++) {
        const byte = reply[at];
        if (byte === NEWLINE) lines++;
        if (byte === undefined) return -1;
        ack[to++] = byte;
      }
      at += FIELDS_LENGTH;
    }
    return at === reply.length ? to : -1;
  }

  #ackOf(count: number, end: number): Buffer {
    const head = this.#ackHead;
    // One request is in flight at a time, so the buffer is free again when the reply is there.
    if (count === BATCH) return this.#ack.subarray(0, end);
    return Buffer.concat([this.#headOfAck(count), this.#ack.subarray(head.length, end)]);
  }
}
