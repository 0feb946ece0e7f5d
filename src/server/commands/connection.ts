/**
 * Commands of the connection itself: HELLO AUTH PING ECHO SELECT RESET QUIT.
 */
import type { Command } from '../command/command.ts';
import type { ClientSession } from '../connection/client-session.ts';
import {
  HELLO_NOAUTH,
  NO_PASSWORD,
  readHello,
  WRONGPASS,
  writeHello,
} from '../connection/hello.ts';
import { clientBytes } from '../observability/client-info.ts';
import { readDatabaseIndex, SYNTAX, wrongArity } from './common.ts';

const ANYWHERE = ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'] as const;

export const connectionCommands: readonly Command<ClientSession>[] = [
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
      session.closeAfterReply();
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
      session.reset();
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

function slice(session: ClientSession, index: number): [Buffer, number, number] {
  const { args } = session;
  return [args.buffer, args.offsets[index], args.lengths[index]];
}

function ping(session: ClientSession): void {
  const { args, reply, subscriptions } = session;
  if (args.count > 2) {
    wrongArity(session, 'ping');
    return;
  }
  const listening = subscriptions !== null && subscriptions.total > 0;
  if (listening && reply.protocol === 2) {
    // A subscribed RESP2 client receives every reply in the form of a message.
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

function select(session: ClientSession): void {
  const index = readDatabaseIndex(session, 1);
  if (index === null) return;
  session.database = session.engine.databases[index]!;
  session.reply.ok();
}

function auth(session: ClientSession): void {
  const { args, reply } = session;
  if (args.count > 3) {
    reply.error(SYNTAX);
    return;
  }
  if (args.count === 2 && session.server.acl.default.nopass) {
    reply.error(NO_PASSWORD);
    return;
  }
  const name = args.count === 3 ? args.latin1(1) : 'default';
  if (logIn(session, name, args.count - 1)) reply.ok();
  else reply.error(WRONGPASS);
}

/** Logs in with the password at this argument; notes a failure in the ACL log. */
function logIn(session: ClientSession, name: string, passwordAt: number): boolean {
  const { acl, statistics, engine } = session.server;
  const user = acl.authenticate(name, session.args.view(passwordAt));
  if (user !== null) {
    session.become(user);
    return true;
  }
  statistics.authDenied++;
  acl.note({
    reason: 'auth',
    context: session.denyBlocking ? 'multi' : 'toplevel',
    object: session.lastCommand?.name ?? 'auth',
    username: name,
    createdAt: engine.now,
    clientInfo: clientBytes(session),
  });
  return false;
}

function hello(session: ClientSession): void {
  const { args, reply } = session;
  const asked = readHello(args, reply.protocol);
  if (typeof asked === 'string') {
    reply.error(asked);
    return;
  }
  const { protocol, userAt, nameAt } = asked;
  if (userAt > 0 && !logIn(session, args.latin1(userAt), userAt + 1)) {
    reply.error(WRONGPASS);
    return;
  }
  if (session.mustLogIn) {
    reply.error(HELLO_NOAUTH);
    return;
  }
  if (nameAt > 0) session.name = args.text(nameAt);
  reply.protocol = protocol;
  writeHello(reply, session.id);
}
