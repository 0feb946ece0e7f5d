/**
 * Logins: sessions behind a cookie, and credentials that come with each request.
 *
 * Holds: at most 100 sessions, by the hash of their token, each for 12 h; failed tries by address. When there
 * are more, the user with the most loses its oldest, so no user ends the sessions of others.
 * Invariants: a token is 256 random bits and never stored; a session ends when its user goes or is
 * switched off; after 5 failed tries of one address further ones are looked at once a second, whatever
 * credentials they bring, and all addresses together have 50; a try is counted before it is looked at, so
 * tries that come at once are counted as tries that come one after the other.
 * Cost: one hash a request.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { RivuletError } from '../../errors.ts';
import type { Account, Users } from './users.ts';

const MOST_SESSIONS = 100;
const SESSION_MS = 12 * 60 * 60 * 1000;
const TRIES = 5;
const TRIES_OF_ALL = 50;
const TRY_AGAIN_MS = 1000;
/** Addresses whose failed tries are remembered. */
const MOST_ADDRESSES = 10_000;

interface Session {
  readonly account: Account;
  readonly endsAt: number;
}

export class Sessions {
  readonly #users: Users;
  readonly #now: () => number;
  readonly #sessions = new Map<string, Session>();
  readonly #tries = new Map<string, Bucket>();
  readonly #allTries: Bucket;
  #ended: Promise<void> = Promise.resolve();
  #resolveEnded: () => void = () => {};
  readonly #cookie: string;
  readonly #isSecure: boolean;

  /** `now`: monotonic ms. */
  constructor(users: Users, port: number, isSecure: boolean, now = () => performance.now()) {
    this.#users = users;
    this.#now = now;
    this.#isSecure = isSecure;
    // Cookies do not know ports: two consoles of one host would log each other out.
    this.#cookie = `${isSecure ? '__Host-' : ''}rivulet_console_${port}`;
    this.#allTries = new Bucket(TRIES_OF_ALL, now());
    this.#wake();
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** Logs in. Returns the Set-Cookie header. Rejects with AUTHENTICATION_FAILED, LIMIT_EXCEEDED. */
  async open(user: string, password: string, address: string): Promise<[Account, string]> {
    const account = await this.#check(user, password, address);
    const token = randomBytes(32).toString('base64url');
    for (const [key, { endsAt }] of this.#sessions) {
      if (endsAt <= this.#now()) this.#sessions.delete(key);
    }
    while (this.#sessions.size >= MOST_SESSIONS) {
      this.#sessions.delete(this.#oldestOfMost());
    }
    this.#sessions.set(hash(token), { account, endsAt: this.#now() + SESSION_MS });
    return [account, this.#header(token, SESSION_MS / 1000)];
  }

  /** The oldest session of the user that has the most. */
  #oldestOfMost(): string {
    const counts = new Map<string, number>();
    let [most, user] = [0, ''];
    for (const { account } of this.#sessions.values()) {
      const count = (counts.get(account.name) ?? 0) + 1;
      counts.set(account.name, count);
      if (count > most) [most, user] = [count, account.name];
    }
    for (const [key, { account }] of this.#sessions) if (account.name === user) return key;
    return this.#sessions.keys().next().value as string;
  }

  /** Logs out. Returns the header that removes the cookie. */
  end(request: IncomingMessage): string {
    const token = this.#tokenOf(request);
    if (token !== null) this.#sessions.delete(hash(token));
    return this.#header('', 0);
  }

  /** The account of a request; null = it has none. Rejects where its credentials are wrong. */
  async accountOf(request: IncomingMessage, address: string): Promise<Account | null> {
    const given = request.headers.authorization;
    if (given !== undefined) {
      const [user, password] = credentials(given);
      return this.#check(user, password, address);
    }
    const token = this.#tokenOf(request);
    if (token === null) return null;
    const key = hash(token);
    const session = this.#sessions.get(key);
    if (session === undefined) return null;
    if (session.endsAt > this.#now() && session.account.isValid) return session.account;
    this.#sessions.delete(key);
    return null;
  }

  async #check(user: string, password: string, address: string): Promise<Account> {
    const own = await this.#turnOf(address);
    const buckets = [own, this.#allTries];
    let isWrong = false;
    try {
      const account = await this.#users.login(user, password);
      if (account !== null) return account;
      isWrong = true;
    } finally {
      // Only a wrong password is a failed try: not a right one, and not a server that cannot be asked.
      for (const bucket of buckets) bucket.end(isWrong);
      this.#wake();
    }
    throw new RivuletError('AUTHENTICATION_FAILED', 'user or password is wrong');
  }

  /** Takes a try of the address, once those that are being looked at leave one. Rejects with LIMIT_EXCEEDED. */
  async #turnOf(address: string): Promise<Bucket> {
    for (;;) {
      const now = this.#now();
      const own = this.#bucketOf(address, now);
      const all = this.#allTries;
      const empty = [own, all].filter((bucket) => bucket.isEmpty(now));
      if (empty.length === 0) {
        own.begin(now);
        all.begin(now);
        return own;
      }
      if (empty.some((bucket) => bucket.pending === 0)) {
        throw new RivuletError('LIMIT_EXCEEDED', 'too many failed logins: one try a second');
      }
      await this.#ended;
    }
  }

  #bucketOf(address: string, now: number): Bucket {
    const known = this.#tries.get(address);
    if (known !== undefined) return known;
    if (this.#tries.size >= MOST_ADDRESSES) {
      this.#tries.delete(this.#tries.keys().next().value as string);
    }
    const own = new Bucket(TRIES, now);
    this.#tries.set(address, own);
    return own;
  }

  /** A try has ended: those that wait for it look again. */
  #wake(): void {
    const wake = this.#resolveEnded;
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    wake();
  }

  #tokenOf({ headers }: IncomingMessage): string | null {
    for (const each of (headers.cookie ?? '').split(';')) {
      const at = each.indexOf('=');
      if (each.slice(0, at).trim() === this.#cookie) return each.slice(at + 1).trim();
    }
    return null;
  }

  #header(token: string, seconds: number): string {
    const secure = this.#isSecure ? '; Secure' : '';
    return `${this.#cookie}=${token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${seconds}${secure}`;
  }
}

/** Tries at once; after them one each second. */
class Bucket {
  /** Tries that are being looked at. */
  pending = 0;
  #left: number;
  #at: number;
  readonly #most: number;

  constructor(most: number, now: number) {
    this.#most = this.#left = most;
    this.#at = now;
  }

  isEmpty(now: number): boolean {
    this.#fill(now);
    return this.#left < 1;
  }

  begin(now: number): void {
    this.#fill(now);
    this.#left = Math.max(0, this.#left - 1);
    this.pending++;
  }

  /** A try that was no failure costs nothing. */
  end(isFailed: boolean): void {
    this.pending--;
    if (!isFailed) this.#left = Math.min(this.#most, this.#left + 1);
  }

  #fill(now: number): void {
    this.#left = Math.min(this.#most, this.#left + (now - this.#at) / TRY_AGAIN_MS);
    this.#at = now;
  }
}

/** `Basic` with user and password; `Bearer` with `user:password`, or the password of `default`. */
function credentials(header: string): [user: string, password: string] {
  const [, scheme, value] = /^(basic|bearer) +(\S+) *$/i.exec(header) ?? [];
  if (scheme === undefined) {
    throw new RivuletError('AUTHENTICATION_FAILED', 'Authorization is Basic or Bearer');
  }
  const isBasic = scheme.toLowerCase() === 'basic';
  const text = isBasic ? Buffer.from(value!, 'base64').toString() : value!;
  const at = text.indexOf(':');
  if (at < 0) return ['default', text];
  return [text.slice(0, at) || 'default', text.slice(at + 1)];
}

function hash(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}
