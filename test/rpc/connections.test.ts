/** Which transport reaches a node, on a virtual clock: late ones are left alone, and tried again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RivuletError } from '../../src/errors.ts';
import type { ServiceNode } from '../../src/registry/registry.ts';
import { Connections } from '../../src/rpc/connections.ts';
import { LocalTransport } from '../../src/transport/local.ts';
import type { Channel, DialOptions, Transport } from '../../src/transport/transport.ts';
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
