/**
 * Load for both sides: redis-benchmark's, filling a stream, and a light group reader.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import type { Client } from '../src/client/client.ts';
import { runTool } from '../test/helpers/children.ts';
import { encodeCommand, replyEnd } from '../test/helpers/resp-session.ts';
import { VALUE } from './row.ts';

export interface Load {
  readonly port: number;
  readonly requests: number;
  readonly connections?: number;
  readonly pipeline?: number;
  /** `__rand_int__` in the command becomes a number below this. */
  readonly random?: number;
}

/** Runs redis-benchmark with this command and returns requests per second. */
export async function redisBenchmark(load: Load, ...command: string[]): Promise<number> {
  const { port, requests, connections = 50, pipeline = 1, random } = load;
  const args = ['-p', port, '-n', requests, '-c', connections, '-P', pipeline, '--csv'].map(String);
  if (random !== undefined) args.push('-r', String(random));
  const result = await runTool('redis-benchmark', [...args, ...command], { timeoutMs: 900_000 });
  // The last line: "command","requests per second","average latency",...
  const last = result.stdout.trim().split('\n').at(-1) ?? '';
  const rate = Number(/",?"([0-9.]+)"/.exec(last)?.[1]);
  if (!(rate > 0)) throw new Error(`redis-benchmark printed: ${result.stdout}${result.stderr}`);
  return rate;
}

/** Appends entries `first-0`, `first+1-0` ..., one field with a 32-byte value each. */
export async function fillStream(
  client: Client,
  key: string,
  count: number,
  first = 1,
): Promise<void> {
  const BATCH = 5_000;
  for (let from = first; from < first + count; from += BATCH) {
    const size = Math.min(BATCH, first + count - from);
    await Promise.all(
      Array.from({ length: size }, (_, i) => client.call('XADD', key, `${from + i}-0`, 'f', VALUE)),
    );
  }
}

/**
 * Reads the whole stream through a group and acknowledges everything, on several connections, each
 * with one request under way: XREADGROUP COUNT 100, then XACK of those 100. Resolves with entries
 * per second.
 *
 * An id stands in the reply exactly as it has to stand in XACK, so its bytes are copied from one to
 * the other and nothing is parsed that need not be: the load must cost less than the server.
 */
export async function drainGroup(
  port: number,
  key: string,
  group: string,
  connections: number,
): Promise<number> {
  const startedAt = performance.now();
  const counts = await Promise.all(
    Array.from({ length: connections }, (_, i) => drainOnOneConnection(port, key, group, `c${i}`)),
  );
  const seconds = (performance.now() - startedAt) / 1000;
  return counts.reduce((sum, count) => sum + count, 0) / seconds;
}

async function drainOnOneConnection(
  port: number,
  key: string,
  group: string,
  consumer: string,
): Promise<number> {
  const socket = connectSocket({ port, host: '127.0.0.1', noDelay: true });
  const ask = replies(socket);
  const read = encodeCommand([
    'XREADGROUP',
    'GROUP',
    group,
    consumer,
    'COUNT',
    100,
    'STREAMS',
    key,
    '>',
  ]);
  let total = 0;
  for (;;) {
    const reply = await ask(read);
    if (reply[0] !== 42) throw new Error(`XREADGROUP: ${reply.toString('latin1', 0, 200)}`);
    const { command, count } = acknowledge(reply, key, group);
    if (count === 0) break;
    const acknowledged = String(await ask(command));
    if (acknowledged !== `:${count}\r\n`) throw new Error(`XACK of ${count}: ${acknowledged}`);
    total += count;
  }
  socket.destroy();
  return total;
}

/** The XACK for an XREADGROUP's reply (RESP2): `*1 *2 $key *n` and then n times `*2 $id *2 $f $value`. */
function acknowledge(
  reply: Buffer,
  key: string,
  group: string,
): { command: Buffer; count: number } {
  if (reply[1] === 45) return { command: reply, count: 0 };
  const lineAfter = (at: number) => reply.indexOf(10, at) + 1;
  let at = lineAfter(lineAfter(lineAfter(lineAfter(0))));
  const count = Number(reply.toString('latin1', at + 1, lineAfter(at) - 2));
  at = lineAfter(at);
  const ids: Buffer[] = [];
  for (let i = 0; i < count; i++) {
    const from = at + 4;
    at = lineAfter(lineAfter(from));
    ids.push(reply.subarray(from, at));
    // *2 $1 f $32 v: the payload is our own, so its length is known.
    at += '*2\r\n$1\r\nf\r\n$32\r\n\r\n'.length + VALUE.length;
  }
  const head = encodeCommand(['XACK', key, group]);
  const header = Buffer.from(`*${3 + count}\r\n`);
  return { command: Buffer.concat([header, head.subarray(4), ...ids]), count };
}

/** Sends bytes, resolves with the one reply; no queue, because one request is under way at a time. */
function replies(socket: Socket): (request: Buffer) => Promise<Buffer> {
  let gathered: Buffer[] = [];
  let resolve: (reply: Buffer) => void = () => {};
  let reject: (error: Error) => void = () => {};
  socket.on('data', (chunk) => {
    gathered.push(chunk as Buffer);
    const bytes = gathered.length === 1 ? (chunk as Buffer) : Buffer.concat(gathered);
    gathered = [bytes];
    // A line end is the last byte of every reply: a cheap test before the exact one.
    if (bytes[bytes.length - 1] !== 10 || replyEnd(bytes, 0) !== bytes.length) return;
    gathered = [];
    resolve(bytes);
  });
  socket.on('error', (error) => reject(error));
  socket.on('close', () => reject(new Error('the server closed the connection')));
  return (request) =>
    new Promise((onReply, onError) => {
      resolve = onReply;
      reject = onError;
      socket.write(request);
    });
}
