/**
 * Commands of the connection itself: HELLO AUTH PING ECHO SELECT RESET QUIT.
 */
import type { Command } from '../command.ts';
import type { Connection } from '../connection.ts';
import { connectionOf } from '../connection-of.ts';
import { HELLO_NOAUTH, NO_PASSWORD, readHello, WRONGPASS, writeHello } from '../hello.ts';
import type { Session } from '../session.ts';
import { readDatabaseIndex, SYNTAX, wrongArity } from './common.ts';

const ANYWHERE = ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'] as const;

export const connectionCommands: readonly Command[] = [
  {
    name: 'auth',
    arity: -2,
    flags: ANYWHERE,
    group: 'connection',
    since: '1.0.0',
    summary: 'Authenticates the connection.',
    complexity: 'O(N) where N is the number of passwords defined for the user',
    run: auth,
  },
  {
    name: 'echo',
    arity: 2,
    flags: ['loading', 'stale', 'fast'],
    group: 'connection',
    since: '1.0.0',
    summary: 'Returns the given string.',
    complexity: 'O(1)',
    run: (session) => session.reply.bulkSlice(...slice(session, 1)),
  },
  {
    name: 'hello',
    arity: -1,
    flags: ANYWHERE,
    group: 'connection',
    since: '6.0.0',
    summary: 'Handshakes with the server: protocol, login, client name.',
    complexity: 'O(1)',
    run: hello,
  },
  {
    name: 'ping',
    arity: -1,
    flags: ['fast'],
    group: 'connection',
    since: '1.0.0',
    summary: "Returns the server's liveliness response.",
    complexity: 'O(1)',
    run: ping,
  },
  {
    name: 'quit',
    arity: -1,
    flags: ANYWHERE,
    group: 'connection',
    since: '1.0.0',
    summary: 'Closes the connection.',
    complexity: 'O(1)',
    run(session) {
      session.reply.ok();
      connectionOf(session).closeAfterReply();
    },
  },
  {
    name: 'reset',
    arity: 1,
    flags: ANYWHERE,
    group: 'connection',
    since: '6.2.0',
    summary: "Resets the connection's state.",
    complexity: 'O(1)',
    run(session) {
      connectionOf(session).reset();
      session.reply.simple('RESET');
    },
  },
  {
    name: 'select',
    arity: 2,
    flags: ['loading', 'stale', 'fast'],
    group: 'connection',
    since: '1.0.0',
    summary: 'Changes the selected database.',
    complexity: 'O(1)',
    run: select,
  },
];

function slice(session: Session, index: number): [Buffer, number, number] {
  const { args } = session;
  return [args.buffer, args.offsets[index], args.lengths[index]];
}

function ping(session: Session): void {
  const { args, reply, subscriptions } = session;
  if (args.count > 2) {
    wrongArity(session, 'ping');
    return;
  }
  const listening = subscriptions !== null && subscriptions.total > 0;
  if (listening && reply.protocol === 2) {
    // A RESP2 client that listens gets everything in the form of a message.
    reply.array(2);
    reply.bulkText('pong');
    if (args.count === 2) reply.bulkSlice(...slice(session, 1));
    else reply.bulkText('');
  } else if (args.count === 2) {
    reply.bulkSlice(...slice(session, 1));
  } else {
    reply.simple('PONG');
  }
}

function select(session: Session): void {
  const index = readDatabaseIndex(session, 1);
  if (index === null) return;
  session.database = session.engine.databases[index]!;
  session.reply.ok();
}

function auth(session: Session): void {
  const { args, reply } = session;
  const connection = connectionOf(session);
  if (args.count > 3) {
    reply.error(SYNTAX);
    return;
  }
  if (args.count === 2 && connection.server.acl.default.nopass) {
    reply.error(NO_PASSWORD);
    return;
  }
  const name = args.count === 3 ? args.latin1(1) : 'default';
  if (logIn(connection, name, args.count - 1)) reply.ok();
  else reply.error(WRONGPASS);
}

/** Logs in with the password at this argument; notes a failure in the ACL log. */
function logIn(connection: Connection, name: string, passwordAt: number): boolean {
  const { acl, statistics, engine } = connection.server;
  const user = acl.authenticate(name, connection.args.view(passwordAt));
  if (user !== null) {
    connection.become(user);
    return true;
  }
  statistics.authDenied++;
  acl.note({
    reason: 'auth',
    context: connection.denyBlocking ? 'multi' : 'toplevel',
    object: connection.lastCommand?.name ?? 'auth',
    username: name,
    createdAt: engine.now,
    clientInfo: connection.line,
  });
  return false;
}

function hello(session: Session): void {
  const { args, reply } = session;
  const connection = connectionOf(session);
  const asked = readHello(args, reply.protocol);
  if (typeof asked === 'string') {
    reply.error(asked);
    return;
  }
  const { protocol, userAt, nameAt } = asked;
  if (userAt > 0 && !logIn(connection, args.latin1(userAt), userAt + 1)) {
    reply.error(WRONGPASS);
    return;
  }
  if (connection.mustLogIn) {
    reply.error(HELLO_NOAUTH);
    return;
  }
  if (nameAt > 0) connection.name = args.text(nameAt);
  reply.protocol = protocol;
  writeHello(reply, connection.id);
}
