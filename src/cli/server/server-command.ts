/**
 * `micro server`: configuration from file and flags, the server, signals, the ready line.
 *
 * The first SIGTERM or SIGINT ends it in order (replies, log, checkpoint; exit code 0), a second one
 * at once. SIGHUP opens the log file again. Whatever keeps it from starting is said in one line; the exit code
 * then is 2 for arguments and a configuration that cannot be obeyed, else 1.
 */
import { resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import type { Console } from '../../console/console.ts';
import type { Gateway } from '../../gateway/gateway.ts';
import { BackgroundFailures } from '../../server/background-failures.ts';
import { Config } from '../../server/config/config.ts';
import type { LoadingProgress } from '../../server/loading.ts';
import type { Logger } from '../../server/observability/logger.ts';
import { PinoLogger } from '../../server/observability/pino-logger.ts';
import { RivuletServer, StuckDisk } from '../../server/rivulet-server.ts';
import { RIVULET_VERSION } from '../../server/version.ts';
import { usage } from '../exit-code.ts';
import { fail } from '../fail.ts';
import { inBackground, report, startInBackground } from './daemon.ts';
import { writePidFile } from './pid-file.ts';
import { type ApiFlags, splitApiFlags, startApi } from './server-api.ts';
import { readServerFlags } from './server-flags.ts';

/** How long the last lines of the log may take to be written, ms. */
const FLUSH_MS = 1000;

export async function serverCommand(args: readonly string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) {
    const { serverHelp } = await import('./server-help.ts');
    console.log(serverHelp());
    return;
  }
  const config = new Config();
  let api: ApiFlags | null = null;
  try {
    const split = splitApiFlags(args);
    api = split.api;
    readServerFlags(config, split.rest);
    config.checkObeyed();
  } catch (error) {
    const { message } = error as Error;
    await report({ failed: message });
    throw usage(message);
  }
  if (wantsBackground(config) && !inBackground()) {
    console.log(await startInBackground());
    return;
  }
  await runServer(config, api);
}

/** As in Redis, a supervisor that watches this process keeps it in the foreground. */
function wantsBackground(config: Config): boolean {
  const { NOTIFY_SOCKET, UPSTART_JOB } = process.env;
  const supervised = config.get('supervised') !== 'no' && (NOTIFY_SOCKET ?? UPSTART_JOB);
  return config.yes('daemonize') && !supervised;
}

async function runServer(config: Config, api: ApiFlags | null): Promise<void> {
  // What commands allocate dies at once, so a young generation that stays at its first size (1 MiB,
  // which fits a processor's cache) is faster than one that grows to 16 MiB, and memory per entry is
  // what the entries need: 36 bytes instead of 43 at two million.
  setFlagsFromString('--semi-space-growth-factor=1');
  const log = new PinoLogger(config.path('logfile'));
  config.watch('loglevel', (level) => log.setLevel(level));
  let removePidFile = (): void => {};
  const failures = new BackgroundFailures(log, () => performance.now());
  // A terminal that closes is no reason to end (Redis ignores it too); log rotation sends it as well.
  process.on('SIGHUP', () => {
    if (failures.attempt('reopening the log file', () => log.reopen())) {
      log.write('notice', 'SIGHUP received: the log file was opened again');
    }
  });
  let ready = false;
  process.on('uncaughtException', (error) => {
    if (ready) {
      failures.note('work outside a command', error);
      return;
    }
    fail(`can't start: ${error.message}`);
    process.exit(1);
  });
  const end = (code: number, isStuck = false): void => {
    removePidFile();
    // The log file may be on the disk that does not answer.
    const flushed = Promise.race([log.flush(), setTimeout(FLUSH_MS, undefined, { ref: false })]);
    // exit() waits for the threads that wait for the disk.
    const exit = (): void =>
      void (isStuck ? process.kill(process.pid, 'SIGKILL') : process.exit(code));
    flushed.finally(exit);
  };
  let server: RivuletServer | null = null;
  let gateway: Gateway | null = null;
  let consolePages: Console | null = null;
  let signalled = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (signalled) process.exit(1);
      signalled = true;
      // While data is loaded nothing is in memory that the disk does not have.
      if (server === null) process.exit(0);
      else {
        const running = server;
        // The gateway first: what it has accepted still needs the server.
        void Promise.all([gateway?.stop(), consolePages?.close()]).then(() =>
          stopOnSignal(running, signal, config, log, end),
        );
      }
    });
  }
  nameWithoutEffect(config, log);
  try {
    log.open();
    const progress = progressLine();
    server = await RivuletServer.start({ config, log, onEnd: end, onProgress: progress.show });
    progress.clear();
    if (api !== null) gateway = await startApi(api, server, config);
    if (server.http !== null && config.yes('console')) {
      const { startConsole } = await import('./server-console.ts');
      consolePages = await startConsole(server, config);
    }
  } catch (error) {
    const why = `can't start: ${(error as Error).message}`;
    await log.flush();
    await report({ failed: why });
    fail(why);
    // Something half open must not keep the process alive.
    process.exit(1);
  }
  try {
    removePidFile = writePidFile(config.path('pidfile'));
  } catch (error) {
    log.write('warning', `Failed to write PID file: ${(error as Error).message}`);
  }
  ready = true;
  const line = readyLine(server, config, gateway);
  console.log(line);
  await report({ ready: line });
}

function stopOnSignal(
  server: RivuletServer,
  signal: 'SIGTERM' | 'SIGINT',
  config: Config,
  log: Logger,
  end: (code: number, isStuck?: boolean) => void,
): void {
  const options = config.get(`shutdown-on-${signal.toLowerCase()}`).split(' ');
  const checkpoint = !options.includes('nosave');
  const then = checkpoint ? 'then checkpoint and exit' : 'then exit without a checkpoint';
  log.write('notice', `${signal} received: finishing replies, ${then}`);
  server.stop(checkpoint).then(
    () => end(0),
    (error: Error) => {
      log.write('warning', `could not end in order: ${error.message}`);
      end(1, error instanceof StuckDisk);
    },
  );
}

/** On a terminal: one line that says how far the data is loaded, rewritten ten times a second. */
function progressLine(): { show(progress: LoadingProgress): void; clear(): void } {
  let shownAt = 0;
  return {
    show(progress) {
      if (process.stderr.isTTY !== true || performance.now() - shownAt < 100) return;
      shownAt = performance.now();
      process.stderr.write(`\r\x1b[Kloading: ${progress.text}`);
    },
    clear() {
      if (shownAt > 0) process.stderr.write('\r\x1b[K');
    },
  };
}

/** What file and flags ask for and this server has no use for: said once. */
function nameWithoutEffect(config: Config, log: Logger): void {
  if (config.inert.size > 0) {
    const names = [...config.inert].join(', ');
    log.write('notice', `accepted from the configuration, without effect here: ${names}`);
  }
  const savesNothing = config.origin('save') !== '' && config.get('save') === '';
  if (!config.yes('appendonly') && config.origin('appendonly').includes(':') && !savesNothing) {
    log.write(
      'warning',
      "'appendonly no' keeps everything in memory only: 'save' points write nothing here, and the data ends with the server. Set 'appendonly yes' to keep it",
    );
  }
}

function readyLine(server: RivuletServer, config: Config, gateway: Gateway | null): string {
  const where = server.addresses.map(({ text }) => text);
  if (server.http !== null) where.push(server.http.address);
  if (gateway !== null) where.push(`${gateway.url} (api)`);
  const data = config.yes('appendonly')
    ? `data in ${resolve(config.path('dir'))}, appendfsync ${config.get('appendfsync')}`
    : 'in memory only: appendonly no';
  return `rivulet ${RIVULET_VERSION} ready on ${where.join(', ')} (${data}; pid ${process.pid})`;
}
