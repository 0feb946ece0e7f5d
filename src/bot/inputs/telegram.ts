/**
 * Telegram as an input: updates by long polling, answers as plain text.
 *
 * Invariants: an update is confirmed by the next poll only, so that none is lost when a poll fails, and
 * its id is remembered, so that none comes twice; names are compared by id and by name; a rate limit is
 * waited for, at most MAX_WAIT_S. Cost: one request open at a time.
 */
import { Api, GrammyError } from 'grammy';
import type { Message } from 'grammy/types';
import { RivuletError } from '../../errors.ts';
import { pause } from '../../util/time/scheduler.ts';
import type { TelegramOptions } from '../options.ts';
import type { IncomingText, Input, InputMeans, OpenInput } from './input.ts';

const POLL_S = 30;
const REQUEST_TIMEOUT_S = 40;
const MAX_WAIT_S = 30;
const ATTEMPTS = 3;

export class TelegramInput implements Input {
  readonly name = 'telegram';
  readonly pieceSize = 4096;
  readonly #api: Api;
  readonly #means: InputMeans;
  /** The update to ask for next; kept over cuts. */
  #offset = 0;

  constructor({ token, apiUrl }: TelegramOptions, means: InputMeans) {
    const apiRoot = apiUrl === undefined ? {} : { apiRoot: apiUrl.replace(/\/+$/, '') };
    this.#api = new Api(token, { ...apiRoot, timeoutSeconds: REQUEST_TIMEOUT_S });
    this.#means = means;
  }

  async open(receive: (message: IncomingText) => Promise<void>): Promise<OpenInput> {
    const me = await this.#api.getMe().catch((error) => {
      throw refused(error) ?? error;
    });
    const closing = new AbortController();
    const closed = this.#poll(closing.signal, (message) => {
      const incoming = this.#incoming(message, me.username, closing.signal);
      if (incoming !== null) void receive(incoming);
    });
    return {
      closed,
      async close() {
        closing.abort();
        await closed;
      },
    };
  }

  /** Resolves with what ended it. */
  async #poll(signal: AbortSignal, receive: (message: Message) => void): Promise<Error | null> {
    while (!signal.aborted) {
      try {
        const updates = await this.#api.getUpdates(
          { offset: this.#offset, timeout: POLL_S, allowed_updates: ['message'] },
          signal as never,
        );
        for (const { update_id, message } of updates) {
          if (update_id < this.#offset) continue;
          this.#offset = update_id + 1;
          if (message !== undefined) receive(message);
        }
      } catch (error) {
        return signal.aborted ? null : (refused(error) ?? (error as Error));
      }
    }
    return null;
  }

  #incoming(message: Message, own: string, signal: AbortSignal): IncomingText | null {
    const { from, chat, date } = message;
    if (from === undefined || from.is_bot || message.text === undefined) return null;
    const text = addressed(message.text, own);
    if (text === null) return null;
    const { id, username } = from;
    const names = [String(id), ...(username === undefined ? [] : [`@${username.toLowerCase()}`])];
    return {
      text,
      sender: { input: 'telegram', names, isLocal: false },
      place: String(chat.id),
      sentAt: date * 1000,
      reply: (answer) => this.#reply(message, answer, signal),
    };
  }

  async #reply({ chat, message_id }: Message, text: string, signal: AbortSignal): Promise<void> {
    const isGroup = chat.type === 'group' || chat.type === 'supergroup';
    const options = {
      link_preview_options: { is_disabled: true },
      ...(isGroup ? { reply_parameters: { message_id, allow_sending_without_reply: true } } : {}),
    };
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#api.sendMessage(chat.id, text, options, signal as never);
        return;
      } catch (error) {
        const waitS = error instanceof GrammyError ? error.parameters.retry_after : undefined;
        if (waitS === undefined || waitS > MAX_WAIT_S || attempt === ATTEMPTS) throw error;
        await pause(this.#means.scheduler, waitS * 1000, signal);
      }
    }
  }
}

/** `/ping@our_bot` is `ping`; a command that names another bot is not for this one. */
function addressed(text: string, own: string): string | null {
  const [, name, bot, rest = ''] = /^\/([^\s@]+)(?:@(\S+))?([\s\S]*)$/.exec(text) ?? [];
  if (name === undefined) return text;
  if (bot !== undefined && bot.toLowerCase() !== own.toLowerCase()) return null;
  return name + rest;
}

function refused(error: unknown): RivuletError | null {
  if (!(error instanceof GrammyError) || ![401, 404].includes(error.error_code)) return null;
  const text = `Telegram refuses the token (${error.description}): @BotFather shows it`;
  return new RivuletError('AUTHENTICATION_FAILED', text, { cause: error });
}
