/**
 * A server with its console, inside the test's own process, asked by raw HTTP.
 */
import { type IncomingHttpHeaders, request as sendRequest } from 'node:http';
import { startConsole } from '../../src/cli/server/server-console.ts';
import { type Client, connect } from '../../src/client/index.ts';
import type { Console } from '../../src/console/console.ts';
import { freePort } from '../helpers/free-port.ts';
import { type RunningServer, runServer } from '../server/running-server.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse gives it
  json<T = any>(): T;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Address to connect to, when it is not 127.0.0.1. */
  readonly at?: string;
}

export interface OpenConsole extends AsyncDisposable {
  readonly running: RunningServer;
  readonly console: Console;
  readonly client: Client;
  readonly port: number;
  /** `path` is below /console/api/v1/, or begins with a slash. */
  ask(path: string, options?: Ask): Promise<Answer>;
  /** The JSON of a 200 answer; anything else fails the test. */
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse gives it
  get<T = any>(path: string, options?: Ask): Promise<T>;
}

export async function openConsole(
  parameters: Readonly<Record<string, string>> = {},
  users: readonly string[][] = [],
  login: { username?: string; password?: string } = {},
): Promise<OpenConsole> {
  const port = await freePort();
  const running = await runServer({ 'http-port': String(port), ...parameters }, users);
  const console = await startConsole(running.server, running.config);
  const client = await connect({ port: running.port, ...login });
  const ask = (path: string, options: Ask = {}): Promise<Answer> =>
    askAt(port, path.startsWith('/') ? path : `/console/api/v1/${path}`, options);
  return {
    running,
    console,
    client,
    port,
    ask,
    async get(path, options) {
      const answer = await ask(path, options);
      if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${answer.text}`);
      return answer.json();
    },
    async [Symbol.asyncDispose]() {
      client.destroy();
      await console.close();
      await running[Symbol.asyncDispose]();
    },
  };
}

export function askAt(port: number, path: string, options: Ask): Promise<Answer> {
  const { method = 'GET', headers = {}, body, at = '127.0.0.1' } = options;
  const given =
    body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const type = given === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const request = sendRequest(
      {
        host: at,
        port,
        path,
        method,
        headers: { ...type, ...headers },
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: () => JSON.parse(text),
          });
        });
      },
    );
    request.on('error', reject);
    request.end(given);
  });
}

/** The frames of a live stream, as they come; leaving the loop ends it. */
export async function* live(
  port: number,
  watch: string,
  headers: Readonly<Record<string, string>> = {},
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse gives it
): AsyncGenerator<any> {
  const path = `/console/api/v1/live?watch=${encodeURIComponent(watch)}`;
  const request = sendRequest({ host: '127.0.0.1', port, path, headers, agent: false });
  request.end();
  try {
    // biome-ignore lint/suspicious/noExplicitAny: Node's own event
    const [response] = await new Promise<any[]>((resolve, reject) => {
      request.once('response', (...args) => resolve(args));
      request.once('error', reject);
    });
    let text = '';
    for await (const chunk of response) {
      text += chunk;
      for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
        const data = /^data: (.*)$/m.exec(text.slice(0, at))?.[1];
        text = text.slice(at + 2);
        if (data !== undefined) yield JSON.parse(data);
      }
    }
  } finally {
    request.destroy();
  }
}
