/**
 * A process that is stopped for longer than its node's TTL: its node goes, and is there again when it goes
 * on; what changed meanwhile reaches its own watch, also where the registry has dropped the changes.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { RegistryEvent, ServiceRecord } from '../../src/registry/registry.ts';
import { ended, standStill, startChild } from '../helpers/children.ts';
import { startEtcd } from '../helpers/etcd-server.ts';
import { startNats } from '../helpers/nats-server.ts';
import { missing } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';

const script = fileURLToPath(new URL('./models/registered-process.js', import.meta.url));

interface Server extends AsyncDisposable {
  readonly url: string;
  /** Drops its history of changes. */
  forget(): Promise<void>;
}

const SERVERS: Readonly<Record<string, () => Promise<Server>>> = {
  async etcd() {
    const node = await startEtcd();
    const post = async (path: string, body: object) => {
      const reply = await fetch(`http://127.0.0.1:${node.port}/v3/kv/${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
      });
      assert.equal(reply.status, 200);
      return (await reply.json()) as { header: { revision: string } };
    };
    return {
      url: node.url,
      async forget() {
        const { revision } = (await post('range', { key: 'AA==' })).header;
        await post('compaction', { revision });
      },
      [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
    };
  },
  async nats() {
    const server = await startNats();
    return {
      url: server.nodes[0]?.url as string,
      forget: async () => {},
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
};

for (const [name, start] of Object.entries(SERVERS)) {
  test(`${name}: the node of a stopped process goes and comes back, and its watch misses nothing`, {
    skip: missing(name === 'etcd' ? 'etcd' : 'nats-server'),
  }, async () => {
    await using server = await start();
    await using registry = await openRegistry(server.url);
    const events = registry.watch('stopped')[Symbol.asyncIterator]();
    await registry.listServices();
    const child = startChild(process.execPath, [script, server.url]);
    const lines = linesOf(child);
    try {
      assert.equal(await next(events), 'create stopped-1');
      await until(() => lines.includes('create stopped-1'));
      standStill(child);
      assert.equal(await next(events), 'delete stopped-1');
      await registry.register(recordOf('gone'), { ttlMs: 60_000 });
      await registry.deregister(recordOf('gone'));
      await registry.register(recordOf('other'), { ttlMs: 60_000 });
      await server.forget();
      child.kill('SIGCONT');
      assert.equal(await next(events), 'create stopped-1');
      await until(() => lines.includes('create other'));
      // What is gone is no node of its view, whether it heard of it or not.
      const came = lines.lastIndexOf('create gone');
      assert.ok(came < 0 || lines.lastIndexOf('delete gone') > came, lines.join(', '));
    } finally {
      child.kill('SIGKILL');
      await ended(child);
    }
  });
}

function linesOf(child: ChildProcess): string[] {
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  reader.on('line', (line) => lines.push(line));
  child.stderr?.resume();
  return lines;
}

async function next(events: AsyncIterator<RegistryEvent>): Promise<string> {
  const { value } = await events.next();
  return `${value?.action} ${value?.service.nodes[0]?.id}`;
}

function recordOf(id: string): ServiceRecord {
  const nodes = [{ id, address: '127.0.0.1:40002', metadata: {} }];
  return { name: 'others', version: 'latest', metadata: {}, endpoints: [], nodes };
}
