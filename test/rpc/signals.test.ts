/** Signals of calls that handlers make: the handler's own and the one that is given, which may live for long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import type { CallOptions } from '../../src/rpc/handlers.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';

const Far = contract('test.far', {
  S: {
    Echo: unary<number, number>(),
    Hold: unary<undefined, undefined>({ timeoutMs: 60_000 }),
    Ticks: serverStream<undefined, number>(),
  },
});
const Near = contract('test.near', {
  S: {
    Echo: unary<number, number>(),
    Hold: unary<undefined, undefined>({ timeoutMs: 60_000 }),
    Tick: unary<undefined, number>(),
  },
});

/** Two services, the first of which calls the second with `options` in its handlers. */
async function startBoth(options: CallOptions) {
  const setup = { registry: new MemoryRegistry(), args: false, environment: false } as const;
  const held = { calls: 0, aborted: 0 };
  const far = createService({ ...setup, name: 'test.far' });
  far.handle(Far, {
    S: {
      Echo: async (value) => value,
      Hold: (_, { signal }) =>
        new Promise((resolve) => {
          held.calls++;
          signal.addEventListener('abort', () => {
            held.aborted++;
            resolve(undefined);
          });
        }),
      async *Ticks() {
        for (let tick = 0; ; tick++) yield tick;
      },
    },
  });
  const near = createService({ ...setup, name: 'test.near' });
  const next = near.client(Far).S;
  near.handle(Near, {
    S: {
      Echo: (value) => next.Echo(value, options),
      Hold: (request) => next.Hold(request, options),
      async Tick() {
        for await (const tick of next.Ticks(undefined, options)) return tick;
        return -1;
      },
    },
  });
  await far.start();
  await near.start();
  const caller = createService({ ...setup, name: 'test.caller' });
  return {
    calls: caller.client(Near).S,
    held,
    async stop() {
      for (const service of [caller, near, far]) await service.stop();
    },
  };
}

/** How much a signal remembers: listeners, and signals that were made of it. */
function remembered(signal: AbortSignal): number {
  const fields = signal as unknown as Record<symbol, { readonly size?: unknown } | undefined>;
  let all = 0;
  for (const name of Object.getOwnPropertySymbols(signal)) {
    const size = fields[name]?.size;
    if (typeof size === 'number') all += size;
  }
  return all;
}

test('a signal that lives keeps nothing of the calls of handlers that have ended', async () => {
  const living = new AbortController();
  const both = await startBoth({ signal: living.signal });
  const end = new AbortController();
  const running = both.calls.Hold(undefined, { signal: end.signal }).catch(() => {});
  await until(() => both.held.calls === 1);
  assert.equal(remembered(living.signal), 1);
  for (let n = 0; n < 100; n++) {
    assert.equal(await both.calls.Echo(n), n);
    assert.equal(await both.calls.Tick(undefined), 0);
  }
  end.abort();
  await running;
  await until(() => both.held.aborted === 1);
  await until(
    () => remembered(living.signal) === 0,
    () => `${remembered(living.signal)} are left`,
  );
  await both.stop();
});

test("each of the two signals ends a handler's call, with and without the other", async () => {
  for (const ending of ['own', 'caller'] as const) {
    const own = new AbortController();
    const caller = new AbortController();
    const both = await startBoth({ signal: own.signal });
    const call = assert.rejects(both.calls.Hold(undefined, { signal: caller.signal }));
    await until(() => both.held.calls === 1);
    (ending === 'own' ? own : caller).abort();
    await call;
    await until(() => both.held.aborted === 1);
    await both.stop();
  }
});
