/**
 * What a user of a server that speaks RESP may see, for lists that the console's own connection reads.
 *
 * Commands need none of this: the server checks them as the user's. Lists of topics, services and workflows
 * are read once for all viewers, so what a user may not read has to be left out of them here.
 * Invariants: in doubt less is shown; a right that was taken away is gone after AGAIN_MS and one more
 * request. Cost: one ACL GETUSER and three XINFO each AGAIN_MS while the user asks.
 */
import { randomBytes } from 'node:crypto';
import { ReplyError } from '../../client/reply.ts';
import { globMatches } from '../../util/glob.ts';
import { type Commands, factsOf, textOf } from '../sources/commands.ts';

const AGAIN_MS = 10_000;
const NOTHING: Rights = { seesAll: false, patterns: [] };

interface Rights {
  readonly seesAll: boolean;
  readonly patterns: readonly Buffer[];
}

export class RespRights {
  readonly #own: Commands;
  readonly #client: Commands;
  readonly #user: string;
  #rights: Rights = NOTHING;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | null = null;

  /** `own`: the console's connection, which may ask for the rules; `client`: the user's. */
  constructor(own: Commands, client: Commands, user: string) {
    this.#own = own;
    this.#client = client;
    this.#user = user;
  }

  get seesAll(): boolean {
    this.#refresh();
    return this.#rights.seesAll;
  }

  sees(name: Buffer): boolean {
    const { seesAll, patterns } = this.#rights;
    return seesAll || patterns.some((pattern) => globMatches(pattern, name));
  }

  /** Never rejects: what cannot be asked is not shown. */
  read(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  #refresh(): void {
    if (performance.now() - this.#readAt >= AGAIN_MS) void this.read();
  }

  async #read(): Promise<void> {
    this.#readAt = performance.now();
    try {
      const seesAll = await this.#mayReadAny();
      this.#rights = { seesAll, patterns: seesAll ? [] : await this.#patterns() };
    } catch {
      this.#rights = NOTHING;
    }
  }

  /** Three names that no pattern of a few topics fits, whatever they begin with. */
  async #mayReadAny(): Promise<boolean> {
    const random = randomBytes(16).toString('hex');
    for (const name of [`~${random}`, `a${random}`, Buffer.from(random, 'hex')]) {
      try {
        await this.#client.call('XINFO', 'STREAM', name);
      } catch (error) {
        if (!(error instanceof ReplyError) || !/no such key/i.test(error.message)) return false;
      }
    }
    return true;
  }

  /** Patterns of the root rules that allow reading; those of selectors may be for other commands. */
  async #patterns(): Promise<Buffer[]> {
    const reply = await this.#own.call('ACL', 'GETUSER', this.#user).catch(() => null);
    if (reply === null) return [];
    const { keys } = factsOf(reply);
    // Redis 6 lists patterns, later versions write rules.
    const rules = Array.isArray(keys)
      ? keys.map((each) => `~${textOf(each)}`)
      : textOf(keys).split(' ');
    return rules
      .map((rule) => /^(?:~|%RW?~|%WR~)(.*)$/s.exec(rule)?.[1])
      .filter((pattern) => pattern !== undefined)
      .map((pattern) => Buffer.from(pattern));
  }
}
