/** A real ZooKeeper server of the machine's own, for one test file: Debian's jars and the machine's Java. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { ServerProcess, started } from './server-process.ts';

export class ZookeeperNode extends ServerProcess {
  readonly port: number;

  constructor(port: number) {
    super('zookeeper', 60_000);
    this.port = port;
  }

  protected spawn(): ChildProcess {
    const data = join(this.folder, 'data');
    mkdirSync(data, { recursive: true });
    const settings = [
      'tickTime=500',
      `dataDir=${data}`,
      'clientPortAddress=127.0.0.1',
      `clientPort=${this.port}`,
      'admin.enableServer=false',
      '4lw.commands.whitelist=ruok,srvr',
      'maxClientCnxns=0',
    ];
    const file = join(this.folder, 'zoo.cfg');
    writeFileSync(file, `${settings.join('\n')}\n`);
    const main = 'org.apache.zookeeper.server.quorum.QuorumPeerMain';
    const args = ['-Xmx128m', '-cp', '/usr/share/java/*', main, file];
    return startChild('java', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  }

  /** The four letters that ask a server whether it serves. */
  protected isReady(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.port, '127.0.0.1');
      let reply = '';
      socket.setTimeout(1000, () => socket.destroy());
      socket.on('connect', () => socket.write('srvr'));
      socket.on('data', (bytes) => {
        reply += bytes;
      });
      socket.on('error', () => resolve(false));
      socket.on('close', () => resolve(reply.includes('Mode:')));
    });
  }
}

export async function startZookeeper(): Promise<ZookeeperNode> {
  return started(new ZookeeperNode(await freePort()));
}
