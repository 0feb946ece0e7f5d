/** Calls that follow each other without a pause leave the event loop its turns. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';

const Echo = contract('echo', {
  Echo: {
    Call: unary<number, number>(),
    Kept: unary<number, number>({ idempotent: true, cache: { ttlMs: 600_000 } }),
    Stream: serverStream<number, number>(),
  },
});

async function world(transport: string) {
  const service = createService({
    registry: `memory:turns-${transport}`,
    transport,
    environment: false,
    args: false,
  });
  service.handle(Echo, {
    Echo: {
      Call: (n) => n,
      Kept: (n) => n,
      async *Stream(n) {
        yield n;
      },
    },
  });
  await service.start();
  return { service, ...service.client(Echo).Echo };
}
type World = Awaited<ReturnType<typeof world>>;

const wrong = { timeoutMs: -1 };
const CALLS: Readonly<Record<string, (world: World) => Promise<unknown>>> = {
  'calls within the process': ({ Call }) => Call(1),
  'answers from the cache': ({ Kept }) => Kept(1),
  'refused calls': ({ Call }) => Call(1, wrong),
  'refused streams': ({ Stream }) => Stream(1, wrong).next(),
  'calls without a node': ({ service }) => service.call('no.such.service', 'A.B'),
  'calls without a name': ({ service }) => service.call('', 'A.B'),
  'calls with metadata that cannot be sent': ({ Call }) => Call(1, { metadata: { 'a b': '' } }),
};

for (const [what, call] of Object.entries(CALLS)) {
  test(`a timer fires while ${what} follow each other without a pause`, async () => {
    const w = await world('local');
    await using _ = w.service;
    await call(w).catch(() => {});
    let hasFired = false;
    setTimeout(() => {
      hasFired = true;
    }, 1);
    let calls = 0;
    for (; !hasFired && calls < 500_000; calls++) await call(w).catch(() => {});
    assert.ok(hasFired, `no timer in ${calls} calls`);
  });
}
