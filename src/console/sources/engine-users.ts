/**
 * The server's own users as the console's: ACL names and passwords, ACL rights.
 *
 * Invariants: what a viewer may see is decided by the same rules as its commands; a user that is deleted,
 * or switched off, has no account any more; one connection inside the server serves each user.
 */
import type { User } from '../../server/acl/acl-user.ts';
import type { CommandEntry } from '../../server/command/command-table.ts';
import type { ServerState } from '../../server/server-state.ts';
import { Arguments } from '../../util/arguments.ts';
import type { Role } from '../api-types.ts';
import type { Account, Users } from '../http/users.ts';
import { LocalCommands } from './local-commands.ts';
import type { Viewer } from './source.ts';

/** The commands of a role: a user who may run all of them has it. */
const ROLES: Readonly<Record<Role, readonly (readonly string[])[]>> = {
  read: [
    ['XINFO', 'STREAM', 'x'],
    ['XRANGE', 'x', '-', '+'],
  ],
  operate: [
    ['XADD', 'x', '*', 'body', ''],
    ['XACK', 'x', 'g', '0-1'],
    ['XCLAIM', 'x', 'g', 'c', '0', '0-1'],
    ['XDEL', 'x', '0-1'],
  ],
  admin: [
    ['CONFIG', 'SET', 'x', 'y'],
    ['CLIENT', 'KILL', 'ID', '1'],
    ['ACL', 'SETUSER', 'x'],
    ['DEL', 'x'],
  ],
};

const CONNECTIONS = 256;

export class EngineUsers implements Users {
  readonly canLogin = true;
  readonly asksElsewhere = false;
  readonly #state: ServerState;
  /** By user; the object, because a name may be given again after ACL DELUSER. */
  readonly #commands = new Map<User, LocalCommands>();

  constructor(state: ServerState) {
    this.#state = state;
  }

  get open(): Account | null {
    const { acl } = this.#state;
    return acl.open ? this.#account(acl.default) : null;
  }

  async login(name: string, password: string): Promise<Account | null> {
    // The server's names are bytes.
    const bytes = Buffer.from(name).toString('latin1');
    const user = this.#state.acl.authenticate(bytes, Buffer.from(password));
    return user === null ? null : this.#account(user);
  }

  close(): void {
    for (const commands of this.#commands.values()) commands.close();
    this.#commands.clear();
  }

  #account(user: User): Account {
    const state = this.#state;
    return {
      name: Buffer.from(user.name, 'latin1').toString(),
      get isValid() {
        return isLive(state, user);
      },
      get roles() {
        return (Object.keys(ROLES) as Role[]).filter((role) =>
          ROLES[role].every((command) => mayRun(state, user, command, true)),
        );
      },
      viewer: (address) => this.#viewer(user, address),
    };
  }

  #viewer(user: User, address: string): Viewer {
    const state = this.#state;
    const info = entryOf(state, ['XINFO', 'STREAM', 'x']);
    const sets = [user.root, ...user.selectors].filter(
      (set) => info !== null && set.allows(info, argumentsOf(['XINFO', 'STREAM', 'x'])),
    );
    const seesAll = sets.some(({ allKeys }) => allKeys);
    return {
      user: Buffer.from(user.name, 'latin1').toString(),
      address,
      commands: this.#commandsOf(user, address),
      seesAll,
      sees: (name) => seesAll || sets.some((set) => set.allowsKey(name, READ)),
      may: (...command) => mayRun(state, user, command, false),
      mayAnyKey: (...command) => mayRun(state, user, command, true),
    };
  }

  #commandsOf(user: User, address: string): LocalCommands {
    let found = this.#commands.get(user);
    if (found === undefined) {
      for (const [old, commands] of this.#commands) {
        if (this.#state.acl.find(old.name) === old && this.#commands.size < CONNECTIONS) continue;
        commands.close();
        this.#commands.delete(old);
      }
      found = new LocalCommands(this.#state, user, address, () => isLive(this.#state, user));
      this.#commands.set(user, found);
    }
    return found;
  }
}

function isLive({ acl }: ServerState, user: User): boolean {
  return acl.find(user.name) === user && user.enabled;
}

const READ = { read: true, write: false };

function mayRun(
  state: ServerState,
  user: User,
  command: readonly (string | Buffer)[],
  anyKey: boolean,
): boolean {
  const entry = entryOf(state, command);
  if (entry === null) return false;
  const args = argumentsOf(command);
  const refusal = user.refusal(entry, args);
  return refusal === null || (anyKey && refusal.reason === 'key');
}

function entryOf(
  { acl }: ServerState,
  [name, sub]: readonly (string | Buffer)[],
): CommandEntry | null {
  const top = acl.table.byName(String(name));
  if (top?.subcommands == null) return top;
  return acl.table.byName(`${name}|${sub}`);
}

function argumentsOf(command: readonly (string | Buffer)[]): Arguments {
  const parts = command.map((part) => Buffer.from(part));
  const args = new Arguments();
  args.clear(Buffer.concat(parts));
  let at = 0;
  for (const { length } of parts) {
    args.push(at, length);
    at += length;
  }
  return args;
}
