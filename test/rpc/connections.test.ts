/** Which transport reaches a node, on a virtual clock: late ones are left alone, and tried again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RivuletError } from '../../src/errors.ts';
import type { ServiceNode } from '../../src/registry/registry.ts';
import { Connections } from '../../src/rpc/connections.ts';
import { LocalTransport } from '../../src/transport/local/local.ts';
import {
  type Channel,
  type DialOptions,
  NO_METADATA,
  type Transport,
} from '../../src/transport/transport.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const NODE: ServiceNode = { id: 'connections-test', address: '127.0.0.1:1', metadata: {} };

/** The local transport under another name, which answers a dial only while its way is there. */
class Way implements Transport {
  readonly name: string;
  isThere = true;
  dials = 0;
  readonly #scheduler: VirtualScheduler;
  readonly #local: LocalTransport;

  constructor(name: string, scheduler: VirtualScheduler) {
    this.name = name;
    this.#scheduler = scheduler;
    this.#local = new LocalTransport(scheduler);
  }

  canDial(): boolean {
    return true;
  }

  listen(options: Parameters<LocalTransport['listen']>[0]): ReturnType<LocalTransport['listen']> {
    return this.#local.listen(options);
  }

  dial(node: ServiceNode, { timeoutMs = 5000 }: DialOptions = {}): Promise<Channel> {
    this.dials++;
    if (this.isThere) return this.#local.dial(node);
    return new Promise((_, reject) => {
      const text = `no answer in ${timeoutMs} ms`;
      const late = () => reject(new RivuletError('CONNECTION_FAILED', text));
      this.#scheduler.after(timeoutMs, late);
    });
  }
}

test('a way that is late is left alone for 30 s, then tried beside the calls that go on', async () => {
  const scheduler = new VirtualScheduler();
  const [direct, broker] = [new Way('tcp', scheduler), new Way('broker', scheduler)];
  const listener = await direct.listen({ address: '', nodeId: NODE.id, handler() {} });
  const connections = new Connections({
    transports: [direct, broker],
    scheduler,
    dialTimeoutMs: 5000,
    maxChannels: 10,
  });
  const nameOf = async () => (await connections.to(NODE)).transport.name;
  direct.isThere = false;
  const first = nameOf();
  await scheduler.advance(199);
  assert.equal(broker.dials, 0);
  await scheduler.advance(2);
  assert.equal(await first, 'broker');
  await scheduler.advance(29_000);
  assert.equal(await nameOf(), 'broker');
  assert.equal(direct.dials, 1);
  // Due, and still late: the call does not wait for it.
  await scheduler.advance(1500);
  assert.equal(await nameOf(), 'broker');
  await scheduler.advance(300);
  assert.equal(direct.dials, 2);
  assert.equal(await nameOf(), 'broker');
  direct.isThere = true;
  await scheduler.advance(31_000);
  await nameOf();
  await scheduler.advance(1);
  assert.equal(await nameOf(), 'tcp');
  assert.equal(direct.dials, 3);
  await connections.close();
  await listener.close();
  assert.equal(scheduler.pendingTimers, 0);
});

/** A stream over the channel, which its handler never ends. */
function streamOver(channel: Channel) {
  const call = channel.call({
    service: 's',
    endpoint: 'S.Watch',
    kind: 'serverStream',
    contentType: 'application/x-rivulet-value',
    metadata: NO_METADATA,
    timeoutMs: null,
    signal: null,
    body: new Uint8Array(1),
  });
  const ended = { code: '' };
  call.trailers.catch((error) => {
    ended.code = error.code;
  });
  return { call, ended };
}

test('a stream goes on over the way on which it began, however long it takes', async () => {
  const scheduler = new VirtualScheduler();
  const [direct, broker] = [new Way('tcp', scheduler), new Way('broker', scheduler)];
  const listener = await direct.listen({ address: '', nodeId: NODE.id, handler() {} });
  const options = { scheduler, dialTimeoutMs: 5000, maxChannels: 10 };
  const connections = new Connections({ transports: [direct, broker], ...options });
  direct.isThere = false;
  const dialled = connections.to(NODE);
  await scheduler.advance(300);
  const { channel, transport } = await dialled;
  assert.equal(transport.name, 'broker');
  const { call, ended } = streamOver(channel);
  direct.isThere = true;
  await scheduler.advance(31_000);
  await connections.to(NODE);
  await scheduler.advance(1);
  assert.equal((await connections.to(NODE)).transport.name, 'tcp');
  await scheduler.advance(3_600_000);
  assert.deepEqual([ended.code, channel.load], ['', 1]);
  // With its last call the channel is gone.
  call.cancel();
  await scheduler.advance(1);
  assert.throws(() => streamOver(channel).ended.code || assert.fail());
  await connections.close();
  await listener.close();
  assert.equal(scheduler.pendingTimers, 0);
});

test('a pool that is full gives up no channel with a call, and a client that closes ends it', async () => {
  const scheduler = new VirtualScheduler();
  const way = new Way('tcp', scheduler);
  const nodes = ['a', 'b'].map((id) => ({ ...NODE, id: `connections-test-${id}` }));
  const [a, b] = nodes as [ServiceNode, ServiceNode];
  const listeners = await Promise.all(
    nodes.map(({ id }) => way.listen({ address: '', nodeId: id, handler() {} })),
  );
  const options = { scheduler, dialTimeoutMs: 5000, maxChannels: 1 };
  const connections = new Connections({ transports: [way], ...options });
  const { channel } = await connections.to(a);
  const { ended } = streamOver(channel);
  await connections.to(b);
  await scheduler.advance(3_600_000);
  assert.deepEqual([ended.code, channel.load], ['', 1]);
  await connections.close();
  await scheduler.advance(1);
  assert.equal(ended.code, 'CLOSED');
  for (const listener of listeners) await listener.close();
  assert.equal(scheduler.pendingTimers, 0);
});
