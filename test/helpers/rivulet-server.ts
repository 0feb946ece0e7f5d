/**
 * The real Rivulet binary, started for one test on a port that the kernel chooses.
 *
 * Ready when its ready line says so (the addresses are read from that line); ended with the test. A turn
 * of its loop that takes too long (stall-watch.ts) fails the test, unless the test says why it may.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { repositoryRoot } from '../house/source-file.ts';
import { ended, startChild } from './children.ts';
import { BESIDE_OTHERS_MS, STALL_WATCH, stallsOf } from './stall-watch.ts';
import { type TemporaryDirectory, temporaryDirectory } from './temporary-directory.ts';

export interface RivuletServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** 0 when HTTP is off. */
  readonly httpPort: number;
  readonly pid: number;
  readonly directory: string;
  readonly process: ChildProcess;
  /** When its ready line came, Unix ms. */
  readonly readyAt: number;
  /** Milliseconds from the start of the process to its ready line. */
  readonly readyMs: number;
  /** What it has printed so far. */
  output(): string;
  /** Ends the process (by default as SIGTERM does: cleanly) and waits; resolves with the exit code or signal. */
  stop(signal?: NodeJS.Signals): Promise<number | string>;
}

export interface RivuletServerOptions {
  /** Further options: `['--appendonly', 'no']`. */
  readonly args?: readonly string[];
  /** Where the data is; kept at the end. A temporary directory when absent. */
  readonly directory?: string;
  /** @default 60000 */
  readonly readyTimeoutMs?: number;
  /** Options of the Node process: `['--max-old-space-size=256']`. */
  readonly nodeArgs?: readonly string[];
  /** Why turns of its loop may take long here; absent = they may not. */
  readonly longTurns?: string;
  /** What stands before the command and replaces itself by it: `['nsenter', '-t', '17', '-m']`. */
  readonly within?: readonly string[];
}

const BINARY = process.env.RIVULET_BINARY ?? join(repositoryRoot, 'bin', 'micro.js');

/** The command line that starts a server; for tests that look at how it fails to start. */
export function rivuletCommand(args: readonly string[], nodeArgs: readonly string[] = []) {
  return { command: process.execPath, args: [...nodeArgs, BINARY, 'server', ...args] };
}

export async function startRivulet(options: RivuletServerOptions = {}): Promise<RivuletServer> {
  const own = options.directory === undefined ? temporaryDirectory('data') : undefined;
  const directory = options.directory ?? (own as TemporaryDirectory).path;
  const flags = ['--port', '0', '--http-port', '0', '--bind', '127.0.0.1', '--dir', directory];
  const watch = options.longTurns === undefined && options.within === undefined ? STALL_WATCH : [];
  const nodeArgs = [...watch, ...(options.nodeArgs ?? [])];
  const { command, args } = rivuletCommand([...flags, ...(options.args ?? [])], nodeArgs);
  const [first, ...rest] = [...(options.within ?? []), command, ...args];
  const startedAt = performance.now();
  const child = startChild(first, rest);
  const said: string[] = [];
  const line = await readyLine(child, said, options.readyTimeoutMs ?? 60_000);
  const readyMs = performance.now() - startedAt;
  const readyAt = Date.now();
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal);
    return ended(child);
  };
  const server: RivuletServer = {
    ...addresses(line),
    pid: child.pid as number,
    directory,
    process: child,
    readyAt,
    readyMs,
    output: () => said.join('\n'),
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGKILL');
      await own?.[Symbol.asyncDispose]();
      const stalls = watch.length > 0 ? stallsOf(server, BESIDE_OTHERS_MS) : [];
      if (stalls.length > 0) throw new Error(`turns of the server's loop took ${stalls} ms`);
    },
  };
  return server;
}

function addresses(line: string): { host: string; port: number; httpPort: number } {
  let port = 0;
  let httpPort = 0;
  for (const [, scheme, found] of line.matchAll(
    /(?:(\w+):\/\/)?(?:\d+\.\d+\.\d+\.\d+|localhost):(\d+)/g,
  )) {
    if (scheme === 'http') httpPort = Number(found);
    else if (port === 0) port = Number(found);
  }
  if (port === 0) throw new Error(`no address in the ready line: ${line}`);
  return { host: '127.0.0.1', port, httpPort };
}

function readyLine(child: ChildProcess, said: string[], timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(new Error(`rivulet ${reason}\n${said.join('\n')}`));
    };
    const timer = setTimeout(() => fail(`was not ready after ${timeoutMs} ms`), timeoutMs);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) => fail(`ended with ${code ?? signal} before it was ready`));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream as NodeJS.ReadableStream }).on('line', (line) => {
        said.push(line);
        if (said.length > 500) said.shift();
        if (!/\bready\b/i.test(line) || !/:\d+/.test(line)) return;
        clearTimeout(timer);
        resolve(line);
      });
    }
  });
}
