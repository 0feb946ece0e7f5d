/** Every codec, selector and transport of ours passes the suite of its kind. */
import { describe, test } from 'node:test';
import { codecConformance } from '../../../src/conformance/codec/suite.ts';
import { rpcConformance } from '../../../src/conformance/rpc/suite.ts';
import { selectorConformance } from '../../../src/conformance/selector/suite.ts';
import {
  consistentHash,
  leastLoaded,
  random,
  roundRobin,
} from '../../../src/selector/strategies.ts';
import { memoryFixture } from '../embedded-fixture.ts';
import { codecFixtures, rpcFixture, selectorFixture } from './fixtures.ts';

const runner = { describe, test };

for (const [name, factory] of Object.entries(codecFixtures)) {
  codecConformance({ name, runner, factory });
}

for (const strategy of [() => random, () => leastLoaded, roundRobin, () => consistentHash]) {
  const factory = () => selectorFixture(strategy());
  selectorConformance({ name: strategy().name, runner, factory });
}

const all = { hasStreams: true, hasCancel: true } as const;
for (const transport of ['local', 'tcp', 'grpc', 'ws', 'http', 'auto']) {
  const can = transport === 'http' ? { hasCancel: true as const } : all;
  rpcConformance({ name: transport, runner, factory: () => rpcFixture({ transport }, can) });
}
rpcConformance({
  name: 'the broker',
  runner,
  async factory() {
    const server = await memoryFixture();
    const broker = await server.open();
    const fixture = rpcFixture({ transport: 'broker', broker }, all);
    return {
      ...fixture,
      async [Symbol.asyncDispose]() {
        await fixture[Symbol.asyncDispose]();
        await broker.disconnect();
        await server[Symbol.asyncDispose]();
      },
    };
  },
});
