/**
 * CLIENT: who is connected, and what may be done to them.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { Command, CommandFlag } from '../command.ts';
import type { Connection } from '../connection.ts';
import { connectionOf } from '../connection-of.ts';
import { BAD_NAME, isPrintable } from '../hello.ts';
import type { Session } from '../session.ts';
import { NOT_AN_INTEGER, readTimeout, replyHelp, SYNTAX, wrongArity } from './common.ts';

const PLAIN: readonly CommandFlag[] = ['noscript', 'loading', 'stale'];
const ADMIN: readonly CommandFlag[] = ['admin', 'noscript', 'loading', 'stale'];

function sub(
  name: string,
  arity: number,
  since: string,
  flags: readonly CommandFlag[],
  summary: string,
  run: (session: Session) => void,
): Command {
  const categories = ['connection'];
  return {
    name: `client|${name}`,
    arity,
    flags,
    group: 'connection',
    since,
    summary,
    categories,
    run,
  };
}

export const clientCommands: readonly Command[] = [
  {
    name: 'client',
    arity: -2,
    flags: [],
    group: 'connection',
    since: '2.4.0',
    summary: 'A container for client connection commands.',
    subcommands: [
      sub(
        'caching',
        3,
        '6.0.0',
        PLAIN,
        'Instructs the server about tracking the next request.',
        caching,
      ),
      sub('getname', 2, '2.6.9', PLAIN, 'Returns the name of the connection.', getName),
      sub(
        'getredir',
        2,
        '6.0.0',
        PLAIN,
        'Returns the client that tracking is redirected to.',
        (session) => session.reply.integer(-1),
      ),
      sub(
        'help',
        2,
        '5.0.0',
        ['loading', 'stale'],
        'Returns helpful text about the subcommands.',
        help,
      ),
      sub('id', 2, '5.0.0', PLAIN, 'Returns the unique client ID of the connection.', (session) =>
        session.reply.integer(session.id),
      ),
      sub('info', 2, '6.2.0', PLAIN, 'Returns information about the connection.', (session) =>
        session.reply.verbatim(`${connectionOf(session).line}\n`, 'txt', 'latin1'),
      ),
      sub('kill', -3, '2.4.0', ADMIN, 'Terminates open connections.', kill),
      sub('list', -2, '2.4.0', ADMIN, 'Lists open connections.', list),
      sub(
        'no-evict',
        3,
        '7.0.0',
        ADMIN,
        'Sets the client eviction mode of the connection.',
        (session) =>
          setSwitch(session, (connection, on) => {
            connection.noEvict = on;
          }),
      ),
      sub(
        'no-touch',
        3,
        '7.2.0',
        PLAIN,
        'Controls whether commands alter the access time of keys.',
        (session) =>
          setSwitch(session, (connection, on) => {
            connection.noTouch = on;
          }),
      ),
      sub('pause', -3, '3.0.0', ADMIN, 'Suspends commands processing.', pause),
      sub('reply', 3, '3.2.0', PLAIN, 'Instructs the server whether to reply to commands.', reply),
      sub(
        'setinfo',
        4,
        '7.2.0',
        PLAIN,
        'Sets information specific to the client or connection.',
        setInfo,
      ),
      sub('setname', 3, '2.6.9', PLAIN, 'Sets the connection name.', setName),
      sub(
        'tracking',
        -3,
        '6.0.0',
        PLAIN,
        'Controls server-assisted client-side caching.',
        tracking,
      ),
      sub(
        'trackinginfo',
        2,
        '6.2.0',
        PLAIN,
        'Returns information about client-side caching.',
        trackingInfo,
      ),
      sub(
        'unblock',
        -3,
        '5.0.0',
        ADMIN,
        'Unblocks a client that waits in a blocking command.',
        unblock,
      ),
      sub(
        'unpause',
        2,
        '6.2.0',
        ADMIN,
        'Resumes processing commands from paused clients.',
        (session) => {
          connectionOf(session).server.unpause();
          session.reply.ok();
        },
      ),
    ],
  },
];

function getName(session: Session): void {
  const { name } = connectionOf(session);
  if (name === '') session.reply.null();
  else session.reply.bulkText(name);
}

function setName(session: Session): void {
  if (!isPrintable(session.args.view(2))) {
    session.reply.error(BAD_NAME);
    return;
  }
  connectionOf(session).name = session.args.text(2);
  session.reply.ok();
}

function setInfo(session: Session): void {
  const { args } = session;
  const connection = connectionOf(session);
  const attribute = args.text(2);
  const known = attribute.toLowerCase();
  if (known !== 'lib-name' && known !== 'lib-ver') {
    session.reply.error(`ERR Unrecognized option '${attribute}'`);
    return;
  }
  if (!isPrintable(args.view(3))) {
    session.reply.error(`ERR ${known} cannot contain spaces, newlines or special characters.`);
    return;
  }
  if (known === 'lib-name') connection.libName = args.text(3);
  else connection.libVersion = args.text(3);
  session.reply.ok();
}

function setSwitch(session: Session, set: (connection: Connection, on: boolean) => void): void {
  const { args } = session;
  const on = args.is(2, 'ON');
  if (!on && !args.is(2, 'OFF')) {
    session.reply.error(SYNTAX);
    return;
  }
  set(connectionOf(session), on);
  session.reply.ok();
}

function reply(session: Session): void {
  const { args } = session;
  const connection = connectionOf(session);
  if (args.is(2, 'ON')) {
    connection.replies.setMode('on');
    session.reply.ok();
  } else if (args.is(2, 'OFF')) {
    connection.replies.setMode('off');
  } else if (args.is(2, 'SKIP')) {
    connection.replies.setMode('skip');
  } else {
    session.reply.error(SYNTAX);
  }
}

function pause(session: Session): void {
  const { args } = session;
  const { server } = connectionOf(session);
  let writesOnly = false;
  if (args.count > 4) {
    wrongArity(session, 'client|pause');
    return;
  }
  if (args.count === 4) {
    writesOnly = args.is(3, 'WRITE');
    if (!writesOnly && !args.is(3, 'ALL')) {
      session.reply.error('ERR CLIENT PAUSE mode must be WRITE or ALL');
      return;
    }
  }
  const timeout = readTimeout(session, 2);
  if (timeout === null) return;
  // A pause that runs is only ever made longer and stricter, as in Redis.
  const { monotonic } = session.engine.time;
  const until = monotonic + timeout;
  const running = server.pause !== null && server.pause.until > monotonic;
  server.pause = {
    until: running ? Math.max(until, server.pause!.until) : until,
    writesOnly: running ? writesOnly && server.pause!.writesOnly : writesOnly,
  };
  session.reply.ok();
}

function unblock(session: Session): void {
  const { args } = session;
  let withError = false;
  if (args.count > 4) {
    wrongArity(session, 'client|unblock');
    return;
  }
  if (args.count === 4) {
    withError = args.is(3, 'ERROR');
    if (!withError && !args.is(3, 'TIMEOUT')) {
      session.reply.error('ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR');
      return;
    }
  }
  const id = args.integer(2);
  if (id === null) {
    session.reply.error(NOT_AN_INTEGER);
    return;
  }
  const found = connectionOf(session).server.connections.get(id);
  session.reply.integer(found?.unblock(withError) ? 1 : 0);
}

// ---- LIST and KILL

type Filter = (connection: Connection) => boolean;

/** Redis's client types; we have no replicas. */
function typeFilter(name: string): Filter | null {
  switch (name) {
    case 'normal':
      return (connection) => !connection.listening;
    case 'pubsub':
      return (connection) => connection.listening;
    case 'master':
    case 'replica':
    case 'slave':
      return () => false;
    default:
      return null;
  }
}

function list(session: Session): void {
  const { args } = session;
  let filter: Filter = () => true;
  if (args.count === 4 && args.is(2, 'TYPE')) {
    const found = typeFilter(args.text(3).toLowerCase());
    if (found === null) {
      session.reply.error(`ERR Unknown client type '${args.text(3)}'`);
      return;
    }
    filter = found;
  } else if (args.count > 3 && args.is(2, 'ID')) {
    const ids = new Set<number>();
    for (let i = 3; i < args.count; i++) {
      const id = args.integer(i);
      if (id === null || id < 1) {
        session.reply.error('ERR Invalid client ID');
        return;
      }
      ids.add(id);
    }
    filter = (connection) => ids.has(connection.id);
  } else if (args.count !== 2) {
    session.reply.error(SYNTAX);
    return;
  }
  let text = '';
  for (const connection of connectionOf(session).server.connections.values()) {
    if (filter(connection)) text += `${connection.line}\n`;
  }
  session.reply.verbatim(text, 'txt', 'latin1');
}

function kill(session: Session): void {
  const { args } = session;
  const self = connectionOf(session);
  const old = args.count === 3;
  const filters = old ? [addressFilter(args.text(2))] : killFilters(session, args);
  if (filters === null) return;
  let killed = 0;
  for (const connection of [...self.server.connections.values()]) {
    if (!filters.every((matches) => matches(connection))) continue;
    killed++;
    // Its own reply still leaves.
    if (connection === self) connection.closeAfterReply();
    else connection.destroy();
  }
  if (!old) session.reply.integer(killed);
  else if (killed === 0) session.reply.error('ERR No such client');
  else session.reply.ok();
}

function addressFilter(address: string): Filter {
  return (connection) => connection.address === address;
}

/** The filters of the new form; null after an error was written. */
function killFilters(session: Session, args: Arguments): Filter[] | null {
  const self = connectionOf(session);
  const filters: Filter[] = [];
  let skipMe = true;
  const fail = (text: string): null => {
    session.reply.error(text);
    return null;
  };
  for (let i = 2; i < args.count; i += 2) {
    if (i + 1 >= args.count) return fail(SYNTAX);
    const value = args.text(i + 1);
    switch (args.text(i).toLowerCase()) {
      case 'id': {
        const id = args.integer(i + 1);
        if (id === null || id < 1) return fail('ERR client-id should be greater than 0');
        filters.push((connection) => connection.id === id);
        break;
      }
      case 'addr':
        filters.push(addressFilter(value));
        break;
      case 'laddr':
        filters.push((connection) => connection.localAddress === value);
        break;
      case 'type': {
        const filter = typeFilter(value.toLowerCase());
        if (filter === null) return fail(`ERR Unknown client type '${value}'`);
        filters.push(filter);
        break;
      }
      case 'user': {
        const user = self.server.acl.find(args.latin1(i + 1));
        if (user === undefined) return fail(`ERR No such user '${value}'`);
        filters.push((connection) => connection.authenticated && connection.user === user);
        break;
      }
      case 'maxage': {
        const age = args.integer(i + 1);
        if (age === null || age < 1) {
          return fail('ERR maxage is not an integer or out of range');
        }
        filters.push(
          (connection) => session.engine.time.monotonic - connection.createdAt >= age * 1000,
        );
        break;
      }
      case 'skipme':
        if (args.is(i + 1, 'YES')) skipMe = true;
        else if (args.is(i + 1, 'NO')) skipMe = false;
        else return fail(SYNTAX);
        break;
      default:
        return fail(SYNTAX);
    }
  }
  if (skipMe) filters.push((connection) => connection !== self);
  return filters;
}

// ---- Client-side caching: there is none, and saying OFF is fine

function tracking(session: Session): void {
  const { args } = session;
  if (args.is(2, 'OFF')) session.reply.ok();
  else if (args.is(2, 'ON')) {
    session.reply.error('ERR client-side caching is not supported by this server');
  } else session.reply.error(SYNTAX);
}

function caching(session: Session): void {
  session.reply.error(
    'ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled',
  );
}

function trackingInfo(session: Session): void {
  const { reply } = session;
  reply.map(3);
  reply.bulkText('flags');
  reply.set(1);
  reply.bulkText('off');
  reply.bulkText('redirect');
  reply.integer(-1);
  reply.bulkText('prefixes');
  reply.array(0);
}

function help(session: Session): void {
  replyHelp(session, 'CLIENT', [
    'GETNAME',
    '    Return the name of the current connection.',
    'ID',
    '    Return the ID of the current connection.',
    'INFO',
    '    Return information about the current client connection.',
    'KILL <ip:port>',
    '    Kill connection made from <ip:port>.',
    'KILL <option> <value> [<option> <value> [...]]',
    '    Kill connections. Options are:',
    '    * ADDR (<ip:port>|<unixsocket>:0)',
    '      Kill connections made from the specified address',
    '    * LADDR (<ip:port>|<unixsocket>:0)',
    '      Kill connections made to specified local address',
    '    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)',
    '      Kill connections by type.',
    '    * USER <username>',
    '      Kill connections authenticated by <username>.',
    '    * MAXAGE <maxage>',
    '      Kill connections older than the specified age.',
    '    * SKIPME (YES|NO)',
    '      Skip killing current connection (default: yes).',
    'LIST [options ...]',
    '    Return information about client connections. Options:',
    '    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)',
    '      Return clients of specified type.',
    '    * ID <id> [<id> ...]',
    '      Return clients of the specified IDs only.',
    'NO-EVICT (ON|OFF)',
    '    Protect current client connection from eviction.',
    'NO-TOUCH (ON|OFF)',
    '    Will not touch LRU/LFU stats when this mode is on.',
    'PAUSE <timeout> [WRITE|ALL]',
    '    Suspend all, or just write, clients for <timeout> milliseconds.',
    'REPLY (ON|OFF|SKIP)',
    '    Control the replies sent to the current connection.',
    'SETINFO <option> <value>',
    '    Set client meta attr. Options are:',
    '    * LIB-NAME: the client lib name.',
    '    * LIB-VER: the client lib version.',
    'SETNAME <name>',
    '    Assign the name <name> to the current connection.',
    'TRACKING OFF',
    '    Server assisted client side caching is not available.',
    'TRACKINGINFO',
    '    Report tracking status for the current connection.',
    'UNBLOCK <clientid> [TIMEOUT|ERROR]',
    '    Unblock the specified blocked client.',
    'UNPAUSE',
    '    Stop the current client pause, resuming traffic.',
  ]);
}
