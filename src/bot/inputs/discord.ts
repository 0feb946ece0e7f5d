/**
 * Discord as an input: messages by the gateway, answers by its HTTP API.
 *
 * Invariants: an answer mentions no user; messages of bots are ignored; the library resumes a cut
 * session itself, so that no message is lost, and what it cannot resume closes the input. Cost: the
 * library's; it keeps no messages and no members.
 */
import { Client, Events, GatewayIntentBits, type Message, Options, Partials } from 'discord.js';
import { RivuletError } from '../../errors.ts';
import type { DiscordOptions } from '../options.ts';
import type { IncomingText, Input, InputMeans, OpenInput } from './input.ts';

const READY_TIMEOUT_MS = 30_000;
const REQUEST_TIMEOUT_MS = 10_000;
const REFUSED: Readonly<Record<number, string>> = {
  4004: 'the token is wrong: discord.com/developers shows it',
  4013: 'the intents are not valid',
  4014: 'the message content intent is not enabled: enable it at discord.com/developers, or set the prefix to the empty text',
};

export class DiscordInput implements Input {
  readonly name = 'discord';
  readonly pieceSize = 2000;
  readonly #options: DiscordOptions;
  readonly #means: InputMeans;

  constructor(options: DiscordOptions, means: InputMeans) {
    this.#options = options;
    this.#means = means;
  }

  async open(receive: (message: IncomingText) => Promise<void>): Promise<OpenInput> {
    const client = this.#client();
    let close: (reason: Error | null) => void = () => {};
    const closed = new Promise<Error | null>((resolve) => {
      close = resolve;
    });
    client.on(Events.Error, (error) => this.#means.log.debug(`Discord: ${error.message}`));
    client.on(Events.ShardError, (error) => this.#means.log.debug(`Discord: ${error.message}`));
    client.on(Events.ShardDisconnect, ({ code }) => close(endedBy(code)));
    client.on(Events.Invalidated, () => close(new Error('Discord ended the session')));
    client.on(Events.MessageCreate, (message) => {
      const incoming = this.#incoming(message, client.user?.id ?? '');
      if (incoming !== null) void receive(incoming);
    });
    try {
      await this.#ready(client, closed);
    } catch (error) {
      await client.destroy();
      throw error;
    }
    return {
      closed: closed.then(async (reason) => {
        await client.destroy();
        return reason;
      }),
      async close() {
        close(null);
        await client.destroy();
      },
    };
  }

  #client(): Client {
    const { apiUrl, prefix = 'Micro ' } = this.#options;
    const { Guilds, GuildMessages, DirectMessages, MessageContent } = GatewayIntentBits;
    const needed = [Guilds, GuildMessages, DirectMessages];
    return new Client({
      intents: prefix === '' ? needed : [...needed, MessageContent],
      // Direct messages come in channels that the library has not seen.
      partials: [Partials.Channel],
      allowedMentions: { parse: [], repliedUser: false },
      makeCache: Options.cacheWithLimits({
        ...Options.DefaultMakeCacheSettings,
        MessageManager: 0,
        GuildMemberManager: 0,
        UserManager: 100,
        ReactionManager: 0,
        PresenceManager: 0,
      }),
      rest: {
        timeout: REQUEST_TIMEOUT_MS,
        retries: 1,
        ...(apiUrl === undefined ? {} : { api: apiUrl }),
      },
    });
  }

  async #ready(client: Client, closed: Promise<Error | null>): Promise<void> {
    const { scheduler } = this.#means;
    let cancel = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      cancel = scheduler.after(READY_TIMEOUT_MS, () => {
        reject(new RivuletError('TIMEOUT', `Discord was not ready within ${READY_TIMEOUT_MS} ms`));
      });
    });
    const ready = new Promise<void>((resolve) => client.once(Events.ClientReady, () => resolve()));
    const ended = closed.then((error) => Promise.reject(error));
    ended.catch(() => {});
    try {
      const login = client.login(this.#options.token).catch((error) => {
        throw refused(error) ?? error;
      });
      await Promise.race([Promise.all([login, ready]), ended, late]);
    } finally {
      cancel();
    }
  }

  #incoming(message: Message, own: string): IncomingText | null {
    const { author, content, channelId, createdTimestamp } = message;
    if (author.bot || message.webhookId !== null) return null;
    const text = addressed(content, message.guildId === null, own, this.#options.prefix);
    if (text === null) return null;
    return {
      text,
      sender: { input: 'discord', names: [author.id], isLocal: false },
      place: channelId,
      sentAt: createdTimestamp,
      async reply(answer) {
        const { channel } = message;
        if (!channel.isSendable()) throw new Error(`the bot may not write in ${channelId}`);
        await channel.send({ content: answer, allowedMentions: { parse: [] } });
      },
    };
  }
}

/** The text without what addresses the bot; null where it is for others. */
function addressed(text: string, isDirect: boolean, own: string, prefix = 'Micro '): string | null {
  const mention = /^<@!?(\d+)>\s*/.exec(text);
  if (mention?.[1] === own) return text.slice(mention[0].length);
  if (prefix !== '' && text.startsWith(prefix)) return text.slice(prefix.length).trimStart();
  return isDirect ? text : null;
}

function endedBy(code: number): Error {
  const why = REFUSED[code];
  if (why === undefined) return new Error(`Discord ended the connection (${code})`);
  return new RivuletError('AUTHENTICATION_FAILED', `Discord refuses the bot (${code}): ${why}`);
}

function refused(error: unknown): RivuletError | null {
  const { code, status, message } = error as { code?: unknown; status?: number; message?: string };
  const isToken = code === 'TokenInvalid' || status === 401;
  const isIntent = /disallowed intents/i.test(message ?? '');
  if (!isToken && !isIntent) return null;
  return endedBy(isToken ? 4004 : 4014) as RivuletError;
}
