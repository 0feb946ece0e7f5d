/**
 * ACL: users and what they may do.
 */
import { Arguments } from '../../util/arguments.ts';
import type { AclLogEntry } from '../acl/acl.ts';
import { AclError, CATEGORIES } from '../acl/acl-permissions.ts';
import type { User } from '../acl/acl-user.ts';
import { endForbiddenListeners } from '../acl/listening-rights.ts';
import type { Command, CommandFlag } from '../command/command.ts';
import { deniedCommand } from '../command/command-errors.ts';
import type { ClientSession } from '../connection/client-session.ts';
import type { ServerState } from '../server-state.ts';
import { NOT_AN_INTEGER, replyHelp, wrongArity, wrongSubcommand } from './common.ts';

const ADMIN: readonly CommandFlag[] = ['admin', 'noscript', 'loading', 'stale'];
const PLAIN: readonly CommandFlag[] = ['noscript', 'loading', 'stale'];

function sub(
  name: string,
  arity: number,
  flags: readonly CommandFlag[],
  summary: string,
  run: (session: ClientSession) => void,
  since = '6.0.0',
): Command<ClientSession> {
  return { name: `acl|${name}`, arity, flags, group: 'server', since, summary, run };
}

export const aclCommands: readonly Command<ClientSession>[] = [
  {
    name: 'acl',
    arity: -2,
    flags: [],
    group: 'server',
    since: '6.0.0',
    summary: 'A container for Access List Control commands.',
    subcommands: [
      sub('cat', -2, PLAIN, 'Lists the ACL categories, or the commands inside a category.', cat),
      sub('deluser', -3, ADMIN, 'Deletes ACL users, and terminates their connections.', delUser),
      sub('dryrun', -4, ADMIN, 'Simulates the execution of a command by a user.', dryRun, '7.0.0'),
      sub('genpass', -2, PLAIN, 'Generates a random password to identify ACL users.', genPass),
      sub('getuser', 3, ADMIN, 'Lists the ACL rules of a user.', getUser),
      sub('help', 2, ['loading', 'stale'], 'Returns helpful text about the subcommands.', help),
      sub('list', 2, ADMIN, 'Dumps the effective rules in ACL file format.', list),
      sub('load', 2, ADMIN, 'Reloads the rules from the configured ACL file.', load),
      sub('log', -2, ADMIN, 'Lists recent security events generated due to ACL rules.', log),
      sub('save', 2, ADMIN, 'Saves the effective ACL rules in the configured ACL file.', save),
      sub('setuser', -3, ADMIN, 'Creates and modifies an ACL user and its rules.', setUser),
      sub('users', 2, ADMIN, 'Lists all ACL users.', users),
      sub(
        'whoami',
        2,
        PLAIN,
        'Returns the authenticated username of the connection.',
        (session) => {
          session.reply.bulk(bytes(session.user.name));
        },
      ),
    ],
  },
];

/** Names and patterns are latin1 strings, one character per byte. */
function bytes(latin1: string): Buffer {
  return Buffer.from(latin1, 'latin1');
}

function rest(args: Arguments, from: number): string[] {
  const words: string[] = [];
  for (let i = from; i < args.count; i++) words.push(args.latin1(i));
  return words;
}

function cat(session: ClientSession): void {
  const { args, reply } = session;
  if (args.count > 3) {
    wrongArity(session, 'acl|cat');
    return;
  }
  let names = CATEGORIES;
  if (args.count === 3) {
    const category = args.text(2).toLowerCase();
    if (!CATEGORIES.includes(category)) {
      reply.errorBytes(`ERR Unknown category '${args.latin1(2)}'`);
      return;
    }
    names = session.server.table.entries
      .filter((entry) => entry.categories.has(category) && entry.subcommands === null)
      .map((entry) => entry.name);
  }
  reply.array(names.length);
  for (const name of names) reply.bulkText(name);
}

function users(session: ClientSession): void {
  const all = session.server.acl.users();
  session.reply.array(all.length);
  for (const user of all) session.reply.bulk(bytes(user.name));
}

function list(session: ClientSession): void {
  const all = session.server.acl.users();
  session.reply.array(all.length);
  for (const user of all) session.reply.bulk(bytes(user.line));
}

function getUser(session: ClientSession): void {
  const { args, reply } = session;
  const user = session.server.acl.find(args.latin1(2));
  if (user === undefined) {
    reply.null();
    return;
  }
  reply.map(6);
  reply.bulkText('flags');
  reply.set(user.flags.length);
  for (const flag of user.flags) reply.bulkText(flag);
  reply.bulkText('passwords');
  reply.array(user.passwords.size);
  for (const password of user.passwords) reply.bulkText(password);
  reply.bulkText('commands');
  reply.bulk(bytes(user.root.commandsText));
  reply.bulkText('keys');
  reply.bulk(bytes(user.root.keysText));
  reply.bulkText('channels');
  reply.bulk(bytes(user.root.channelsText));
  reply.bulkText('selectors');
  reply.array(user.selectors.length);
  for (const selector of user.selectors) {
    reply.map(3);
    reply.bulkText('commands');
    reply.bulk(bytes(selector.commandsText));
    reply.bulkText('keys');
    reply.bulk(bytes(selector.keysText));
    reply.bulkText('channels');
    reply.bulk(bytes(selector.channelsText));
  }
}

function setUser(session: ClientSession): void {
  const { args, reply, server } = session;
  try {
    const user = server.acl.setUser(args.latin1(2), rest(args, 3));
    endForbiddenListeners(server, user, session);
    reply.ok();
  } catch (error) {
    if (!(error instanceof AclError)) throw error;
    reply.errorBytes(`ERR ${error.message}`);
  }
}

function delUser(session: ClientSession): void {
  const { args, reply, server } = session;
  const names = rest(args, 2);
  if (names.includes('default')) {
    reply.error("ERR The 'default' user cannot be removed");
    return;
  }
  let removed = 0;
  for (const name of names) {
    const user = server.acl.removeUser(name);
    if (user === null) continue;
    removed++;
    disconnect(server, user, session);
  }
  reply.integer(removed);
}

/** Closes the clients of a deleted user. */
function disconnect(server: ServerState, user: User, session: ClientSession): void {
  for (const connection of [...server.connections.values()]) {
    if (connection.user !== user) continue;
    if (connection === session) connection.closeAfterReply();
    else connection.destroy();
  }
}

function genPass(session: ClientSession): void {
  const { args, reply } = session;
  if (args.count > 3) {
    wrongSubcommand(session, 'ACL');
    return;
  }
  const bits = args.count > 2 ? args.integer(2) : 256;
  if (bits === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  if (bits <= 0 || bits > 4096) {
    reply.error(
      'ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096',
    );
    return;
  }
  reply.bulkText(session.server.randomHex(Math.ceil(bits / 4)));
}

function dryRun(session: ClientSession): void {
  const { args, reply, server } = session;
  const name = args.latin1(2);
  const user = server.acl.find(name);
  if (user === undefined) {
    reply.errorBytes(`ERR User '${name}' not found`);
    return;
  }
  const inner = Arguments.of(...Array.from({ length: args.count - 3 }, (_, i) => args.copy(i + 3)));
  let entry = server.table.find(inner);
  if (entry?.subcommands && inner.count > 1) entry = entry.subcommands.find(inner, 1);
  if (entry === null) {
    reply.errorBytes(`ERR Command '${args.latin1(3)}' not found`);
    return;
  }
  if (entry.arity >= 0 ? inner.count !== entry.arity : inner.count < -entry.arity) {
    wrongArity(session, entry.name);
    return;
  }
  const refusal = user.refusal(entry, inner);
  if (refusal === null) reply.ok();
  else if (refusal.reason === 'command') {
    reply.bulk(bytes(deniedCommand(name, entry)));
  } else {
    const object = inner.latin1(refusal.argument);
    const text = `User ${name} has no permissions to access the '${object}' ${refusal.reason}`;
    reply.bulk(bytes(text));
  }
}

function log(session: ClientSession): void {
  const { args, reply } = session;
  const { acl } = session.server;
  if (args.count > 3) {
    wrongArity(session, 'acl|log');
    return;
  }
  if (args.count === 3 && args.is(2, 'RESET')) {
    acl.log = [];
    reply.ok();
    return;
  }
  const count = args.count === 3 ? args.integer(2) : 10;
  if (count === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  if (count < 0) {
    reply.error('ERR value is out of range, must be positive');
    return;
  }
  const shown = acl.log.slice(0, count);
  reply.array(shown.length);
  for (const entry of shown) logEntry(session, entry);
}

function logEntry(session: ClientSession, entry: AclLogEntry): void {
  const { reply, engine } = session;
  reply.map(10);
  reply.bulkText('count');
  reply.integer(entry.count);
  reply.bulkText('reason');
  reply.bulkText(entry.reason);
  reply.bulkText('context');
  reply.bulkText(entry.context);
  reply.bulkText('object');
  reply.bulk(bytes(entry.object));
  reply.bulkText('username');
  reply.bulk(bytes(entry.username));
  reply.bulkText('age-seconds');
  reply.double(Math.max(0, engine.now - entry.createdAt) / 1000);
  reply.bulkText('client-info');
  reply.bulk(bytes(entry.clientInfo));
  reply.bulkText('entry-id');
  reply.integer(entry.id);
  reply.bulkText('timestamp-created');
  reply.integer(entry.createdAt);
  reply.bulkText('timestamp-last-updated');
  reply.integer(entry.updatedAt);
}

const NO_FILE =
  'ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.';

/** The path of `aclfile`; null, with the error replied, when it is not set. */
function aclFile(session: ClientSession): string | null {
  const { config } = session.server;
  if (config.get('aclfile') !== '') return config.path('aclfile');
  session.reply.error(NO_FILE);
  return null;
}

function load(session: ClientSession): void {
  const { server } = session;
  const path = aclFile(session);
  if (path === null) return;
  try {
    for (const user of server.acl.load(path)) disconnect(server, user, session);
    for (const user of server.acl.users()) endForbiddenListeners(server, user, session);
    session.reply.ok();
  } catch (error) {
    session.reply.errorBytes(
      `ERR ${(error as Error).message} WARNING: ACL errors detected, no change to the previously active ACL rules was performed`,
    );
  }
}

function save(session: ClientSession): void {
  const { server } = session;
  const path = aclFile(session);
  if (path === null) return;
  try {
    server.acl.save(path);
    session.reply.ok();
  } catch (error) {
    server.log.write('warning', `ACL SAVE failed: ${(error as Error).message}`);
    session.reply.error(
      'ERR There was an error trying to save the ACLs. Please check the server logs for more information',
    );
  }
}

function help(session: ClientSession): void {
  replyHelp(session, 'ACL', [
    'CAT [<category>]',
    '    List all commands that belong to <category>, or all command categories',
    '    when no category is specified.',
    'DELUSER <username> [<username> ...]',
    '    Delete a list of users.',
    'DRYRUN <username> <command> [<arg> ...]',
    '    Returns whether the user can execute the given command without executing the command.',
    'GETUSER <username>',
    "    Get the user's details.",
    'GENPASS [<bits>]',
    '    Generate a secure 256-bit user password. The optional `bits` argument can',
    '    be used to specify a different size.',
    'LIST',
    '    Show users details in config file format.',
    'LOAD',
    '    Reload users from the ACL file.',
    'LOG [<count> | RESET]',
    '    Show the ACL log entries.',
    'SAVE',
    '    Save the current config to the ACL file.',
    'SETUSER <username> <attribute> [<attribute> ...]',
    '    Create or modify a user with the specified attributes.',
    'USERS',
    '    List all the registered usernames.',
    'WHOAMI',
    '    Return the current connection username.',
  ]);
}
