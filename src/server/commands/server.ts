/**
 * Commands about the server as a whole: TIME ROLE LASTSAVE SAVE BGSAVE BGREWRITEAOF WAIT WAITAOF
 * SHUTDOWN CLUSTER ASKING READONLY READWRITE MODULE.
 */
import type { Command, CommandFlag } from '../command/command.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { deadlineIn, NOT_AN_INTEGER, readTimeout, replyHelp, SYNTAX } from './common.ts';

const ADMIN: readonly CommandFlag[] = ['admin', 'noscript', 'no_async_loading'];
const NO_CLUSTER_SUMMARY = 'Answers that cluster support is disabled.';

function noCluster(session: ClientSession): void {
  session.reply.error('ERR This instance has cluster support disabled');
}

export const serverCommands: readonly Command<ClientSession>[] = [
  {
    name: 'bgrewriteaof',
    arity: 1,
    flags: ADMIN,
    group: 'server',
    since: '1.0.0',
    summary: 'Starts a checkpoint, which makes the log before it needless.',
    complexity: 'O(1)',
    run: (session) => startCheckpoint(session, 'Background append only file rewriting started'),
  },
  {
    name: 'bgsave',
    arity: -1,
    flags: ADMIN,
    group: 'server',
    since: '1.0.0',
    summary: 'Starts a checkpoint in the background.',
    complexity: 'O(1)',
    run(session) {
      const { args } = session;
      if (args.count > 2 || (args.count === 2 && !args.is(1, 'SCHEDULE'))) {
        session.reply.error(SYNTAX);
        return;
      }
      startCheckpoint(session, 'Background saving started');
    },
  },
  {
    name: 'cluster',
    arity: -2,
    flags: [],
    group: 'cluster',
    since: '3.0.0',
    summary: 'A container for cluster commands; this server stands alone.',
    subcommands: (['info', 'nodes', 'slots', 'shards', 'myid', 'keyslot', 'help'] as const).map(
      (name): Command<ClientSession> => ({
        name: `cluster|${name}`,
        arity: name === 'keyslot' ? 3 : 2,
        flags: ['help', 'slots', 'shards'].includes(name) ? ['loading', 'stale'] : ['stale'],
        group: 'cluster',
        since: '3.0.0',
        summary: NO_CLUSTER_SUMMARY,
        run: noCluster,
      }),
    ),
  },
  // Cluster-aware clients send these when they connect.
  ...['asking', 'readonly', 'readwrite'].map(
    (name): Command<ClientSession> => ({
      name,
      arity: 1,
      categories: ['connection'],
      flags: name === 'asking' ? ['fast'] : ['loading', 'stale', 'fast'],
      group: 'cluster',
      since: '3.0.0',
      summary: NO_CLUSTER_SUMMARY,
      run: noCluster,
    }),
  ),
  {
    name: 'lastsave',
    arity: 1,
    flags: ['loading', 'stale', 'fast'],
    categories: ['admin', 'dangerous'],
    group: 'server',
    since: '1.0.0',
    summary: 'Returns the Unix timestamp of the last completed checkpoint.',
    complexity: 'O(1)',
    run(session) {
      const { status } = session.server.persistence;
      session.reply.integer(Math.floor(status.lastCheckpointAt / 1000));
    },
  },
  {
    name: 'module',
    arity: -2,
    flags: [],
    group: 'server',
    since: '4.0.0',
    summary: 'A container for module commands.',
    subcommands: [
      {
        name: 'module|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'server',
        since: '5.0.0',
        summary: 'Returns helpful text about the different subcommands.',
        run: (session) =>
          replyHelp(session, 'MODULE', ['LIST', '    Return a list of loaded modules.']),
      },
      {
        name: 'module|list',
        arity: 2,
        flags: ['admin', 'noscript'],
        group: 'server',
        since: '4.0.0',
        summary: 'Returns all loaded modules: none.',
        run: (session) => session.reply.array(0),
      },
    ],
  },
  {
    name: 'role',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast'],
    categories: ['admin', 'dangerous'],
    group: 'server',
    since: '2.8.12',
    summary: 'Returns the replication role.',
    complexity: 'O(1)',
    run({ reply }) {
      reply.array(3);
      reply.bulkText('master');
      reply.integer(0);
      reply.array(0);
    },
  },
  {
    name: 'save',
    arity: 1,
    flags: [...ADMIN, 'no_multi'],
    group: 'server',
    since: '1.0.0',
    summary:
      'Writes a checkpoint and answers when it is complete. Other clients are served meanwhile.',
    run(session) {
      const answer = (error: Error | null): void => {
        if (error === null) session.reply.ok();
        else session.reply.error(`ERR ${error.message}`);
      };
      const saved = session.server.persistence.checkpoint();
      session.waitFor(saved, answer, { unblockable: false });
    },
  },
  {
    name: 'shutdown',
    arity: -1,
    flags: ['admin', 'noscript', 'no_multi', 'loading', 'stale', 'allow_busy'],
    group: 'server',
    since: '1.0.0',
    summary: 'Checkpoints and ends the server.',
    run: shutdown,
  },
  {
    name: 'time',
    arity: 1,
    flags: ['loading', 'stale', 'fast'],
    group: 'server',
    since: '2.6.0',
    summary: 'Returns the server time.',
    complexity: 'O(1)',
    run: time,
  },
  {
    name: 'wait',
    arity: 3,
    flags: ['blocking'],
    categories: ['connection'],
    group: 'generic',
    since: '3.0.0',
    summary: 'Waits for replicas, of which there are none.',
    complexity: 'O(1)',
    run: wait,
  },
  {
    name: 'waitaof',
    arity: 4,
    flags: ['blocking'],
    categories: ['connection'],
    group: 'generic',
    since: '7.2.0',
    summary: 'Waits until everything written before is on disk.',
    complexity: 'O(1)',
    run: waitAof,
  },
];

function startCheckpoint(session: ClientSession, text: string): void {
  const { persistence, log } = session.server;
  if (persistence.status.checkpointing) {
    session.reply.error('ERR Background save already in progress');
    return;
  }
  persistence.checkpoint().catch((error: Error) => {
    log.write('warning', `checkpoint failed: ${error.message}`);
  });
  session.reply.simple(text);
}

function time(session: ClientSession): void {
  const { microseconds } = session.server.timeOfDay;
  session.reply.array(2);
  session.reply.bulkText(String(Math.floor(microseconds / 1_000_000)));
  session.reply.bulkText(String(microseconds % 1_000_000));
}

function shutdown(session: ClientSession): void {
  const { args, reply } = session;
  let save = false;
  let noSave = false;
  for (let i = 1; i < args.count; i++) {
    if (args.is(i, 'ABORT') && args.count === 2) {
      reply.error('ERR No shutdown in progress.');
      return;
    }
    if (args.is(i, 'SAVE')) save = true;
    else if (args.is(i, 'NOSAVE')) noSave = true;
    else if (!args.is(i, 'NOW') && !args.is(i, 'FORCE')) {
      reply.error(SYNTAX);
      return;
    }
  }
  if (save && noSave) {
    reply.error(SYNTAX);
    return;
  }
  session.waitFor(new Promise<void>(() => {}), () => {}, { unblockable: false });
  session.server.shutdown({ checkpoint: !noSave });
}

function wait(session: ClientSession): void {
  const replicas = session.args.integer(1);
  if (replicas === null) {
    session.reply.error(NOT_AN_INTEGER);
    return;
  }
  const timeout = readTimeout(session, 2);
  if (timeout === null) return;
  if (replicas <= 0 || session.denyBlocking) {
    session.reply.integer(0);
    return;
  }
  session.block({
    database: session.database,
    keys: [],
    deadline: deadlineIn(session.engine, timeout),
    retry: () => false,
    timedOut: ({ reply }) => reply.integer(0),
  });
}

function waitAof(session: ClientSession): void {
  const { args, reply } = session;
  const { persistence } = session.server;
  const local = args.integer(1);
  const replicas = args.integer(2);
  if (local === null || replicas === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  if (local < 0 || local > 1 || replicas < 0) {
    reply.error('ERR value is out of range, must be between 0 and 1');
    return;
  }
  const timeout = readTimeout(session, 3);
  if (timeout === null) return;
  if (local > 0 && !persistence.enabled) {
    reply.error('ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.');
    return;
  }
  const answer = (): void => {
    const { journal } = session.engine;
    reply.array(2);
    reply.integer(persistence.enabled && journal.durable >= position ? 1 : 0);
    reply.integer(0);
  };
  const position = session.engine.journal.appended;
  if (
    session.denyBlocking ||
    (replicas === 0 && (local === 0 || session.engine.journal.durable >= position))
  ) {
    answer();
    return;
  }
  const deadline = deadlineIn(session.engine, timeout);
  // There are no replicas: a wait for some of them ends only by its timeout.
  const done = replicas === 0 ? persistence.sync() : new Promise<void>(() => {});
  session.waitFor(done, answer, { deadline });
}
