/**
 * Cases of records that other programs wrote: too large, with more nodes than one record may have, of
 * later versions of go-micro.
 */
import { ids } from './cases.ts';
import type { RegistryCase } from './registry-case.ts';

const LONG_TTL_MS = 60_000;

export const foreignCases: readonly RegistryCase[] = [
  {
    name: 'what another program wrote too large hides no good record of the same service',
    uses: ['writeForeign'],
    async run(context) {
      const registry = await context.open();
      const name = context.serviceName();
      await registry.register(context.record(name, 'g'), { ttlMs: LONG_TTL_MS });
      const node = (number: number) => ({
        id: `z${number}`,
        address: '127.0.0.1:1',
        metadata: null,
      });
      const deep = (depth: number): unknown =>
        depth === 0 ? null : { name: 'v', type: 'T', values: [deep(depth - 1)] };
      const record = { name, version: '1', metadata: null, endpoints: null };
      for (const huge of [
        { ...record, nodes: Array.from({ length: 1001 }, (_, number) => node(number)) },
        { ...record, nodes: [node(0)], metadata: { long: 'x'.repeat(900_000) }, version: 7 },
        {
          ...record,
          nodes: [],
          endpoints: [{ name: 'S.M', request: deep(1500), response: null, metadata: null }],
        },
        { ...record, nodes: [node(0)], endpoints: Array.from({ length: 10_001 }, () => ({})) },
      ]) {
        await context.fixture.writeForeign?.(name, Buffer.from(JSON.stringify(huge)));
      }
      await ids(context, registry, name, ['g']);
      await registry.listServices();
    },
  },
];
