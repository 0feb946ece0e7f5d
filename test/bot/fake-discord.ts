/**
 * Discord as the bot sees it: gateway/bot, the gateway with sessions that resume, and messages of channels,
 * on a free port of this machine.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { WebSocket } from 'ws';
import { FakeChat } from './fake-chat.ts';

export const DISCORD_TOKEN = 'MTIz.discord.secret';
const BOT = { id: '900', username: 'Micro', discriminator: '0000', avatar: null, bot: true };
const GUILD = '500';

export interface Written {
  readonly channel: string;
  readonly content: string;
  readonly allowed_mentions?: unknown;
}

export class FakeDiscord extends FakeChat {
  readonly written: Written[] = [];
  readonly identified: { intents: number }[] = [];
  resumed = 0;
  /** Ends an identify with this close code. */
  closeCode: number | null = null;
  #number = 0;
  #sequence = 0;
  /** Dispatches of the session, so that a resume repeats what was missed. */
  readonly #dispatches: { s: number; text: string }[] = [];
  readonly #ready = new Set<WebSocket>();

  static start(): Promise<FakeDiscord> {
    return new FakeDiscord().listen();
  }

  get url(): string {
    return this.origin;
  }

  protected override answer(
    request: IncomingMessage,
    body: string,
    response: ServerResponse,
  ): void {
    if (request.headers.authorization !== `Bot ${DISCORD_TOKEN}`) {
      response.statusCode = 401;
      response.end(JSON.stringify({ message: '401: Unauthorized', code: 0 }));
    } else response.end(JSON.stringify(this.#answer(request.url ?? '', body)));
  }

  protected override opened(socket: WebSocket): void {
    socket.on('close', () => this.#ready.delete(socket));
    socket.send(JSON.stringify({ op: 10, d: { heartbeat_interval: 40_000 } }));
  }

  /** A message of a user: in a channel of the guild, or without one in the direct channel. */
  say(user: string, text: string, channel: string | null = '600', rest: object = {}): void {
    const id = String((BigInt(Date.now() - 1_420_070_400_000) << 22n) + BigInt(++this.#number));
    this.#dispatch('MESSAGE_CREATE', {
      id,
      channel_id: channel ?? `7${user}`,
      channel_type: channel === null ? 1 : 0,
      ...(channel === null ? {} : { guild_id: GUILD }),
      author: { id: user, username: `user${user}`, discriminator: '0', avatar: null },
      content: text,
      timestamp: new Date().toISOString(),
      edited_timestamp: null,
      type: 0,
      tts: false,
      mention_everyone: false,
      pinned: false,
      mentions: [],
      mention_roles: [],
      attachments: [],
      embeds: [],
      ...rest,
    });
  }

  override cut(): void {
    super.cut();
    this.#ready.clear();
  }

  #dispatch(type: string, data: object): void {
    const s = ++this.#sequence;
    const text = JSON.stringify({ op: 0, t: type, s, d: data });
    this.#dispatches.push({ s, text });
    for (const socket of this.#ready) socket.send(text);
  }

  protected override take(socket: WebSocket, message: Record<string, unknown>): void {
    const { op, d } = message as { op: number; d: Record<string, unknown> };
    if (op === 1) socket.send(JSON.stringify({ op: 11 }));
    if (op === 2) {
      this.identified.push(d as never);
      if (this.closeCode !== null || d.token !== DISCORD_TOKEN) {
        socket.close(this.closeCode ?? 4004);
        return;
      }
      this.#ready.add(socket);
      this.#dispatch('READY', {
        v: 10,
        user: BOT,
        guilds: [{ id: GUILD, unavailable: true }],
        session_id: 's1',
        resume_gateway_url: this.url.replace('http', 'ws'),
        application: { id: BOT.id, flags: 0 },
      });
      const channel = { id: '600', type: 0, name: 'general', guild_id: GUILD, position: 0 };
      const everyone = { id: GUILD, name: '@everyone', permissions: '3072', position: 0 };
      const member = { user: BOT, roles: [], joined_at: new Date(0).toISOString() };
      this.#dispatch('GUILD_CREATE', {
        id: GUILD,
        name: 'guild',
        channels: [{ ...channel, permission_overwrites: [] }],
        roles: [everyone],
        members: [member],
        emojis: [],
        threads: [],
        features: [],
      });
    }
    if (op === 6) {
      this.resumed++;
      this.#ready.add(socket);
      const seq = Number(d.seq);
      for (const each of this.#dispatches) if (each.s > seq) socket.send(each.text);
      this.#dispatch('RESUMED', {});
    }
  }

  #answer(url: string, text: string): object {
    if (url.endsWith('/gateway/bot')) {
      const limit = { total: 1000, remaining: 999, reset_after: 1000, max_concurrency: 1 };
      const socket = this.url.replace('http', 'ws');
      return { url: socket, shards: 1, session_start_limit: limit };
    }
    const [, channel] = /\/channels\/(\d+)\/messages$/.exec(url) ?? [];
    if (channel === undefined) return {};
    const { content, allowed_mentions } = JSON.parse(text);
    this.written.push({ channel, content, allowed_mentions });
    return {
      id: String(++this.#number),
      channel_id: channel,
      author: BOT,
      content,
      timestamp: new Date().toISOString(),
      type: 0,
      mentions: [],
      mention_roles: [],
      attachments: [],
      embeds: [],
    };
  }
}
