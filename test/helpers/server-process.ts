/**
 * A real server that a test file starts: it keeps its port and its data over a kill, and ends with the test.
 */
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ended, standStill } from './children.ts';
import { temporaryDirectory } from './temporary-directory.ts';

export abstract class ServerProcess implements AsyncDisposable {
  readonly #name: string;
  readonly #readyMs: number;
  readonly #directory: ReturnType<typeof temporaryDirectory>;
  #child: ChildProcess | null = null;

  constructor(name: string, readyMs: number) {
    this.#name = name;
    this.#readyMs = readyMs;
    this.#directory = temporaryDirectory(name);
  }

  /** For its settings; its data are in `data` below. */
  protected get folder(): string {
    return this.#directory.path;
  }

  /** Its errors are piped. */
  protected abstract spawn(): ChildProcess;
  protected abstract isReady(): Promise<boolean>;

  async start(): Promise<void> {
    const child = this.spawn();
    this.#child = child;
    const errors: string[] = [];
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (errors.length < 200) errors.push(text);
    });
    const deadline = Date.now() + this.#readyMs;
    while (!(await this.isReady())) {
      if (child.exitCode !== null || Date.now() > deadline) {
        await this.kill();
        throw new Error(`${this.#name} was not ready\n${errors.join('')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    child.kill('SIGKILL');
    await ended(child);
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.#child === null) return;
    if (name === 'SIGSTOP') standStill(this.#child);
    else this.#child.kill(name);
  }

  /** Starts it again without its data. */
  async empty(): Promise<void> {
    await this.kill();
    rmSync(join(this.folder, 'data'), { recursive: true, force: true });
    await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child?.kill('SIGCONT');
    await this.kill();
    await this.#directory[Symbol.asyncDispose]();
  }
}

/** Starts it; one that does not start leaves nothing behind. */
export async function started<T extends ServerProcess>(server: T): Promise<T> {
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}
