/** Real etcd servers of the machine's own, for one test file. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { ServerProcess, started } from './server-process.ts';

export class EtcdNode extends ServerProcess {
  readonly port: number;
  readonly #peerPort: number;
  /** By which peers reach each member of the cluster, the first is this one's. */
  readonly #peers: readonly number[];

  constructor(port: number, peerPort: number, peers: readonly number[] = [peerPort]) {
    super('etcd', 60_000);
    this.port = port;
    this.#peerPort = peerPort;
    this.#peers = peers;
  }

  get url(): string {
    return `etcd://127.0.0.1:${this.port}`;
  }

  protected spawn(): ChildProcess {
    const client = `http://127.0.0.1:${this.port}`;
    const [own = 0] = this.#peers;
    const cluster = this.#peers.map((port) => `test-${port}=http://127.0.0.1:${port}`);
    const args = [
      `--name=test-${own}`,
      `--data-dir=${join(this.folder, 'data')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=http://127.0.0.1:${this.#peerPort}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${own}`,
      `--initial-cluster=${cluster.join()}`,
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
