/**
 * Real nats-servers of the machine's own with JetStream: one, or a cluster, for one test file.
 *
 * Every node keeps its ports and its data over a kill; all end with the test.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ended, startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const READY_MS = 30_000;

interface Ports {
  readonly client: number;
  readonly route: number;
  readonly monitor: number;
}

export class NatsNode {
  readonly name: string;
  readonly port: number;
  readonly #monitor: number;
  readonly #config: string;
  readonly #store: string;
  #child: ChildProcess | null = null;

  constructor(name: string, directory: string, ports: Ports, config: readonly string[]) {
    this.name = name;
    this.port = ports.client;
    this.#monitor = ports.monitor;
    this.#config = join(directory, `${name}.conf`);
    this.#store = join(directory, name);
    const lines = [
      `server_name: ${name}`,
      `listen: "127.0.0.1:${ports.client}"`,
      `http: "127.0.0.1:${ports.monitor}"`,
      'max_payload: 16777216',
      `jetstream { store_dir: "${this.#store}", max_mem: 256MB, max_file: 4GB }`,
    ];
    writeFileSync(this.#config, [...lines, ...config].join('\n'));
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Where its monitoring pages are. */
  get monitor(): string {
    return `http://127.0.0.1:${this.#monitor}`;
  }

  async start(): Promise<void> {
    const child = startChild('nats-server', ['-c', this.#config], {
      // Debian's package keeps it where the PATH of an ordinary user does not look.
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    });
    this.#child = child;
    await ready(child);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    child.kill('SIGKILL');
    await ended(child);
  }

  async connections(): Promise<number> {
    const reply = await fetch(`http://127.0.0.1:${this.#monitor}/connz`);
    return ((await reply.json()) as { num_connections: number }).num_connections;
  }

  /**
   * The directories of streams that this node has, those of streams that it is deleting included. A new
   * directory of the same name is another text.
   */
  streamDirectories(): readonly string[] {
    const streams = join(this.#store, 'jetstream', '$G', 'streams');
    const names = existsSync(streams) ? readdirSync(streams) : [];
    return names.flatMap((name) => {
      const path = join(streams, name);
      const facts = statSync(path, { throwIfNoEntry: false });
      return facts === undefined ? [] : [`${path} ${facts.ino} ${facts.birthtimeMs}`];
    });
  }

  /** Whether JetStream answers: in a cluster only once it has a leader. */
  async isHealthy(): Promise<boolean> {
    const reply = await fetch(`http://127.0.0.1:${this.#monitor}/healthz`).catch(() => null);
    return reply?.status === 200;
  }
}

export async function startNats(
  count = 1,
  more: readonly string[] = [],
): Promise<{ readonly nodes: readonly NatsNode[] } & AsyncDisposable> {
  const directory = temporaryDirectory('nats');
  const ports: Ports[] = [];
  for (let index = 0; index < count; index++) {
    ports.push({
      client: await freePort(),
      route: await freePort(),
      monitor: await freePort(),
    });
  }
  const routes = ports.map(({ route }) => `"nats://127.0.0.1:${route}"`).join(', ');
  const nodes = ports.map((each, index) => {
    const cluster = `cluster { name: rivulet, listen: "127.0.0.1:${each.route}", routes: [${routes}] }`;
    const config = count > 1 ? [cluster, ...more] : more;
    return new NatsNode(`node${index + 1}`, directory.path, each, config);
  });
  const end = async () => {
    await Promise.all(nodes.map((node) => node.kill()));
    await directory[Symbol.asyncDispose]();
  };
  try {
    await Promise.all(nodes.map((node) => node.start()));
    const deadline = Date.now() + READY_MS;
    for (const node of nodes) {
      while (!(await node.isHealthy())) {
        if (Date.now() > deadline) throw new Error(`${node.name} has no JetStream leader`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  } catch (error) {
    await end();
    throw error;
  }
  return { nodes, [Symbol.asyncDispose]: end };
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const said: string[] = [];
    const fail = (reason: string) => {
      clearTimeout(timer);
      reject(new Error(`nats-server ${reason}\n${said.join('\n')}`));
    };
    const timer = setTimeout(() => fail(`was not ready after ${READY_MS} ms`), READY_MS);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`ended with ${code} before it was ready`));
    child.stdout?.resume();
    const lines = createInterface({ input: child.stderr as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      if (said.length < 100) said.push(line);
      if (!line.includes('Server is ready')) return;
      clearTimeout(timer);
      resolve();
    });
  });
}
