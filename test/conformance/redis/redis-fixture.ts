/**
 * Real Redis servers for the suite: one, or a cluster of three with a replica each.
 *
 * Every server keeps its port and its data over a kill, so that clients find it again. The single
 * one syncs every write, so what it acknowledged must be there after the kill.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import { FaultyProxy, type Fixture } from '../../../src/conformance/index.ts';
import { ended, startChild } from '../../helpers/children.ts';
import { freePort } from '../../helpers/free-port.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';

export class Node {
  readonly port: number;
  readonly #directory: string;
  readonly #args: readonly string[];
  #child: ChildProcess | null = null;

  constructor(port: number, directory: string, args: readonly string[]) {
    this.port = port;
    this.#directory = directory;
    this.#args = args;
    mkdirSync(directory, { recursive: true });
  }

  async start(): Promise<void> {
    const own = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.#directory];
    const child = startChild('redis-server', [...own, '--save', '', ...this.#args]);
    this.#child = child;
    child.stdout?.resume();
    const client = new Redis(this.port, { lazyConnect: true, retryStrategy: () => 20 });
    client.on('error', () => {});
    try {
      await client.connect().catch(() => {});
      while (child.exitCode === null) {
        if ((await client.ping().catch(() => '')) === 'PONG') return;
      }
      throw new Error(`redis-server on port ${this.port} ended with ${child.exitCode}`);
    } finally {
      client.disconnect();
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    child.kill('SIGKILL');
    await ended(child);
  }

  /** One command on a connection of its own. */
  async ask(...command: [string, ...string[]]): Promise<unknown> {
    const client = new Redis(this.port);
    client.on('error', () => {});
    try {
      const [name, ...args] = command;
      return await client.call(name, ...args);
    } finally {
      client.disconnect();
    }
  }

  async connections(): Promise<number> {
    const list = String(await this.ask('CLIENT', 'LIST', 'TYPE', 'normal'));
    const listening = String(await this.ask('CLIENT', 'LIST', 'TYPE', 'pubsub'));
    const count = (lines: string) => lines.split('\n').filter((line) => line !== '').length;
    // The asking connection is one of them.
    return count(list) - 1 + count(listening);
  }
}

export async function redisFixture(): Promise<Fixture> {
  const directory = temporaryDirectory('redis');
  const node = new Node(await freePort(), directory.path, [
    '--appendonly',
    'yes',
    '--appendfsync',
    'always',
  ]);
  await node.start();
  const url = `redis://127.0.0.1:${node.port}`;
  return {
    url,
    open: (options) => openBroker(url, options),
    async behindProxy() {
      const proxy = await FaultyProxy.start(node.port);
      const open = (options?: Partial<BrokerOptions>) =>
        openBroker(`redis://127.0.0.1:${proxy.port}`, options);
      return { proxy, open };
    },
    kill: () => node.kill(),
    start: () => node.start(),
    async flush() {
      await node.ask('FLUSHALL');
    },
    async occupy(topic) {
      await node.ask('SET', topic, 'no topic');
      return async () => {
        await node.ask('DEL', topic);
      };
    },
    connections: () => node.connections(),
    async [Symbol.asyncDispose]() {
      await node.kill();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** The cluster bus of a node listens on the port that is this much above its own. */
const ABOVE_FOR_BUS = 10_000;

/** A cluster of three masters, each with that many replicas. */
export async function startRedisCluster(
  replicas: 0 | 1,
  args: readonly string[] = [],
): Promise<
  { readonly nodes: readonly Node[]; readonly urls: readonly string[] } & AsyncDisposable
> {
  const directory = temporaryDirectory('redis-cluster');
  const ports: number[] = [];
  while (ports.length < 3 + 3 * replicas) ports.push(await freePort(ABOVE_FOR_BUS));
  const nodes = ports.map(
    (port) =>
      new Node(port, join(directory.path, `${port}`), [
        '--cluster-enabled',
        'yes',
        '--cluster-node-timeout',
        '1500',
        '--repl-diskless-sync-delay',
        '0',
        ...args,
      ]),
  );
  await Promise.all(nodes.map((node) => node.start()));
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  const created = spawnSync(
    'redis-cli',
    ['--cluster', 'create', ...addresses, '--cluster-replicas', `${replicas}`, '--cluster-yes'],
    { encoding: 'utf8', timeout: 60_000 },
  );
  if (created.status !== 0) throw new Error(`no cluster: ${created.stdout}${created.stderr}`);
  await agreed(nodes, 3 * replicas);
  return {
    nodes,
    urls: addresses.map((address) => `redis://${address}`),
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node.kill()));
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** The node that has a key's slot, as another node knows it. */
export async function ownerOf(key: string, witness: Node, nodes: readonly Node[]): Promise<Node> {
  const slot = Number(await witness.ask('CLUSTER', 'KEYSLOT', key));
  const slots = (await witness.ask('CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
  const owner = slots.find(([from, to]) => from <= slot && slot <= to);
  return nodes.find(({ port }) => port === owner?.[2][1]) as Node;
}

export async function redisClusterFixture(): Promise<Fixture> {
  const cluster = await startRedisCluster(1);
  const { nodes, urls } = cluster;
  const alive = new Set(nodes);
  return {
    url: urls.join(','),
    open: (options) => openBroker(urls, options),
    async killNodeOf(topic) {
      const node = await ownerOf(topic, [...alive][0] as Node, nodes);
      alive.delete(node);
      await node.kill();
      return undefined;
    },
    async occupy(topic) {
      // Nodes that do not have the key refuse.
      const onOwner = async (...command: [string, ...string[]]) => {
        for (const node of alive) {
          const done = await node.ask(...command).then(
            () => true,
            () => false,
          );
          if (done) return;
        }
        throw new Error(`no node takes ${command.join(' ')}`);
      };
      await onOwner('SET', topic, 'no topic');
      return () => onOwner('DEL', topic);
    },
    async flush() {
      for (const node of alive) await node.ask('FLUSHALL').catch(() => {});
    },
    [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
  };
}

/** Every node says that the cluster works, and every replica has what its master has. */
async function agreed(nodes: readonly Node[], replicas: number): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const infos = await Promise.all(nodes.map((node) => node.ask('CLUSTER', 'INFO')));
    const roles = await Promise.all(nodes.map((node) => node.ask('INFO', 'replication')));
    const synced = roles.filter((role) => /master_link_status:up/.test(String(role))).length;
    if (infos.every((info) => /cluster_state:ok/.test(String(info))) && synced === replicas) {
      return;
    }
    if (Date.now() > deadline) throw new Error(`the cluster does not agree: ${infos}${roles}`);
  }
}
