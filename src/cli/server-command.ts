/**
 * `micro server`: configuration from file and flags, the server, signals, the ready line.
 *
 * The first SIGTERM or SIGINT ends it in order (replies, log, checkpoint; exit code 0), a second one
 * at once. Whatever keeps it from starting is said in one line; the exit code then is 1.
 */
import { resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Config } from '../server/config.ts';
import { PinoLogger } from '../server/pino-logger.ts';
import { RivuletServer } from '../server/rivulet-server.ts';
import { RIVULET_VERSION } from '../server/version.ts';
import { fail } from './fail.ts';
import { writePidFile } from './pid-file.ts';
import { readServerFlags } from './server-flags.ts';

export async function serverCommand(args: readonly string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) {
    const { serverHelp } = await import('./server-help.ts');
    console.log(serverHelp());
    return;
  }
  // What commands allocate dies at once, so a young generation that stays at its first size (1 MiB,
  // which fits a processor's cache) is faster than one that grows to 16 MiB, and memory per entry is
  // what the entries need: 36 bytes instead of 43 at two million.
  setFlagsFromString('--semi-space-growth-factor=1');
  const config = new Config();
  readServerFlags(config, args);
  const log = new PinoLogger(config.get('logfile'));
  config.watch('loglevel', (level) => log.setLevel(level));
  const end = (code: number): void => {
    log.flush().finally(() => process.exit(code));
  };
  let server: RivuletServer;
  try {
    server = await RivuletServer.start({ config, log, onEnd: end });
  } catch (error) {
    await log.flush();
    fail(`can't start: ${(error as Error).message}`);
    // Something half open must not keep the process alive.
    process.exit(1);
  }
  const removePidFile = writePidFile(config.get('pidfile'));
  let signalled = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (signalled) process.exit(1);
      signalled = true;
      log.write('notice', `${signal} received: finishing replies, then checkpoint and exit`);
      server.stop().then(
        () => {
          removePidFile();
          end(0);
        },
        (error: Error) => {
          log.write('warning', `could not end in order: ${error.message}`);
          end(1);
        },
      );
    });
  }
  process.on('uncaughtException', (error) => {
    log.write('warning', `uncaught: ${error.message}`, { stack: error.stack });
    end(1);
  });
  console.log(readyLine(server, config));
}

function readyLine(server: RivuletServer, config: Config): string {
  const where = server.addresses.map(({ text }) => text);
  if (server.http !== null) where.push(server.http.address);
  const data = config.yes('appendonly')
    ? `data in ${resolve(config.get('dir'))}, appendfsync ${config.get('appendfsync')}`
    : 'in memory only: appendonly no';
  return `rivulet ${RIVULET_VERSION} ready on ${where.join(', ')} (${data}; pid ${process.pid})`;
}
