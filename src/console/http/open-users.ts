/**
 * A console without users: every client that reaches it acts with the rights of the broker's address.
 *
 * Invariant: it is open on this machine only; from elsewhere it is refused, and where the broker has users
 * that a RESP connection can check, a login is asked for. A user's password is checked by the server at each
 * request that brings one, and lists leave out what the user may not read.
 */
import { type Client, type ClientOptions, connect } from '../../client/index.ts';
import { RivuletError } from '../../errors.ts';
import type { Role } from '../api-types.ts';
import type { Commands } from '../sources/commands.ts';
import type { Viewer } from '../sources/source.ts';
import { RespRights } from './resp-rights.ts';
import type { Account, Users } from './users.ts';

const ALL: readonly Role[] = ['read', 'operate', 'admin'];
const MOST_CLIENTS = 100;

export class OpenUsers implements Users {
  readonly canLogin: boolean = false;
  readonly asksElsewhere: boolean = false;
  readonly open: Account;

  constructor(commands: Commands | null) {
    this.open = accountOf('', commands, ALL, () => true, EVERYTHING);
  }

  async login(): Promise<Account | null> {
    return null;
  }

  close(): void {}
}

/** Users of a server that speaks RESP: each has its own connection. */
export class RespUsers extends OpenUsers {
  override readonly canLogin = true;
  override readonly asksElsewhere = true;
  readonly #own: Commands;
  readonly #options: ClientOptions;
  readonly #clients = new Map<string, Known>();
  /** Logins that open a connection, by user and password: those that come at once share it. */
  readonly #opening = new Map<string, Promise<Account | null>>();

  constructor(commands: Commands, options: ClientOptions) {
    super(commands);
    this.#own = commands;
    this.#options = options;
  }

  override async login(): Promise<Account | null>;
  override async login(user: string, password: string): Promise<Account | null>;
  override async login(user = '', password = ''): Promise<Account | null> {
    const known = this.#clients.get(user);
    if (known !== undefined && known.password === password && known.account.isValid) {
      return (await isStillRight(known.client, user, password)) ? known.account : null;
    }
    const key = JSON.stringify([user, password]);
    let opening = this.#opening.get(key);
    if (opening === undefined) {
      opening = this.#open(user, password).finally(() => this.#opening.delete(key));
      this.#opening.set(key, opening);
    }
    return opening;
  }

  async #open(user: string, password: string): Promise<Account | null> {
    let client: Client;
    try {
      client = await connect({ ...this.#options, username: user, password });
    } catch (error) {
      if (error instanceof RivuletError && error.code === 'AUTHENTICATION_FAILED') return null;
      throw error;
    }
    let isValid = true;
    client.once('close', () => {
      isValid = false;
    });
    // A user that is gone cannot log in again after its connection was ended.
    client.on('disconnect', ({ code }) => {
      if (code === 'AUTHENTICATION_FAILED') client.destroy();
    });
    const rights = new RespRights(this.#own, client, user);
    const [roles] = await Promise.all([rolesOf(client, user), rights.read()]);
    const account = accountOf(user, client, roles, () => isValid, rights);
    // With another password it may have been opened meanwhile too.
    this.#clients.get(user)?.client.destroy();
    this.#clients.set(user, { client, password, account });
    for (const [name, old] of this.#clients) {
      if (this.#clients.size <= MOST_CLIENTS) break;
      old.client.destroy();
      this.#clients.delete(name);
    }
    return account;
  }

  override close(): void {
    for (const { client } of this.#clients.values()) client.destroy();
    this.#clients.clear();
  }
}

interface Known {
  readonly client: Client;
  readonly password: string;
  readonly account: Account;
}

/** A connection stays when the password of its user is changed: so the server is asked again. */
async function isStillRight(client: Client, user: string, password: string): Promise<boolean> {
  try {
    await client.call('AUTH', user, password);
    return true;
  } catch (error) {
    if (error instanceof RivuletError && error.code === 'AUTHENTICATION_FAILED') return false;
    throw error;
  }
}

const EVERYTHING = { seesAll: true, sees: () => true };

/** The server checks each command itself; `rights` are for lists, which are read for all viewers. */
function accountOf(
  name: string,
  commands: Commands | null,
  roles: readonly Role[],
  isValid: () => boolean,
  rights: Pick<Viewer, 'seesAll' | 'sees'>,
): Account {
  return {
    name,
    roles,
    get isValid() {
      return isValid();
    },
    viewer: (address) => ({
      user: name,
      address,
      commands,
      seesAll: rights.seesAll,
      sees: (topic) => rights.sees(topic),
      may: () => true,
      mayAnyKey: (command) => roles.includes(ROLE_OF[command ?? ''] ?? 'operate'),
    }),
  };
}

const ROLE_OF: Readonly<Record<string, Role>> = { CONFIG: 'admin', ACL: 'admin', DEL: 'admin' };

/** An admin may ask what users may do; a user who may not ask is no admin. */
async function rolesOf(client: Client, user: string): Promise<Role[]> {
  const may = async (...command: string[]): Promise<boolean> => {
    try {
      return String(await client.call('ACL', 'DRYRUN', user, ...command)) === 'OK';
    } catch {
      return false;
    }
  };
  const roles: Role[] = ['read'];
  if (await may('CONFIG', 'GET', 'x')) return [...ALL];
  try {
    // A user who may not ask learns it from the commands themselves; `operate` only offers the buttons.
    await client.call('XACK', '_rivulet.none', 'none', '0-1');
    roles.push('operate');
  } catch (error) {
    if (!(error instanceof RivuletError && error.code === 'PERMISSION_DENIED')) {
      roles.push('operate');
    }
  }
  return roles;
}
