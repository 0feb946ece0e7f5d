/**
 * The users of one server, the log of refusals, and the file that may hold the users.
 *
 * Names, patterns and passwords are bytes, one per character (latin1); the file holds the bytes.
 * Invariants: the user `default` always exists; of several rules all are applied, or none; the login of
 * this process itself is in no list and no file, and no command shows or changes it.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { CommandTable } from '../command/command-table.ts';
import { bytesOf } from '../config/config.ts';
import { writeDurably } from '../config/config-file.ts';
import { AclError, type Refusal, SPACE } from './acl-permissions.ts';
import { joinSelectors, splitSpace, User } from './acl-user.ts';

export interface AclLogEntry {
  readonly id: number;
  count: number;
  readonly reason: 'auth' | Refusal['reason'];
  readonly context: 'toplevel' | 'multi';
  readonly object: string;
  readonly username: string;
  /** Unix ms. */
  readonly createdAt: number;
  updatedAt: number;
  clientInfo: string;
}

/** Refusals of one kind within a minute are one entry, as in Redis. */
const LOG_GROUPING_MS = 60_000;

const OWN_NAME = '_rivulet';

export class Acl {
  readonly #table: CommandTable;
  readonly #users = new Map<string, User>();
  /** Newest first. */
  log: AclLogEntry[] = [];
  logMax = 128;
  allChannelsByDefault = false;
  #nextLogId = 0;
  #own: { readonly user: User; readonly password: string } | null = null;

  constructor(table: CommandTable) {
    this.#table = table;
    const user = new User('default', table, true);
    for (const rule of ['on', 'nopass', '+@all', '~*', '&*']) user.apply(rule);
    this.#users.set('default', user);
  }

  get default(): User {
    return this.#users.get('default')!;
  }

  get table(): CommandTable {
    return this.#table;
  }

  find(name: string): User | undefined {
    return this.#users.get(name);
  }

  /** In the order of their names. */
  users(): User[] {
    return [...this.#users.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The user of this name if it may log in with this password, otherwise null. */
  authenticate(name: string, password: Uint8Array): User | null {
    const user = this.#users.get(name);
    if (user?.accepts(password)) return user;
    const own = this.#own;
    if (own === null || name !== OWN_NAME || password.length !== own.password.length) return null;
    return timingSafeEqual(Buffer.from(own.password), password) ? own.user : null;
  }

  /**
   * A login with all rights for parts of this process that reach the server over its port (the console, the
   * gateway), whatever the passwords of the users are and become. The password is random and never stored.
   */
  ownLogin(): { readonly name: string; readonly password: string } {
    if (this.#own === null) {
      const user = new User(OWN_NAME, this.#table, true);
      for (const rule of ['on', '+@all', '~*', '&*']) user.apply(rule);
      this.#own = { user, password: randomBytes(32).toString('base64url') };
    }
    return { name: OWN_NAME, password: this.#own.password };
  }

  /** Creates or changes a user: all rules or none. Throws AclError naming the rule. */
  setUser(name: string, rules: readonly string[]): User {
    if (SPACE.test(name) || name === '') {
      throw new AclError("Usernames can't contain spaces or null characters");
    }
    const existing = this.#users.get(name);
    const changed = existing?.clone() ?? this.#newUser(name);
    for (const rule of joinSelectors(rules)) {
      try {
        changed.apply(rule);
      } catch (error) {
        if (!(error instanceof AclError)) throw error;
        throw new AclError(`Error in ACL SETUSER modifier '${rule}': ${error.message}`);
      }
    }
    if (existing === undefined) {
      this.#users.set(name, changed);
      return changed;
    }
    existing.become(changed);
    return existing;
  }

  /** ACL DELUSER. Returns the user that was deleted, or null when there was none. */
  removeUser(name: string): User | null {
    const user = this.#users.get(name);
    if (user === undefined) return null;
    this.#users.delete(name);
    return user;
  }

  /** requirepass: the default user's password, bytes as latin1; empty = none needed. */
  setRequirePass(password: string): void {
    const user = this.default;
    user.apply('resetpass');
    user.apply(password === '' ? 'nopass' : `>${password}`);
  }

  /** Whether a client may run commands without logging in: the default user needs no password. */
  get open(): boolean {
    return this.default.enabled && this.default.nopass;
  }

  note(entry: Omit<AclLogEntry, 'id' | 'count' | 'updatedAt'>): void {
    const same = this.log.findIndex(
      (old) =>
        old.reason === entry.reason &&
        old.context === entry.context &&
        old.object === entry.object &&
        old.username === entry.username &&
        entry.createdAt - old.updatedAt <= LOG_GROUPING_MS,
    );
    if (same >= 0) {
      const [old] = this.log.splice(same, 1);
      old!.count++;
      old!.updatedAt = entry.createdAt;
      old!.clientInfo = entry.clientInfo;
      this.log.unshift(old!);
      return;
    }
    this.log.unshift({ ...entry, id: this.#nextLogId++, count: 1, updatedAt: entry.createdAt });
    this.log.length = Math.min(this.log.length, this.logMax);
  }

  /**
   * Replaces all users by those of a file; the default user is kept when the file has none. Throws
   * Error with `file:line: why` (bytes as latin1) and changes nothing. Returns the users that were deleted.
   */
  load(path: string): User[] {
    const fresh = new Acl(this.#table);
    fresh.allChannelsByDefault = this.allChannelsByDefault;
    const seen = new Set<string>();
    readFileSync(path, 'latin1')
      .split('\n')
      .forEach((line, index) => {
        const words = splitSpace(line);
        if (words.length === 0 || words[0]!.startsWith('#')) return;
        const where = `${bytesOf(path)}:${index + 1}`;
        if (words[0] !== 'user' || words.length < 2) {
          throw new AclError(
            `${where}: line should start with user keyword followed by the username`,
          );
        }
        const name = words[1]!;
        if (seen.has(name)) throw new AclError(`${where}: user '${name}' is defined twice`);
        seen.add(name);
        try {
          if (name === 'default') fresh.#users.set(name, this.#newUser(name));
          fresh.setUser(name, words.slice(2));
        } catch (error) {
          throw new AclError(`${where}: ${(error as Error).message}`);
        }
      });
    const gone: User[] = [];
    for (const [name, user] of this.#users) {
      const next = fresh.find(name);
      if (next === undefined) {
        gone.push(user);
        this.#users.delete(name);
      } else if (seen.has(name)) {
        user.become(next);
      }
    }
    for (const [name, user] of fresh.#users)
      if (!this.#users.has(name)) this.#users.set(name, user);
    return gone;
  }

  #newUser(name: string): User {
    return new User(name, this.#table, this.allChannelsByDefault);
  }

  save(path: string): void {
    writeDurably(
      path,
      `${this.users()
        .map((user) => user.line)
        .join('\n')}\n`,
    );
  }
}
