/**
 * Load over HTTP/1.1: bare keep-alive sockets that send one request each and read its answer.
 *
 * Invariants: every answer has the wanted status and, where it is given, the wanted body; one that has not
 * ends the measurement. It parses as little as it can, so that the load costs less than what it measures.
 * Cost: one search for the end of a head per answer.
 */
import { connect, type Socket } from 'node:net';

export interface HttpLoad {
  readonly port: number;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
  /** The body of each answer; absent where it may be any. */
  readonly answer?: string;
  readonly connections: number;
  readonly ms: number;
}

export interface HttpMeasured {
  readonly perSecond: number;
  readonly p99: number;
}

const HEAD_END = Buffer.from('\r\n\r\n');
const LAST_CHUNK = Buffer.from('0\r\n\r\n');

export async function httpLoad(load: HttpLoad): Promise<HttpMeasured> {
  const { port, path, headers = {}, body, connections, ms } = load;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = Buffer.from(
    `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${lines.join('')}\r\n${body}`,
  );
  const sockets = await Promise.all(Array.from({ length: connections }, () => connected(port)));
  const times: number[] = [];
  const began = performance.now();
  try {
    await Promise.all(sockets.map((socket) => ask(socket, request, load, began + ms, times)));
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  const seconds = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  return { perSecond: times.length / seconds, p99: times[Math.floor(times.length * 0.99)] ?? 0 };
}

function connected(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    socket.once('connect', () => resolve(socket)).once('error', reject);
  });
}

/** One request after the other until the time is over. */
function ask(
  socket: Socket,
  request: Buffer,
  { answer, path }: HttpLoad,
  end: number,
  times: number[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    let sentAt = 0;
    let pending: Buffer | null = null;
    const send = () => {
      sentAt = performance.now();
      socket.write(request);
    };
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`the server closed a connection (${path})`)));
    socket.on('data', (chunk: Buffer) => {
      const bytes: Buffer = pending === null ? chunk : Buffer.concat([pending, chunk]);
      const wrong = wrongIn(bytes, answer);
      if (wrong === null) {
        pending = bytes;
        return;
      }
      pending = null;
      if (wrong !== '') {
        reject(new Error(`${path}: ${wrong}`));
        return;
      }
      const now = performance.now();
      times.push(now - sentAt);
      if (now < end) send();
      else {
        socket.removeAllListeners('close');
        resolve();
      }
    });
    send();
  });
}

/** Null for an answer that is not whole, what is wrong with it, or an empty text. */
function wrongIn(bytes: Buffer, answer: string | undefined): string | null {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd < 0) return null;
  const head = bytes.toString('latin1', 0, headEnd);
  const [, length] = /\r\ncontent-length: *(\d+)/i.exec(head) ?? [];
  const from = headEnd + HEAD_END.length;
  if (length === undefined) {
    const isEmpty = head.startsWith('HTTP/1.1 204');
    if (!isEmpty && !bytes.subarray(-LAST_CHUNK.length).equals(LAST_CHUNK)) return null;
  } else if (bytes.length < from + Number(length)) return null;
  if (!/^HTTP\/1\.1 20[04] /.test(head)) return bytes.toString('latin1', 0, 500);
  if (answer === undefined || length === undefined) return '';
  return bytes.toString('utf8', from) === answer
    ? ''
    : `the answer is ${bytes.toString('utf8', from)}`;
}
