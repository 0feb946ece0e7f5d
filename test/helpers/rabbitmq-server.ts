/**
 * Real RabbitMQ nodes of the machine's own package: one, or a cluster, for the tests of one file.
 *
 * Every node has a name, ports and directories of its own, all nodes of one call a port mapper of
 * their own too, so an installed service is never touched. A node keeps its port and its data over a
 * kill. The Erlang machine is a grandchild: each node is a process group, ended as one, also when
 * the tests fail or are interrupted.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ended, runTool, startChild } from './children.ts';
import { freePort } from './free-port.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const TOOLS = '/usr/lib/rabbitmq/bin';
const READY_MS = 90_000;
/**
 * As the adapter's README advises. RabbitMQ would try again only after three minutes to move an expired
 * message whose target queue had no leader.
 */
const ADVANCED = '[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].';

const groups = new Set<number>();

process.on('exit', () => {
  for (const leader of groups) killGroup(leader);
});

export class RabbitMqNode {
  readonly port: number;
  readonly name: string;
  readonly #directory: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #user: { uid?: number; gid?: number };
  #child: ChildProcess | null = null;

  constructor(
    port: number,
    directory: string,
    env: NodeJS.ProcessEnv,
    config: readonly string[],
    plugins: readonly string[],
  ) {
    this.port = port;
    this.name = nodeName(port);
    this.#directory = directory;
    this.#user = rabbitUser();
    const file = join(directory, `${port}.conf`);
    const lines = [`listeners.tcp.1 = 127.0.0.1:${port}`, 'log.console = true', 'log.file = false'];
    writeFileSync(
      file,
      [...lines, 'vm_memory_high_watermark.absolute = 1GB', ...config].join('\n'),
    );
    const data = join(directory, String(port));
    mkdirSync(data);
    writeFileSync(join(data, 'plugins'), `[${plugins.join(',')}].`);
    writeFileSync(join(data, 'advanced.config'), ADVANCED);
    for (const name of ['', 'plugins', 'advanced.config']) own(join(data, name), this.#user);
    own(file, this.#user);
    this.#env = {
      ...env,
      RABBITMQ_NODENAME: this.name,
      RABBITMQ_NODE_PORT: `${port}`,
      RABBITMQ_MNESIA_BASE: join(data, 'mnesia'),
      RABBITMQ_LOG_BASE: join(data, 'log'),
      RABBITMQ_FEATURE_FLAGS_FILE: join(data, 'feature-flags'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(data, 'plugins'),
      RABBITMQ_CONFIG_FILE: file,
      RABBITMQ_ADVANCED_CONFIG_FILE: join(data, 'advanced.config'),
      RABBITMQ_GENERATED_CONFIG_DIR: join(data, 'generated'),
      RABBITMQ_PID_FILE: join(data, 'pid'),
      // One scheduler that does not spin: the tests share the machine.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1 +sbwt none',
    };
  }

  get url(): string {
    return `amqp://guest:guest@127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const env = { ...this.#env, RABBITMQ_DIST_PORT: `${await freePort()}` };
    const options = { env, cwd: this.#directory, detached: true, ...this.#user };
    const child = startChild(join(TOOLS, 'rabbitmq-server'), [], options);
    this.#child = child;
    if (child.pid !== undefined) groups.add(child.pid);
    await ready(child);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    killGroup(child.pid as number);
    await ended(child);
    groups.delete(child.pid as number);
  }

  /** The value of an Erlang expression, as printed. */
  async evaluate(expression: string): Promise<string> {
    const options = { env: this.#env, cwd: this.#directory, ...this.#user };
    const args = ['-n', this.name, '--quiet', 'eval', expression];
    const { code, stdout, stderr } = await runTool(join(TOOLS, 'rabbitmqctl'), args, options);
    if (code !== 0) throw new Error(`rabbitmqctl eval ended with ${code}: ${stdout}${stderr}`);
    return stdout.trim();
  }
}

/** Nodes that are ready and, when there are several, one cluster; config and plugins are for each. */
export async function startRabbitMq(
  count = 1,
  config: readonly string[] = [],
  plugins: readonly string[] = [],
): Promise<{ readonly nodes: readonly RabbitMqNode[] } & AsyncDisposable> {
  const directory = temporaryDirectory('rabbitmq');
  const user = rabbitUser();
  const cookie = join(directory.path, '.erlang.cookie');
  writeFileSync(cookie, 'rivulet-test', { mode: 0o400 });
  own(directory.path, user);
  own(cookie, user);
  const mapperPort = await freePort();
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    LANG: 'C.UTF-8',
    HOME: directory.path,
    ERL_EPMD_PORT: `${mapperPort}`,
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
  };
  const mapper = startChild('epmd', ['-port', `${mapperPort}`], { env, ...user });
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  const nodes = [...ports].map(
    (port, index) =>
      new RabbitMqNode(
        port,
        directory.path,
        env,
        [...config, ...(index === 0 ? [] : joining(ports))],
        plugins,
      ),
  );
  const end = async () => {
    await Promise.all(nodes.map((node) => node.kill()));
    mapper.kill('SIGKILL');
    await ended(mapper);
    await directory[Symbol.asyncDispose]();
  };
  try {
    // A node that joins while the first one enables its feature flags may find tables that do not fit.
    const [first, ...others] = nodes;
    await first?.start();
    await Promise.all(others.map((node) => node.start()));
    const known = Number(await nodes[0]?.evaluate('length(rabbit_nodes:all_running()).'));
    if (known !== count) throw new Error(`${known} of ${count} RabbitMQ nodes are one cluster`);
  } catch (error) {
    await end();
    throw error;
  }
  return { nodes, [Symbol.asyncDispose]: end };
}

/** The others look for the first node until it is there; the first one looks for none. */
function joining([first = 0]: Iterable<number>): string[] {
  return [
    'cluster_formation.peer_discovery_backend = classic_config',
    `cluster_formation.classic_config.nodes.1 = ${nodeName(first)}`,
    `cluster_formation.discovery_retry_limit = ${READY_MS / 250}`,
    'cluster_formation.discovery_retry_interval = 250',
  ];
}

function nodeName(port: number): string {
  return `rivulet-${port}@localhost`;
}

/** RabbitMQ does not run as root: then it runs as the user that its package made. */
function rabbitUser(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const ask = (what: string) =>
    Number(execFileSync('id', [what, 'rabbitmq'], { encoding: 'utf8' }));
  return { uid: ask('-u'), gid: ask('-g') };
}

function own(path: string, { uid, gid }: { uid?: number; gid?: number }): void {
  if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid);
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    const timer = setTimeout(() => fail(`was not ready after ${READY_MS} ms`), READY_MS);
    const fail = (reason: string) => {
      clearTimeout(timer);
      reject(new Error(`rabbitmq-server ${reason}\n${said.slice(-4000)}`));
    };
    const hear = (text: string) => {
      said = (said + text).slice(-20_000);
      if (!said.includes('Server startup complete')) return;
      clearTimeout(timer);
      resolve();
    };
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`ended with ${code} before it was ready`));
    child.stdout?.setEncoding('utf8').on('data', hear);
    child.stderr?.setEncoding('utf8').on('data', hear);
  });
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
