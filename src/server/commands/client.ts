/**
 * CLIENT: the client's own name and modes, and pausing or unblocking others. LIST and KILL are in
 * client-list.ts.
 */
import type { Command, CommandFlag } from '../command/command.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { BAD_NAME, isPrintable } from '../connection/hello.ts';
import { clientBytes } from '../observability/client-info.ts';
import { killClients, listClients } from './client-list.ts';
import { NOT_AN_INTEGER, readTimeout, replyHelp, SYNTAX, wrongArity } from './common.ts';

const PLAIN: readonly CommandFlag[] = ['noscript', 'loading', 'stale'];
const ADMIN: readonly CommandFlag[] = ['admin', 'noscript', 'loading', 'stale'];

function sub(
  name: string,
  arity: number,
  since: string,
  flags: readonly CommandFlag[],
  summary: string,
  run: (session: ClientSession) => void,
): Command<ClientSession> {
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

export const clientCommands: readonly Command<ClientSession>[] = [
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
        session.reply.verbatim(`${clientBytes(session)}\n`, 'txt', 'latin1'),
      ),
      sub('kill', -3, '2.4.0', ADMIN, 'Terminates open connections.', killClients),
      sub('list', -2, '2.4.0', ADMIN, 'Lists open connections.', listClients),
      sub(
        'no-evict',
        3,
        '7.0.0',
        ADMIN,
        'Sets the client eviction mode of the connection.',
        (session) =>
          setSwitch(session, (client, on) => {
            client.noEvict = on;
          }),
      ),
      sub(
        'no-touch',
        3,
        '7.2.0',
        PLAIN,
        'Controls whether commands alter the access time of keys.',
        (session) =>
          setSwitch(session, (client, on) => {
            client.noTouch = on;
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
          session.server.unpause();
          session.reply.ok();
        },
      ),
    ],
  },
];

function getName(session: ClientSession): void {
  const { name } = session;
  if (name === '') session.reply.null();
  else session.reply.bulkText(name);
}

function setName(session: ClientSession): void {
  if (!isPrintable(session.args.view(2))) {
    session.reply.error(BAD_NAME);
    return;
  }
  session.name = session.args.text(2);
  session.reply.ok();
}

function setInfo(session: ClientSession): void {
  const { args } = session;
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
  if (known === 'lib-name') session.libName = args.text(3);
  else session.libVersion = args.text(3);
  session.reply.ok();
}

function setSwitch(
  session: ClientSession,
  set: (client: ClientSession, on: boolean) => void,
): void {
  const { args } = session;
  const on = args.is(2, 'ON');
  if (!on && !args.is(2, 'OFF')) {
    session.reply.error(SYNTAX);
    return;
  }
  set(session, on);
  session.reply.ok();
}

function reply(session: ClientSession): void {
  const { args } = session;
  if (args.is(2, 'ON')) {
    session.replies.setMode('on');
    session.reply.ok();
  } else if (args.is(2, 'OFF')) {
    session.replies.setMode('off');
  } else if (args.is(2, 'SKIP')) {
    session.replies.setMode('skip');
  } else {
    session.reply.error(SYNTAX);
  }
}

function pause(session: ClientSession): void {
  const { args, server } = session;
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
  // As in Redis, a second pause can only make the first one longer and stricter.
  const { monotonic } = session.engine.time;
  const until = monotonic + timeout;
  const running = server.pause !== null && server.pause.until > monotonic;
  server.pause = {
    until: running ? Math.max(until, server.pause!.until) : until,
    writesOnly: running ? writesOnly && server.pause!.writesOnly : writesOnly,
  };
  session.reply.ok();
}

function unblock(session: ClientSession): void {
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
  const found = session.server.connections.get(id);
  session.reply.integer(found?.unblock(withError) ? 1 : 0);
}

// ---- Client-side caching: there is none, so only OFF is accepted

function tracking(session: ClientSession): void {
  const { args } = session;
  if (args.is(2, 'OFF')) session.reply.ok();
  else if (args.is(2, 'ON')) {
    session.reply.error('ERR client-side caching is not supported by this server');
  } else session.reply.error(SYNTAX);
}

function caching(session: ClientSession): void {
  session.reply.error(
    'ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled',
  );
}

function trackingInfo(session: ClientSession): void {
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

function help(session: ClientSession): void {
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
