/** Real etcd servers of the machine's own, for one test file. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { ServerProcess, started } from './server-process.ts';

export class EtcdNode extends ServerProcess {
  readonly port: number;
  readonly #peerPort: number;

  constructor(port: number, peerPort: number) {
    super('etcd', 30_000);
    this.port = port;
    this.#peerPort = peerPort;
  }

  get url(): string {
    return `etcd://127.0.0.1:${this.port}`;
  }

  protected spawn(): ChildProcess {
    const client = `http://127.0.0.1:${this.port}`;
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const args = [
      '--name=test',
      `--data-dir=${join(this.folder, 'data')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=test=${peer}`,
    ];
    const env = { PATH: process.env.PATH ?? '' };
    return startChild('etcd', args, { stdio: ['ignore', 'ignore', 'pipe'], env });
  }

  protected async isReady(): Promise<boolean> {
    const reply = await fetch(`http://127.0.0.1:${this.port}/health`).catch(() => null);
    if (reply?.status !== 200) return false;
    return ((await reply.json()) as { health?: unknown }).health === 'true';
  }
}

export async function startEtcd(): Promise<EtcdNode> {
  return started(new EtcdNode(await freePort(), await freePort()));
}
