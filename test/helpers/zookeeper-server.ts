/**
 * A real ZooKeeper server of the machine's own, for one test file: Debian's jars and the machine's Java.
 *
 * It keeps its port and its data over a kill and ends with the test.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { ended, standStill, startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const READY_MS = 60_000;
export class ZookeeperNode implements AsyncDisposable {
  readonly port: number;
  readonly #directory = temporaryDirectory('zookeeper');
  #child: ChildProcess | null = null;

  constructor(port: number) {
    this.port = port;
  }

  async start(): Promise<void> {
    const { path } = this.#directory;
    mkdirSync(join(path, 'data'), { recursive: true });
    const settings = [
      'tickTime=500',
      `dataDir=${join(path, 'data')}`,
      'clientPortAddress=127.0.0.1',
      `clientPort=${this.port}`,
      'admin.enableServer=false',
      '4lw.commands.whitelist=ruok,srvr',
      'maxClientCnxns=0',
    ];
    writeFileSync(join(path, 'zoo.cfg'), `${settings.join('\n')}\n`);
    const child = startChild(
      'java',
      [
        '-Xmx128m',
        '-cp',
        '/usr/share/java/*',
        'org.apache.zookeeper.server.quorum.QuorumPeerMain',
        join(path, 'zoo.cfg'),
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#child = child;
    const said: string[] = [];
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (said.length < 200) said.push(text);
    });
    const deadline = Date.now() + READY_MS;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || Date.now() > deadline) {
        await this.kill();
        throw new Error(`zookeeper was not ready\n${said.join('')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
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
    await this.kill();
    await this.#directory[Symbol.asyncDispose]();
  }

  /** The four letters that ask a server whether it serves. */
  #isReady(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.port, '127.0.0.1');
      let said = '';
      socket.setTimeout(1000, () => socket.destroy());
      socket.on('connect', () => socket.write('srvr'));
      socket.on('data', (bytes) => {
        said += bytes;
      });
      socket.on('error', () => resolve(false));
      socket.on('close', () => resolve(said.includes('Mode:')));
    });
  }
}

export async function startZookeeper(): Promise<ZookeeperNode> {
  const node = new ZookeeperNode(await freePort());
  await node.start();
  return node;
}
