/**
 * What a broker's own monitoring reports beside its protocol.
 *
 * Contract, and how a page of a monitoring server is read. Invariants: a monitor is asked only while a page
 * asks; an answer has a limit, said or not; a password is neither in an error nor in an address that is
 * shown.
 */
import { RivuletError } from '../../../errors.ts';
import type { ClientRow, Overview, ServerFacts } from '../../api-types.ts';

export interface TopicNumbers {
  readonly rate: number | null;
  readonly bytes: number | null;
}

/** A group's messages of all processes. */
export interface GroupNumbers {
  readonly pending: number | null;
  readonly waiting: number | null;
  readonly consumers: number | null;
}

export interface Monitor {
  server(): Promise<ServerFacts>;
  clients(): Promise<ClientRow[]>;
  rates(): Promise<Partial<Overview['rates']>>;
  /** Of topics, where the protocol does not report it. */
  topics?(): Promise<ReadonlyMap<string, TopicNumbers>>;
  /** Of one group, where the protocol does not tell it; null: there is no such group. */
  group?(topic: string, group: string): Promise<GroupNumbers | null>;
}

const ANSWER_MS = 5000;
const LARGEST = 16 * 1024 * 1024;

export type Facts = Readonly<Record<string, unknown>>;

/** Reads JSON below the address of a monitoring server. */
export class MonitorPages {
  readonly #base: URL;
  readonly #option: string;
  readonly #headers: Readonly<Record<string, string>>;

  /** `option`: what a person wrote, for errors. `login`: where the address has none. */
  constructor(address: string, option: string, login: { user: string; password: string } | null) {
    const url = URL.canParse(address) ? new URL(address) : null;
    if (url === null || !/^https?:$/.test(url.protocol)) {
      throw new RivuletError(
        'INVALID_ARGUMENT',
        `${option} is an address that begins with http://`,
      );
    }
    const user = url.username === '' ? login?.user : decoded(url.username);
    const password = url.username === '' ? login?.password : decoded(url.password);
    url.username = url.password = '';
    url.pathname = url.pathname.replace(/\/*$/, '/');
    this.#base = url;
    this.#option = option;
    const basic = Buffer.from(`${user}:${password ?? ''}`).toString('base64');
    this.#headers = user === undefined ? {} : { authorization: `Basic ${basic}` };
  }

  /** Null: there is no such page, where that may be. */
  async read(path: string, isNullable = false): Promise<unknown> {
    const url = new URL(path, this.#base);
    const where = `${this.#option} (${this.#base.origin})`;
    let response: Response;
    try {
      response = await fetch(url, {
        headers: this.#headers,
        redirect: 'error',
        signal: AbortSignal.timeout(ANSWER_MS),
      });
    } catch (error) {
      throw new RivuletError('NOT_CONNECTED', `${where} cannot be reached`, { cause: error });
    }
    if (response.status === 401 || response.status === 403) {
      await response.body?.cancel();
      throw new RivuletError('PERMISSION_DENIED', `${where} refuses this user`);
    }
    if (response.status === 404 && isNullable) {
      await response.body?.cancel();
      return null;
    }
    if (!response.ok) {
      await response.body?.cancel();
      throw new RivuletError('INTERNAL', `${where} answers ${response.status} for ${url.pathname}`);
    }
    let text: string;
    try {
      text = await textOf(response);
    } catch (error) {
      if (error instanceof RivuletError) {
        throw new RivuletError('INTERNAL', `${where}, ${url.pathname}: ${error.message}`);
      }
      throw new RivuletError('NOT_CONNECTED', `${where} ended in its answer`, { cause: error });
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      const why = `${where} answers no JSON for ${url.pathname}: is it the right address?`;
      throw new RivuletError('INTERNAL', why, { cause: error });
    }
  }

  async facts(path: string): Promise<Facts> {
    return factsIn(await this.read(path));
  }

  /** Null: there is no such thing. */
  async factsOrNull(path: string): Promise<Facts | null> {
    const value = await this.read(path, true);
    return value === null ? null : factsIn(value);
  }

  async list(path: string): Promise<Facts[]> {
    const value = await this.read(path);
    const list = Array.isArray(value) ? value : factsIn(value).items;
    return Array.isArray(list) ? list.map(factsIn) : [];
  }
}

/** Rejects where it is larger than an answer may be. */
async function textOf({ body }: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of (body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > LARGEST) {
      throw new RivuletError('BODY_TOO_LARGE', `an answer has at most ${LARGEST} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Percent signs that begin no byte stay as they are. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function factsIn(value: unknown): Facts {
  return typeof value === 'object' && value !== null ? (value as Facts) : {};
}

/** A number, however deep: `of(facts, 'message_stats', 'publish_details', 'rate')`. */
export function numberIn(facts: Facts, ...path: readonly string[]): number | null {
  let value: unknown = facts;
  for (const name of path) value = factsIn(value)[name];
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** Facts as a page shows them: texts and numbers, one level. */
export function shownFacts(facts: Facts, names: readonly string[]): [string, string][] {
  return names
    .filter((name) => ['string', 'number', 'boolean'].includes(typeof facts[name]))
    .map((name) => [name, String(facts[name])]);
}
