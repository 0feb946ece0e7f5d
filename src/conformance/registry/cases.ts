/**
 * The cases of the registry suite: records, several nodes and versions, expiry, watches, outages.
 *
 * Each case uses service names that no other case has, so that cases are independent of each other
 * and of their order. What has no event is polled every 20 ms.
 */
import assert from 'node:assert/strict';
import type { RegistryEvent, ServiceRecord } from '../../registry/registry.ts';
import type { RegistryCase, RegistryContext } from './registry-case.ts';

const LONG_TTL_MS = 60_000;
const SEEN_MS = 200;

export const registryCases: readonly RegistryCase[] = [
  {
    name: 'a record that was registered is found whole by another process',
    async run(context) {
      const [writer, reader] = [await context.open(), await context.open()];
      const record = context.record(context.serviceName());
      await writer.register(record, { ttlMs: LONG_TTL_MS });
      const found = await until(context, 'the record', async () => {
        const services = await reader.getService(record.name);
        return services.length > 0 ? services : null;
      });
      assert.deepEqual(plain(found), plain([record]));
    },
  },
  {
    name: 'nodes of one version are one record, and each version is a record',
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      await registry.register(context.record(name, 'a'), { ttlMs: LONG_TTL_MS });
      await registry.register(context.record(name, 'b'), { ttlMs: LONG_TTL_MS });
      const next = context.record(name, 'c', { version: '2.0.0' });
      await registry.register(next, { ttlMs: LONG_TTL_MS });
      await until(context, 'three nodes in two versions', async () => {
        const found = await registry.getService(name);
        const nodes = Object.fromEntries(
          found.map(({ version, nodes }) => [version, nodes.map(({ id }) => id).sort()]),
        );
        const wanted = { '1.0.0': [`${name}-a`, `${name}-b`], '2.0.0': [`${name}-c`] };
        return isEqual(nodes, wanted) ? found : null;
      });
    },
  },
  {
    name: 'a service without a node is an empty list',
    async run(context) {
      const registry = await context.open();
      assert.deepEqual(await registry.getService(context.serviceName()), []);
    },
  },
  {
    name: 'listing names every service once per version, and a name that is a prefix of another is apart',
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      const longer = `${name}.more`;
      await registry.register(context.record(name), { ttlMs: LONG_TTL_MS });
      await registry.register(context.record(longer), { ttlMs: LONG_TTL_MS });
      await until(context, 'both in the list', async () => {
        const names = (await registry.listServices()).map((service) => service.name);
        return [name, longer].every((each) => names.filter((one) => one === each).length === 1)
          ? names
          : null;
      });
      const alone = await registry.getService(name);
      assert.deepEqual(
        alone.flatMap(({ nodes }) => nodes.map(({ id }) => id)),
        [`${name}-a`],
      );
    },
  },
  {
    name: 'registering again replaces what the node said before',
    async run(context) {
      const [writer, reader] = [await context.open(), await context.open()];
      const name = context.serviceName();
      const before = context.record(name);
      await writer.register(before, { ttlMs: LONG_TTL_MS });
      const node = {
        ...(before.nodes[0] as ServiceRecord['nodes'][0]),
        address: '127.0.0.1:49999',
      };
      const after = { ...before, version: '1.0.1', nodes: [node] };
      await writer.register(after, { ttlMs: LONG_TTL_MS });
      await until(context, 'the new record alone', async () => {
        const found = await reader.getService(name);
        return isEqual(plain(found), plain([after])) ? found : null;
      });
    },
  },
  {
    name: 'a node that deregistered is gone, its neighbour stays, and doing it twice is no error',
    async run(context) {
      const [first, second] = [await context.open(), await context.open()];
      const name = context.serviceName();
      const [a, b] = [context.record(name, 'a'), context.record(name, 'b')];
      await first.register(a, { ttlMs: LONG_TTL_MS });
      await second.register(b, { ttlMs: LONG_TTL_MS });
      await ids(context, second, name, ['a', 'b']);
      await first.deregister(a);
      await first.deregister(a);
      await ids(context, second, name, ['b']);
      await ids(context, first, name, ['b']);
    },
  },
  {
    name: 'a node that is not renewed is gone within its TTL, and one that is renewed stays',
    uses: ['kill'],
    async run(context) {
      const [dying, living, reader] = [
        await context.open(),
        await context.open(),
        await context.open(),
      ];
      const name = context.serviceName();
      const alive = context.record(name, 'b');
      await dying.register(context.record(name, 'a'), { ttlMs: context.ttlMs });
      await living.register(alive, { ttlMs: context.ttlMs });
      await ids(context, reader, name, ['a', 'b']);
      await context.fixture.kill?.(dying);
      const end = 2 * context.goneWithinMs;
      const step = Math.max(10, context.ttlMs / 3);
      for (let passed = 0; passed < end; passed += step) {
        await pass(context, step);
        await living.register(alive, { ttlMs: context.ttlMs });
      }
      await ids(context, reader, name, ['b']);
    },
  },
  {
    name: 'a watch reports create, update and delete of its service, and of no other',
    async run(context) {
      const [writer, watcher] = [await context.open(), await context.open()];
      const [name, other] = [context.serviceName(), context.serviceName()];
      const stop = new AbortController();
      const events = new EventLog(watcher.watch(name, { signal: stop.signal }));
      // Some registries take a moment to begin: a node that flickers shows when the watch works.
      await settleWatch(context, writer, name, events);
      await writer.register(context.record(other), { ttlMs: LONG_TTL_MS });
      const record = context.record(name, 'b');
      await writer.register(record, { ttlMs: LONG_TTL_MS });
      await events.has(context, 'create', `${name}-b`);
      const changed = {
        ...record,
        nodes: [
          { ...(record.nodes[0] as ServiceRecord['nodes'][0]), metadata: { protocol: 'grpc' } },
        ],
      };
      await writer.register(changed, { ttlMs: LONG_TTL_MS });
      await events.has(context, 'update', `${name}-b`);
      await writer.deregister(changed);
      await events.has(context, 'delete', `${name}-b`);
      stop.abort();
      await events.ended;
      assert.deepEqual([...new Set(events.all.map(({ service }) => service.name))], [name]);
    },
  },
  {
    name: 'a watch of all services reports a service that is new',
    async run(context) {
      const [writer, watcher] = [await context.open(), await context.open()];
      const events = new EventLog(watcher.watch());
      const name = context.serviceName();
      await settleWatch(context, writer, name, events);
      const fresh = context.serviceName();
      await writer.register(context.record(fresh), { ttlMs: LONG_TTL_MS });
      await events.has(context, 'create', `${fresh}-a`);
      await watcher.close();
      await events.ended;
    },
  },
  {
    name: 'a watch reports the node that died',
    uses: ['kill'],
    async run(context) {
      const [dying, watcher] = [await context.open(), await context.open()];
      const name = context.serviceName();
      const events = new EventLog(watcher.watch(name));
      await settleWatch(context, await context.open(), name, events);
      await dying.register(context.record(name, 'd'), { ttlMs: context.ttlMs });
      await events.has(context, 'create', `${name}-d`);
      await context.fixture.kill?.(dying);
      await events.has(context, 'delete', `${name}-d`);
    },
  },
  {
    name: 'after an outage the watch reports what changed meanwhile, and a registered node returns',
    uses: ['stop', 'start'],
    timeoutMs: 90_000,
    async run(context) {
      const [writer, watcher] = [await context.open(), await context.open()];
      const name = context.serviceName();
      const events = new EventLog(watcher.watch(name));
      await settleWatch(context, writer, name, events);
      await writer.register(context.record(name, 'a'), { ttlMs: LONG_TTL_MS });
      await events.has(context, 'create', `${name}-a`);
      await context.fixture.stop?.();
      await context.fixture.start?.();
      await until(context, 'a registration after the outage', async () => {
        try {
          await writer.register(context.record(name, 'e'), { ttlMs: LONG_TTL_MS });
          return true;
        } catch {
          return null;
        }
      });
      await events.has(context, 'create', `${name}-e`);
    },
  },
  {
    name: 'while the registry cannot be reached a read is REGISTRY_UNAVAILABLE, never empty',
    uses: ['stop', 'start'],
    timeoutMs: 90_000,
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      await registry.register(context.record(name), { ttlMs: LONG_TTL_MS });
      await context.fixture.stop?.();
      try {
        await assert.rejects(registry.getService(name), { code: 'REGISTRY_UNAVAILABLE' });
        await assert.rejects(registry.listServices(), { code: 'REGISTRY_UNAVAILABLE' });
      } finally {
        await context.fixture.start?.();
      }
      await until(context, 'an answer after the outage', async () => {
        try {
          return await registry.getService(name);
        } catch {
          return null;
        }
      });
    },
  },
  {
    name: 'a registry that lost its data has the node again after the next renewal',
    uses: ['empty'],
    async run(context) {
      const registry = await context.open();
      const record = context.record(context.serviceName());
      await registry.register(record, { ttlMs: LONG_TTL_MS });
      await context.fixture.empty?.();
      await until(context, 'the node again', async () => {
        await registry.register(record, { ttlMs: LONG_TTL_MS }).catch(() => {});
        const found = await registry.getService(record.name).catch(() => []);
        return found.length > 0 ? found : null;
      });
    },
  },
  {
    name: 'what another program wrote badly hides no good record of the same service',
    uses: ['writeForeign'],
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      const good = context.record(name, 'g');
      await registry.register(good, { ttlMs: LONG_TTL_MS });
      for (const bad of [
        '',
        'not json',
        '{"name":',
        '[]',
        'null',
        '{"name":"x"}',
        `{"name":"${name}","version":"1","nodes":null}`,
        `{"name":"${name}","version":1,"nodes":[{"id":"z","address":"127.0.0.1:1"}]}`,
        `{"name":"${name}","version":"1","nodes":[{"id":"z","address":"javascript:alert(1)"}]}`,
        `{"name":"${name}","version":"1","nodes":[{"id":"z","address":"127.0.0.1:0"}]}`,
        `{"name":"${name}","version":"1","nodes":[{"id":"z","address":"127.0.0.1:99999"}]}`,
      ]) {
        await context.fixture.writeForeign?.(name, Buffer.from(bad));
      }
      await ids(context, registry, name, ['g']);
      await registry.listServices();
    },
  },
  {
    name: 'records with hostile metadata arrive as they were, or are refused at the call',
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      const metadata: Record<string, string> = Object.assign(Object.create(null), {
        ['__proto__']: 'p',
        constructor: 'c',
        'größe 漢字': '🚀\u0000\n"\\',
        empty: '',
      });
      const record = context.record(name, 'a', { metadata });
      await registry.register(record, { ttlMs: LONG_TTL_MS });
      await until(context, 'the metadata', async () => {
        const [found] = await registry.getService(name);
        if (found === undefined) return null;
        assert.deepEqual({ ...found.metadata }, { ...metadata });
        assert.equal(({} as Record<string, unknown>).p, undefined);
        return found;
      });
      for (const bad of [
        { ...record, name: '' },
        { ...record, name: 'a/b' },
        { ...record, name: 'a b' },
        { ...record, name: 'x'.repeat(300) },
        { ...record, nodes: [] },
        { ...record, nodes: [{ id: 'n', address: 'nowhere', metadata: {} }] },
        { ...record, nodes: [{ id: 'n', address: '127.0.0.1:0', metadata: {} }] },
      ]) {
        await assert.rejects(registry.register(bad, { ttlMs: LONG_TTL_MS }), {
          code: 'INVALID_ARGUMENT',
        });
      }
      for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
        await assert.rejects(registry.register(record, { ttlMs }), { code: 'INVALID_ARGUMENT' });
      }
    },
  },
  {
    name: 'a hundred nodes of one service are all found',
    timeoutMs: 90_000,
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      const nodes = Array.from({ length: 100 }, (_, index) => `n${index}`);
      await Promise.all(
        nodes.map((node, index) => {
          const record = context.record(name, node);
          const single = { id: `${name}-${node}`, address: `127.0.0.1:${41_000 + index}` };
          return registry.register(
            { ...record, endpoints: [], nodes: [{ ...single, metadata: {} }] },
            { ttlMs: LONG_TTL_MS },
          );
        }),
      );
      await ids(context, registry, name, nodes);
    },
  },
  {
    name: 'close ends watches, may be called twice, and leaves what was registered',
    async run(context) {
      const [writer, reader] = [await context.open(), await context.open()];
      const record = context.record(context.serviceName());
      await writer.register(record, { ttlMs: LONG_TTL_MS });
      await until(context, 'the record', async () => (await reader.getService(record.name))[0]);
      const events = new EventLog(reader.watch());
      await Promise.all([reader.close(), reader.close()]);
      await reader.close();
      await events.ended;
    },
  },
];

/** Events as they come, with a promise for the end of the watch. */
class EventLog {
  readonly all: RegistryEvent[] = [];
  readonly ended: Promise<void>;

  constructor(events: AsyncIterable<RegistryEvent>) {
    this.ended = (async () => {
      for await (const event of events) this.all.push(event);
    })();
    // A test that fails earlier must not leave a rejection behind.
    this.ended.catch(() => {});
  }

  async has(context: RegistryContext, action: RegistryEvent['action'], nodeId: string) {
    await until(context, `${action} of ${nodeId}`, async () =>
      this.all.find(
        (event) =>
          event.action === action && event.service.nodes.some((node) => node.id === nodeId),
      ),
    );
  }
}

/** Registers and deregisters a node until the watch has seen it. */
async function settleWatch(
  context: RegistryContext,
  writer: {
    register(service: ServiceRecord, options: { ttlMs: number }): Promise<void>;
    deregister(service: ServiceRecord): Promise<void>;
  },
  name: string,
  events: EventLog,
): Promise<void> {
  const record = context.record(name, 'w');
  await until(context, 'the watch at work', async () => {
    await writer.register(record, { ttlMs: LONG_TTL_MS });
    // A watch that compares what it reads sees only what stays for a while.
    await pass(context, SEEN_MS);
    await writer.deregister(record);
    return events.all.length > 0 || null;
  });
}

export async function ids(
  context: RegistryContext,
  registry: { getService(name: string): Promise<ServiceRecord[]> },
  name: string,
  nodes: readonly string[],
): Promise<void> {
  const wanted = nodes.map((node) => `${name}-${node}`).sort();
  let last: string[] = [];
  await until(context, `the nodes ${wanted.join(' ').slice(0, 200)}`, async () => {
    const found = await registry.getService(name);
    last = found.flatMap((service) => service.nodes.map(({ id }) => id)).sort();
    return isEqual(last, wanted) || null;
  });
}

async function pass(context: RegistryContext, ms: number): Promise<void> {
  if (context.fixture.advance !== undefined) await context.fixture.advance(ms);
  else await new Promise((resolve) => setTimeout(resolve, ms));
}

/** What the look gives once it is there; fails after 20 s. */
async function until<T>(
  context: RegistryContext,
  what: string,
  look: () => Promise<T | null | undefined>,
): Promise<T> {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined) return found;
    if (Date.now() > end) assert.fail(`not within 20 s: ${what}`);
    await pass(context, 20);
  }
}

/** Without the difference between a map with and without a prototype. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
