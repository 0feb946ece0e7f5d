/**
 * DEBUG, as far as tests of clients need it. Off unless `enable-debug-command` allows it.
 */

import { isLocal } from '../acl/protected-mode.ts';
import type { Command } from '../command/command.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { NO_SUCH_KEY, replyHelp } from './common.ts';
import { memoryOf } from './memory.ts';

export const debugCommands: readonly Command<ClientSession>[] = [
  {
    name: 'debug',
    arity: -2,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    group: 'server',
    since: '1.0.0',
    summary: 'A container for debugging commands.',
    run: debug,
  },
];

const REFUSED =
  'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.';

function debug(session: ClientSession): void {
  const { args, reply } = session;
  const allowed = session.server.config.get('enable-debug-command');
  if (allowed === 'no' || (allowed === 'local' && !isLocal(session.socket.remoteAddress))) {
    reply.error(REFUSED);
    return;
  }
  if (args.is(1, 'SLEEP') && args.count === 3) {
    sleep(Number(args.text(2)));
    reply.ok();
  } else if (args.is(1, 'OBJECT') && args.count >= 3) {
    debugObject(session);
  } else if (args.is(1, 'CHANGE-REPL-ID') && args.count === 2) {
    reply.ok();
  } else if (args.is(1, 'HELP') && args.count === 2) {
    replyHelp(session, 'DEBUG', [
      'CHANGE-REPL-ID',
      '    Accepted; there is no replication.',
      'OBJECT <key>',
      '    Show low level info about `key` and associated value.',
      'SLEEP <seconds>',
      '    Stop the server for <seconds>. Decimals allowed.',
    ]);
  } else {
    reply.error(
      `ERR unknown subcommand or wrong number of arguments for '${args.text(1)}'. Try DEBUG HELP.`,
    );
  }
}

/** Stops the whole loop, on purpose. */
function sleep(seconds: number): void {
  if (!(seconds > 0)) return;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.min(seconds * 1000, 2 ** 31));
}

function debugObject(session: ClientSession): void {
  const { args, reply } = session;
  const entry = session.database.find(args, 2);
  if (entry === undefined) {
    reply.error(NO_SUCH_KEY);
    return;
  }
  const encoding = entry.value.type === 'stream' ? 'stream' : 'raw';
  const idle = Math.max(0, session.engine.seconds - entry.accessed);
  reply.simple(
    `Value at:0x0 refcount:1 encoding:${encoding} serializedlength:${memoryOf(entry)} lru:${entry.accessed % 2 ** 24} lru_seconds_idle:${idle}`,
  );
}
