/**
 * Recorders of calls: servers that keep what a Go client sends and answer it, and clients that send
 * what was kept to a Go server and keep its replies.
 */
import http2 from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { Seen } from '../../../src/conformance/case-context.ts';
import type { GrpcReply, GrpcRequest } from './fixtures.ts';

/** One message of HTTP/1.1 with a Content-Length at the head of `text`, or null. */
function wholeMessage(text: string): string | null {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [, length = '0'] = /^content-length: (\d+)\r$/im.exec(text.slice(0, end + 2)) ?? [];
  const all = end + 4 + Number(length);
  return text.length >= all ? text.slice(0, all) : null;
}

export class MucpRecorder implements AsyncDisposable {
  readonly seen = new Seen<string>();
  readonly address: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.address = addressOf(server);
  }

  get requests(): readonly string[] {
    return this.seen.items;
  }

  static async start(answer: (request: string) => string = emptyReply): Promise<MucpRecorder> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      let text = '';
      socket.setEncoding('latin1').on('data', (more) => {
        text += more;
        for (let one = wholeMessage(text); one !== null; one = wholeMessage(text)) {
          text = text.slice(one.length);
          recorder.seen.add(one);
          socket.write(answer(one), 'latin1');
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const recorder = new MucpRecorder(server, sockets);
    return recorder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** The least that a Go client takes for a reply. */
function emptyReply(request: string): string {
  const [, type = ''] = /^content-type: (.*)\r$/im.exec(request) ?? [];
  const body = type === 'application/json' ? '{}' : '';
  return `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** What a server of HTTP/1.1 replies to a request of bytes. */
export function replyOfMucp(address: string, request: string): Promise<string> {
  const { hostname, port } = new URL(`http://${address}`);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let text = '';
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`the reply ended early: ${text}`)));
    socket.setEncoding('latin1').on('data', (more) => {
      text += more;
      const one = wholeMessage(text);
      if (one === null) return;
      resolve(one);
      socket.destroy();
    });
    socket.write(request, 'latin1');
  });
}

export class GrpcRecorder implements AsyncDisposable {
  readonly requests: GrpcRequest[] = [];
  readonly address: string;
  readonly #server: http2.Http2Server;
  readonly #sessions: Set<http2.ServerHttp2Session>;

  private constructor(server: http2.Http2Server, sessions: Set<http2.ServerHttp2Session>) {
    this.#server = server;
    this.#sessions = sessions;
    this.address = addressOf(server);
  }

  static async start(): Promise<GrpcRecorder> {
    const sessions = new Set<http2.ServerHttp2Session>();
    const server = http2.createServer();
    server.on('session', (session) => sessions.add(session));
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      const request = { headers: plain(headers), body: '' };
      recorder.requests.push(request);
      const isJson = String(headers['content-type']).endsWith('json');
      const reply = Buffer.from(isJson ? '\0\0\0\0\u0002{}' : '\0\0\0\0\0', 'latin1');
      stream.respond(
        { ':status': 200, 'content-type': headers['content-type'] },
        { waitForTrailers: true },
      );
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      const isChat = String(headers[':path']).endsWith('/Chat');
      stream.on('data', (bytes: Buffer) => {
        request.body += bytes.toString('latin1');
        // A chat waits for a reply to each message; any other call ends with one.
        if (isChat) stream.write(reply);
        else if (!stream.writableEnded && request.body.length > 4) stream.end(reply);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const recorder = new GrpcRecorder(server, sessions);
    return recorder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const session of this.#sessions) session.destroy();
    await closed;
  }
}

/** What a gRPC server replies to a request. As Go's client does, a stream of replies ends no side. */
export async function replyOfGrpc(address: string, request: GrpcRequest): Promise<GrpcReply> {
  const session = http2.connect(`http://${address}`);
  try {
    const { ':authority': _, ...headers } = request.headers;
    const stream = session.request(headers);
    const reply: { -readonly [Name in keyof GrpcReply]: GrpcReply[Name] } = {
      headers: {},
      body: '',
      trailers: {},
    };
    stream.on('response', (found) => {
      reply.headers = plain(found);
    });
    const isWatch = String(headers[':path']).endsWith('/Watch');
    stream.on('trailers', (found) => {
      reply.trailers = plain(found);
      if (isWatch) stream.close();
    });
    stream.setEncoding('latin1').on('data', (more) => {
      reply.body += more;
    });
    const body = Buffer.from(request.body, 'latin1');
    if (isWatch) stream.write(body);
    else stream.end(body);
    await new Promise((resolve, reject) => {
      stream.once('close', resolve);
      stream.once('error', reject);
    });
    return reply;
  } finally {
    session.close();
  }
}

function plain(headers: http2.IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

function addressOf(server: { address(): unknown }): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
