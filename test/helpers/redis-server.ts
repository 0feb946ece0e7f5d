/**
 * A real redis-server of the machine's own, started for one test on a free port.
 *
 * Ready when it says so; ended with the test. Its data is in a temporary directory.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ended, startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { type TemporaryDirectory, temporaryDirectory } from './temporary-directory.ts';

export interface RedisServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  readonly directory: string;
  /** Ends the process, cleanly unless told otherwise, and waits for that; the data stays. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface RedisServerOptions {
  /** Further options in the form of the command line: `['--appendonly', 'yes']`. */
  readonly args?: readonly string[];
  /** Where the data is; kept at the end. A temporary directory when absent. */
  readonly directory?: string;
  /** How long loading may take. @default 60000 */
  readonly readyTimeoutMs?: number;
  /** Another redis-server than the machine's: the newest one, see references.ts. */
  readonly program?: string;
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const own = options.directory === undefined ? temporaryDirectory('redis') : undefined;
  const directory = options.directory ?? (own as TemporaryDirectory).path;
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const args = [
      '--port',
      `${port}`,
      '--bind',
      '127.0.0.1',
      '--dir',
      directory,
      '--daemonize',
      'no',
    ];
    const child = startChild(options.program ?? 'redis-server', [
      ...args,
      '--save',
      '',
      '--appendonly',
      'no',
      ...(options.args ?? []),
    ]);
    try {
      await ready(child, options.readyTimeoutMs ?? 60_000);
    } catch (error) {
      child.kill('SIGKILL');
      if (attempt === 3 || !/Address already in use/.test(String(error))) throw error;
      continue;
    }
    const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
      child.kill(signal);
      await ended(child);
    };
    return {
      host: '127.0.0.1',
      port,
      pid: child.pid as number,
      directory,
      stop,
      async [Symbol.asyncDispose]() {
        await stop('SIGKILL');
        await own?.[Symbol.asyncDispose]();
      },
    };
  }
}

function ready(child: ChildProcess, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const said: string[] = [];
    const fail = (reason: string) => {
      clearTimeout(timer);
      reject(new Error(`redis-server ${reason}\n${said.join('\n')}`));
    };
    const timer = setTimeout(() => fail(`was not ready after ${timeoutMs} ms`), timeoutMs);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`ended with ${code} before it was ready`));
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      if (said.length < 100) said.push(line);
      if (!/Ready to accept connections/.test(line)) return;
      clearTimeout(timer);
      resolve();
    });
  });
}
