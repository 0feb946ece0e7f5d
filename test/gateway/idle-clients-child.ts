/** A gateway as a process of its own, so that its memory is that of its clients. Its parent sends it what to do. */
import { openBroker } from '../../src/broker/open-broker.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';

export type Order = 'measure' | 'publish';

export interface Measured {
  /** Bytes that the process has from the system. */
  readonly resident: number;
  /** Bytes that are in use after a collection, within V8 and without. */
  readonly used: number;
}

const broker = await openBroker('memory:');
const gateway = await startGateway({
  address: ':0',
  broker,
  registry: new MemoryRegistry(),
  topics: ['news'],
});

process.on('disconnect', () => process.exit());
process.on('message', async (order: Order) => {
  if (order === 'publish') await broker.publish('news', { body: 'all' });
  else {
    globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    process.send?.({ resident: rss, used: heapUsed + external } satisfies Measured);
  }
});
process.send?.(gateway.address);
