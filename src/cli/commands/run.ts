/**
 * `micro run FILE...`: services side by side, restarted when their files change.
 *
 * Invariants: each line of a service's output carries its name; a service that ends by itself is started
 * again after a pause that doubles up to 10 s; Ctrl-C ends all in order (SIGTERM, then SIGKILL after
 * 10 s), and no child outlives this process. Cost: one process and one watcher for each service.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, type FSWatcher, statSync, watch } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { printable, printableJson } from '../../util/printable.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { aborted, interrupted } from '../interrupt.ts';

interface Flags {
  readonly watch: boolean;
  readonly once?: boolean;
  readonly json?: boolean;
}

/** What `--json` prints, one object a line: a line of a service, or what this command says of it. */
interface RunLine {
  readonly service: string;
  readonly from: 'stdout' | 'stderr' | 'micro';
  readonly text: string;
}

const TOGETHER_MS = 200;
const MIN_PAUSE_MS = 500;
const MAX_PAUSE_MS = 10_000;
const KILL_MS = 10_000;
const IGNORED = /(^|[/\\])(node_modules|\.git|data)([/\\]|$)/;

export function runCommand(): Command {
  const command = new Command('run')
    .description('run services side by side, and restart them when their files change')
    .argument('<files...>', 'programs for Node, each a service: dist/service.js dist/worker.js')
    .option('--no-watch', 'do not restart when files change')
    .option('--once', 'end with the first service that ends, with its exit code')
    .option('--json', 'print JSON, one object a line')
    .action(run);
  return withExamples(command, [
    {
      line: `printf 'console.log("hello")' > hello.mjs && micro run --once hello.mjs`,
      says: 'one program, until it ends',
    },
  ]);
}

async function run(files: string[], flags: Flags): Promise<void> {
  for (const file of files) {
    if (!existsSync(file) || !statSync(file).isFile()) throw usage(`there is no file ${file}`);
  }
  const names = files.map((file) => basename(file).replace(/\.[cm]?js$/, ''));
  const width = Math.max(...names.map((name) => name.length));
  const print = ({ service, from, text }: RunLine) => {
    const said = from === 'micro' ? `micro: ${printable(text)}` : text;
    const line = flags.json
      ? printableJson(JSON.stringify({ service, from, text }))
      : `${service.padEnd(width)} | ${said}`;
    process.stdout.write(`${line}\n`);
  };
  const interrupt = interrupted();
  const ended = new AbortController();
  const onEnd = (code: number) => {
    if (!flags.once || ended.signal.aborted) return;
    process.exitCode = code;
    ended.abort();
  };
  const services = files.map(
    (file, index) => new RunningService(file, names[index] as string, flags, print, onEnd),
  );
  process.on('exit', () => {
    for (const service of services) service.kill();
  });
  for (const service of services) service.start();
  await Promise.race([aborted(interrupt), aborted(ended.signal)]);
  await Promise.all(services.map((service) => service.stop()));
}

class RunningService {
  readonly #file: string;
  readonly #name: string;
  readonly #flags: Flags;
  readonly #print: (line: RunLine) => void;
  readonly #onEnd: (code: number) => void;
  #child: ChildProcess | null = null;
  #watcher: FSWatcher | null = null;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = MIN_PAUSE_MS;
  #isStopping = false;
  #isRestarting = false;

  constructor(
    file: string,
    name: string,
    flags: Flags,
    print: (line: RunLine) => void,
    onEnd: (code: number) => void,
  ) {
    this.#file = resolve(file);
    this.#name = name;
    this.#flags = flags;
    this.#print = print;
    this.#onEnd = onEnd;
  }

  start(): void {
    this.#spawn();
    if (!this.#flags.watch || this.#flags.once) return;
    try {
      this.#watcher = watch(dirname(this.#file), { recursive: true }, (_event, name) => {
        if (name !== null && !IGNORED.test(name)) this.#changed(name);
      });
      this.#watcher.on('error', (error) => this.#say(`files are not watched: ${error.message}`));
    } catch (error) {
      this.#say(`files are not watched: ${(error as Error).message}`);
    }
  }

  /** Ends it in order. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
    await this.#end();
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  #spawn(): void {
    const child = spawn(process.execPath, [this.#file], { stdio: ['ignore', 'pipe', 'pipe'] });
    const startedAt = performance.now();
    this.#child = child;
    for (const from of ['stdout', 'stderr'] as const) {
      createInterface({ input: child[from] as NodeJS.ReadableStream }).on('line', (text) =>
        this.#print({ service: this.#name, from, text }),
      );
    }
    child.once('error', (error) => this.#say(`cannot be started: ${error.message}`));
    child.once('close', (code, signal) => {
      this.#child = null;
      if (this.#isStopping || this.#isRestarting) return;
      this.#say(`ended with ${code ?? signal}`);
      this.#onEnd(code ?? 1);
      if (this.#flags.once) return;
      if (performance.now() - startedAt > MAX_PAUSE_MS) this.#pauseMs = MIN_PAUSE_MS;
      this.#timer = setTimeout(() => this.#spawn(), this.#pauseMs);
      this.#pauseMs = Math.min(MAX_PAUSE_MS, this.#pauseMs * 2);
    });
  }

  #changed(name: string): void {
    if (this.#isStopping) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // While the old process ends, the next one has not read the files yet.
      if (!this.#isRestarting) void this.#restart(name);
    }, TOGETHER_MS);
  }

  async #restart(name: string): Promise<void> {
    this.#say(`${name} changed: restarting`);
    this.#pauseMs = MIN_PAUSE_MS;
    this.#isRestarting = true;
    await this.#end();
    this.#isRestarting = false;
    if (!this.#isStopping) this.#spawn();
  }

  #end(): Promise<void> {
    const child = this.#child;
    if (child === null) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), KILL_MS);
      child.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      child.kill('SIGTERM');
    });
  }

  #say(text: string): void {
    this.#print({ service: this.#name, from: 'micro', text });
  }
}
