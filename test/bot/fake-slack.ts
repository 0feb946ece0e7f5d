/**
 * Slack as the bot sees it: auth.test, apps.connections.open, chat.postMessage, users.info, and the socket
 * of Socket Mode, on a free port of this machine.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { WebSocket } from 'ws';
import { FakeChat } from './fake-chat.ts';

export interface Posted {
  readonly channel: string;
  readonly text: string;
  readonly [name: string]: unknown;
}

export const SLACK_TOKEN = 'xoxb-1111111111-secret';
export const SLACK_APP_TOKEN = 'xapp-1-2222222222-secret';

export class FakeSlack extends FakeChat {
  readonly posted: Posted[] = [];
  readonly acks: string[] = [];
  /** Requests by method. */
  readonly requests: string[] = [];
  /** Names of users; others are user_not_found. */
  readonly names = new Map<string, string>();
  /** Answers apps.connections.open with this error. */
  refusal: string | null = null;
  #number = 0;

  static start(): Promise<FakeSlack> {
    return new FakeSlack().listen();
  }

  protected override answer(
    request: IncomingMessage,
    text: string,
    response: ServerResponse,
  ): void {
    const body = new URLSearchParams(text);
    const method = (request.url ?? '').replace('/api/', '');
    const token = (request.headers.authorization ?? '').replace('Bearer ', '');
    this.requests.push(method);
    response.end(JSON.stringify(this.#answer(method, token, Object.fromEntries(body))));
  }

  protected override opened(socket: WebSocket): void {
    socket.send(JSON.stringify({ type: 'hello', num_connections: 1 }));
  }

  protected override take(_: WebSocket, { envelope_id: id }: Record<string, unknown>): void {
    if (typeof id === 'string') this.acks.push(id);
  }

  get url(): string {
    return `${this.origin}/api/`;
  }

  get connections(): number {
    return this.sockets.clients.size;
  }

  /** Sends an event to every open socket; returns the id of its envelope. */
  event(event: Record<string, unknown>, envelope = `e${++this.#number}`): string {
    const payload = { type: 'event_callback', event };
    const text = JSON.stringify({ envelope_id: envelope, type: 'events_api', payload });
    for (const socket of this.sockets.clients) socket.send(text);
    return envelope;
  }

  /** A message of a user. */
  say(user: string, channel: string, text: string, rest: object = {}): string {
    const ts = `${Date.now() / 1000}${++this.#number}`;
    return this.event({ type: 'message', user, channel, text, ts, ...rest });
  }

  #answer(method: string, token: string, body: Record<string, string>): object {
    if (method === 'apps.connections.open') {
      if (this.refusal !== null) return { ok: false, error: this.refusal };
      if (token !== SLACK_APP_TOKEN) return { ok: false, error: 'invalid_auth' };
      return { ok: true, url: this.url.replace('http', 'ws').replace('/api/', '/link') };
    }
    if (token !== SLACK_TOKEN) return { ok: false, error: 'invalid_auth' };
    if (method === 'auth.test') return { ok: true, user_id: 'UBOT', user: 'micro' };
    if (method === 'users.info') {
      const name = this.names.get(body.user ?? '');
      return name === undefined
        ? { ok: false, error: 'missing_scope' }
        : { ok: true, user: { id: body.user, name } };
    }
    if (method === 'chat.postMessage') {
      this.posted.push(body as unknown as Posted);
      return { ok: true, channel: body.channel, ts: `${this.posted.length}.0` };
    }
    return { ok: false, error: 'unknown_method' };
  }
}
