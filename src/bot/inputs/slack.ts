/**
 * Slack as an input: messages by Socket Mode, answers by the Web API.
 *
 * Invariants: an event is acknowledged before it is looked at, and one that Slack repeats is dropped; an
 * answer names no user, group or channel that its text holds; a message is for the bot in its direct
 * messages, and elsewhere where it begins with the bot's mention or name. Reconnects are the bot's: the
 * library's own end the process when Slack cannot be reached. Cost: the last SEEN messages' times.
 */
import { SocketModeClient } from '@slack/socket-mode';
import { WebClient } from '@slack/web-api';
import { RivuletError } from '../../errors.ts';
import type { SlackOptions } from '../options.ts';
import type { IncomingText, Input, InputMeans, OpenInput } from './input.ts';

const SEEN = 1000;
const NAMES = 1000;
const OPEN_TIMEOUT_MS = 20_000;
const REQUEST_TIMEOUT_MS = 10_000;
const REFUSED = new Set([
  'invalid_auth',
  'not_authed',
  'account_inactive',
  'token_revoked',
  'token_expired',
  'not_allowed_token_type',
  'missing_scope',
]);

interface SlackMessage {
  readonly type: string;
  readonly subtype?: string;
  readonly bot_id?: string;
  readonly user?: string;
  readonly channel: string;
  readonly text?: string;
  readonly ts: string;
  readonly thread_ts?: string;
}

interface SlackEvent {
  readonly ack: () => Promise<void>;
  readonly event: SlackMessage;
}

export class SlackInput implements Input {
  readonly name = 'slack';
  readonly pieceSize = 4000;
  readonly #options: SlackOptions;
  readonly #means: InputMeans;
  readonly #web: WebClient;
  /** `channel ts` of messages that have come, oldest first; kept over cuts. */
  readonly #seen = new Set<string>();
  readonly #names = new Map<string, string>();

  constructor(options: SlackOptions, means: InputMeans) {
    this.#options = options;
    this.#means = means;
    this.#web = new WebClient(options.token, { ...this.#clientOptions, logger: this.#logger });
  }

  async open(receive: (message: IncomingText) => Promise<void>): Promise<OpenInput> {
    const me = await this.#web.auth.test().catch((error) => {
      throw refusedBy(error, 'xoxb-') ?? error;
    });
    const socket = new SocketModeClient({
      appToken: this.#options.appToken,
      autoReconnectEnabled: false,
      clientOptions: this.#clientOptions,
      logger: this.#logger,
    });
    const take = ({ ack, event }: SlackEvent) => {
      ack().catch((error) => this.#means.log.debug(`Slack: ${error.message}`));
      const incoming = this.#incoming(event, { id: me.user_id ?? '', name: me.user ?? '' });
      if (incoming !== null) void receive(incoming);
    };
    socket.on('message', take).on('app_mention', take);
    const closed = new Promise<Error | null>((resolve) => {
      let last: Error | null = null;
      socket.on('error', (error: Error) => {
        last = error;
      });
      socket.on('disconnected', () => resolve(last ?? new Error('Slack ended the connection')));
    });
    await this.#started(socket);
    return {
      closed,
      async close() {
        await socket.disconnect();
      },
    };
  }

  /** The library waits for Slack's greeting without a limit. */
  async #started(socket: SocketModeClient): Promise<void> {
    const { scheduler } = this.#means;
    let cancel = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      cancel = scheduler.after(OPEN_TIMEOUT_MS, () => {
        reject(new RivuletError('TIMEOUT', `Slack did not greet within ${OPEN_TIMEOUT_MS} ms`));
      });
    });
    try {
      await Promise.race([socket.start(), late]);
    } catch (error) {
      void socket.disconnect().catch(() => {});
      throw refusedBy(error, 'xapp-') ?? error ?? new Error('Slack ended the connection');
    } finally {
      cancel();
    }
  }

  #incoming(event: SlackMessage, me: { id: string; name: string }): IncomingText | null {
    const { user, channel, ts, thread_ts, subtype, bot_id } = event;
    if (user === undefined || user === me.id || bot_id !== undefined || subtype !== undefined) {
      return null;
    }
    const text = addressed(event.text ?? '', channel.startsWith('D'), me);
    if (text === null || !this.#isFirst(`${channel} ${ts}`)) return null;
    return {
      text: plainText(text),
      sender: { input: 'slack', names: [user], isLocal: false },
      place: channel,
      sentAt: Number(ts) * 1000 || null,
      reply: (answer) => this.#reply({ user, channel, thread_ts }, answer),
    };
  }

  async #reply(
    { user, channel, thread_ts }: { user: string; channel: string; thread_ts: string | undefined },
    answer: string,
  ): Promise<void> {
    const to = channel.startsWith('D') ? '' : `${await this.#nameOf(user)}: `;
    await this.#web.chat.postMessage({
      channel,
      text: to + escaped(answer),
      parse: 'none',
      link_names: false,
      mrkdwn: false,
      unfurl_links: false,
      unfurl_media: false,
      ...(thread_ts === undefined ? {} : { thread_ts }),
    });
  }

  /** `@ann`; the mention of the user where the app may not read names. */
  async #nameOf(user: string): Promise<string> {
    const known = this.#names.get(user);
    if (known !== undefined) return known;
    let name = `<@${user}>`;
    try {
      const { user: found } = await this.#web.users.info({ user });
      if (found?.name) name = escaped(`@${found.name}`);
    } catch (error) {
      this.#means.log.debug(`Slack: the name of ${user}: ${(error as Error).message}`);
    }
    if (this.#names.size >= NAMES) this.#names.clear();
    this.#names.set(user, name);
    return name;
  }

  /** The same message comes as `message` and as `app_mention`, and again where an ack is lost. */
  #isFirst(key: string): boolean {
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    if (this.#seen.size > SEEN) this.#seen.delete(this.#seen.values().next().value as string);
    return true;
  }

  get #clientOptions() {
    const { apiUrl } = this.#options;
    return {
      timeout: REQUEST_TIMEOUT_MS,
      retryConfig: { retries: 1, minTimeout: 500 },
      ...(apiUrl === undefined ? {} : { slackApiUrl: apiUrl }),
    };
  }

  /** The library's lines are details: the bot reports cuts and refusals itself. */
  get #logger() {
    const { log } = this.#means;
    const line = (...parts: unknown[]) => log.debug(`Slack: ${parts.map(String).join(' ')}`);
    return {
      debug() {},
      info() {},
      warn: line,
      error: line,
      setLevel() {},
      getLevel: () => 'info' as never,
      setName() {},
    };
  }
}

/** The text without what addresses the bot; null where it is for others. */
function addressed(
  text: string,
  isDirect: boolean,
  { id, name }: { id: string; name: string },
): string | null {
  for (const own of [`<@${id}>`, `@${name}`, name]) {
    if (own === '' || own === '@' || !text.startsWith(own)) continue;
    const rest = text.slice(own.length);
    // `microscope` does not begin with the name of the bot `micro`.
    if (rest === '' || /^[\s:,]/.test(rest)) return rest.replace(/^[:,]?\s*/, '');
  }
  return isDirect ? text : null;
}

/** What the user typed: Slack writes links as <url|label> and escapes three characters. */
function plainText(text: string): string {
  return text
    .replace(/<(?:https?|mailto):[^<>|]*\|([^<>]*)>/g, '$1')
    .replace(/<((?:https?|mailto):[^<>|]*)>/g, '$1')
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&amp;/g, '&');
}

/** Without mentions: <!channel> and <@U1> begin with a character that is escaped. */
function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

function refusedBy(error: unknown, token: string): RivuletError | null {
  const reason = (error as { data?: { error?: string } } | undefined)?.data?.error;
  if (reason === undefined || !REFUSED.has(reason)) return null;
  const text = `Slack refuses the token ${token} (${reason}): api.slack.com/apps shows the tokens and scopes of the app`;
  return new RivuletError('AUTHENTICATION_FAILED', text, { cause: error });
}
