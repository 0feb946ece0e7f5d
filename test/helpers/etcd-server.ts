/**
 * Real etcd servers of the machine's own, for one test file.
 *
 * A server keeps its ports and its data over a kill and ends with the test.
 */
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ended, standStill, startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const READY_MS = 30_000;

export class EtcdNode implements AsyncDisposable {
  readonly port: number;
  readonly #peerPort: number;
  readonly #directory: ReturnType<typeof temporaryDirectory>;
  #child: ChildProcess | null = null;

  constructor(port: number, peerPort: number) {
    this.port = port;
    this.#peerPort = peerPort;
    this.#directory = temporaryDirectory('etcd');
  }

  get url(): string {
    return `etcd://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const client = `http://127.0.0.1:${this.port}`;
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const child = startChild(
      'etcd',
      [
        '--name=test',
        `--data-dir=${join(this.#directory.path, 'data')}`,
        `--listen-client-urls=${client}`,
        `--advertise-client-urls=${client}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=test=${peer}`,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env.PATH ?? '' } },
    );
    this.#child = child;
    const said: string[] = [];
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (said.length < 200) said.push(text);
    });
    const deadline = Date.now() + READY_MS;
    while (!(await this.#isHealthy())) {
      if (child.exitCode !== null || Date.now() > deadline) {
        await this.kill();
        throw new Error(`etcd was not ready\n${said.join('')}`);
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
    rmSync(join(this.#directory.path, 'data'), { recursive: true, force: true });
    await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child?.kill('SIGCONT');
    await this.kill();
    await this.#directory[Symbol.asyncDispose]();
  }

  async #isHealthy(): Promise<boolean> {
    const reply = await fetch(`http://127.0.0.1:${this.port}/health`).catch(() => null);
    if (reply?.status !== 200) return false;
    return ((await reply.json()) as { health?: unknown }).health === 'true';
  }
}

export async function startEtcd(): Promise<EtcdNode> {
  const node = new EtcdNode(await freePort(), await freePort());
  try {
    await node.start();
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  return node;
}
