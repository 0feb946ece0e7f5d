/** Telegram's Bot API as the bot sees it: getMe, getUpdates by long polling, sendMessage, on a free port. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { FakeChat } from './fake-chat.ts';

export const TELEGRAM_TOKEN = '123456:telegram-secret';

export interface Sent {
  readonly chat_id: number;
  readonly text: string;
  readonly [name: string]: unknown;
}

export class FakeTelegram extends FakeChat {
  readonly sent: Sent[] = [];
  /** Answers the next calls of sendMessage with these objects. */
  readonly failures: object[] = [];
  polls = 0;
  #number = 100;
  #updates: { update_id: number; message: object }[] = [];
  #waiting: ServerResponse[] = [];

  static start(): Promise<FakeTelegram> {
    return new FakeTelegram().listen();
  }

  protected override answer(
    request: IncomingMessage,
    text: string,
    response: ServerResponse,
  ): void {
    const [, token, method] = /^\/bot([^/]+)\/(\w+)$/.exec(request.url ?? '') ?? [];
    if (token !== TELEGRAM_TOKEN) {
      response.end(JSON.stringify({ ok: false, error_code: 401, description: 'Unauthorized' }));
    } else this.#answer(method ?? '', JSON.parse(text || '{}'), response);
  }

  get url(): string {
    return this.origin;
  }

  say(user: { id: number; username?: string }, text: string, rest: object = {}): void {
    this.#add(user, text, rest);
    this.#deliver();
  }

  /** As `say`, all in one answer to a poll. */
  sayAll(user: { id: number; username?: string }, texts: readonly string[]): void {
    for (const text of texts) this.#add(user, text, {});
    this.#deliver();
  }

  #add(user: { id: number; username?: string }, text: string, rest: object): void {
    const message = {
      message_id: ++this.#number,
      date: Math.floor(Date.now() / 1000),
      from: { is_bot: false, first_name: 'x', ...user },
      chat: { id: user.id, type: 'private' },
      text,
      ...rest,
    };
    this.#updates.push({ update_id: ++this.#number, message });
  }

  override cut(): void {
    this.#waiting = [];
    this.closeConnections();
  }

  #answer(method: string, body: Record<string, unknown>, response: ServerResponse): void {
    const done = (result: unknown) => response.end(JSON.stringify({ ok: true, result }));
    if (method === 'getMe') {
      done({ id: 1, is_bot: true, first_name: 'Micro', username: 'micro_bot' });
    } else if (method === 'getUpdates') {
      this.polls++;
      const offset = Number(body.offset);
      this.#updates = this.#updates.filter(({ update_id }) => update_id >= offset);
      this.#waiting.push(response);
      this.#deliver();
    } else if (method === 'sendMessage') {
      const failure = this.failures.shift();
      if (failure !== undefined) response.end(JSON.stringify({ ok: false, ...failure }));
      else {
        this.sent.push(body as Sent);
        done({ message_id: 1, date: 1, chat: { id: body.chat_id, type: 'private' } });
      }
    } else response.end(JSON.stringify({ ok: false, error_code: 404, description: 'Not Found' }));
  }

  #deliver(): void {
    if (this.#updates.length === 0) return;
    for (const response of this.#waiting.splice(0)) {
      response.end(JSON.stringify({ ok: true, result: this.#updates }));
    }
  }
}
