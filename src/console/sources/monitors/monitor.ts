/**
 * What a broker's own monitoring tells beside its protocol.
 *
 * Contract, and how a page of a monitoring server is read. Invariants: a monitor is asked only while a page
 * asks; a password is neither in an error nor in an address that is shown.
 */
import { RivuletError } from '../../../errors.ts';
import type { ClientRow, Overview, ServerFacts } from '../../api-types.ts';

export interface TopicNumbers {
  readonly rate: number | null;
  readonly bytes: number | null;
}

export interface Monitor {
  server(): Promise<ServerFacts>;
  clients(): Promise<ClientRow[]>;
  rates(): Promise<Partial<Overview['rates']>>;
  /** Of topics, where the protocol does not tell it. */
  topics?(): Promise<ReadonlyMap<string, TopicNumbers>>;
}

const ANSWER_MS = 5000;
const LARGEST = 64 * 1024 * 1024;

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
    const user = url.username === '' ? login?.user : decodeURIComponent(url.username);
    const password = url.username === '' ? login?.password : decodeURIComponent(url.password);
    url.username = url.password = '';
    url.pathname = url.pathname.replace(/\/*$/, '/');
    this.#base = url;
    this.#option = option;
    const basic = Buffer.from(`${user}:${password ?? ''}`).toString('base64');
    this.#headers = user === undefined ? {} : { authorization: `Basic ${basic}` };
  }

  async read(path: string): Promise<unknown> {
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
    if (!response.ok || Number(response.headers.get('content-length') ?? 0) > LARGEST) {
      await response.body?.cancel();
      throw new RivuletError('INTERNAL', `${where} answers ${response.status} for ${url.pathname}`);
    }
    try {
      return await response.json();
    } catch (error) {
      const text = `${where} answers no JSON for ${url.pathname}: is it the right address?`;
      throw new RivuletError('INTERNAL', text, { cause: error });
    }
  }

  async facts(path: string): Promise<Facts> {
    return factsIn(await this.read(path));
  }

  async list(path: string): Promise<Facts[]> {
    const value = await this.read(path);
    const list = Array.isArray(value) ? value : factsIn(value).items;
    return Array.isArray(list) ? list.map(factsIn) : [];
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
