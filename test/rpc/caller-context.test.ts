/**
 * Whose context a caller's functions run in: its own, however late and from wherever they are called.
 *
 * An application keeps its tenant, its transaction or its logger in an AsyncLocalStorage. What a call asks
 * of the application (codec, schema, selector, `onMetadata`, `isFailure`, the iterable of requests) must
 * find it there, in the first attempt, in a repetition, in a hedge and in a stream that is opened again.
 */
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { Codec } from '../../src/codec/codec.ts';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import { RivuletError } from '../../src/errors.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { ServiceNode } from '../../src/registry/registry.ts';
import { bidi, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import type { Selector } from '../../src/selector/selector.ts';
import { client } from '../../src/service/client.ts';
import type { ServiceOptions } from '../../src/service/options/options.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';

const NAME = 'test.context';
const tenant = new AsyncLocalStorage<string>();
/** Which of the application's functions ran, and for whom. */
const asked: [what: string, tenant: string | undefined][] = [];
const note = (what: string) => void asked.push([what, tenant.getStore()]);

const checked: StandardSchema<unknown, string> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate(value) {
      note('schema');
      return { value: value as string };
    },
  },
};
const Context = contract(NAME, {
  S: {
    Again: unary({
      response: checked,
      idempotent: true,
      retry: { attempts: 3, minMs: 0, maxMs: 1 },
    }),
    Hold: unary<undefined, string>({ timeoutMs: 60_000 }),
    Hedged: unary<undefined, string>({ idempotent: true, hedge: { afterMs: 1 } }),
    Ticks: serverStream<undefined, number>(),
    Echo: bidi<string, string>(),
  },
});

const noting: Codec = {
  name: 'noting',
  contentTypes: ['application/x-noting'],
  encode(value) {
    note('encode');
    return Buffer.from(JSON.stringify(value ?? null));
  },
  decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()),
};
const plain: Codec = { ...noting, encode: (value) => Buffer.from(JSON.stringify(value ?? null)) };

/** Gives the nodes in turn, in their order at each call; at once, when it has read them. */
function inOrder(registry: MemoryRegistry): Selector {
  const nodes: ServiceNode[] = [];
  const choosing = () => {
    let next = 0;
    return () => {
      note('next');
      return nodes[next++ % nodes.length] as ServiceNode;
    };
  };
  return {
    name: 'in-order',
    async select() {
      note('select');
      nodes.length = 0;
      for (const record of await registry.getService(NAME)) nodes.push(...record.nodes);
      nodes.sort((a, b) => (a.id < b.id ? -1 : 1));
      return choosing();
    },
    selectNow: () => (nodes.length === 0 ? null : choosing()),
    mark: () => {},
    reset: () => nodes.splice(0),
    close: async () => {},
  };
}

async function world(transport: string) {
  const registry = new MemoryRegistry();
  const broker = transport === 'broker' ? await openBroker('memory:context') : null;
  const own = {
    environment: false,
    args: false,
    registry,
    transport,
    ...(broker === null ? {} : { broker }),
  } as const;
  let again = 0;
  const node = async (id: string, options: ServiceOptions = {}) => {
    const service = createService({
      ...own,
      name: NAME,
      id,
      codec: plain,
      drainTimeoutMs: 0,
      ...options,
    });
    service.handle(Context, {
      S: {
        Again() {
          if (++again % 3 !== 0) throw new RivuletError('LIMIT_EXCEEDED', 'not yet');
          return 'at last';
        },
        async Hold(_request, context) {
          await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
          return 'let go';
        },
        async Hedged(_request, context) {
          if (context.attempt > 1) return 'the hedge';
          await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
          return 'the first';
        },
        async *Ticks() {
          yield 1;
          yield 2;
        },
        async *Echo(lines) {
          for await (const line of lines) yield line;
        },
      },
    });
    await service.start();
    return service;
  };
  const nodes = [await node('a-1'), await node('a-2')];
  const caller = client(Context, {
    ...own,
    codec: noting,
    selector: inOrder(registry),
    breaker: {
      isFailure: () => {
        note('isFailure');
        return false;
      },
    },
  });
  return {
    node,
    caller,
    async [Symbol.asyncDispose]() {
      await caller.close();
      for (const each of nodes) await each.stop();
      await broker?.disconnect();
    },
  };
}

/** Everything that was asked since the last look was asked for `who`, and all of `whats` were. */
function allFor(who: string, ...whats: string[]): void {
  const found = asked.splice(0);
  assert.deepEqual(
    found.filter(([, whose]) => whose !== who),
    [],
    `asked for another than ${who}`,
  );
  for (const what of whats) {
    assert.ok(
      found.some(([each]) => each === what),
      `${what} was not asked`,
    );
  }
}

for (const transport of ['local', 'tcp', 'grpc', 'http', 'ws', 'broker']) {
  test(`a call that is repeated runs for its caller to its end (${transport})`, async () => {
    await using w = await world(transport);
    const { Again } = w.caller.S;
    // All but the first call find their channels open, and take the way without promises.
    for (const who of ['first', 'second', 'third']) {
      asked.length = 0;
      const onMetadata = () => note('metadata');
      const reply = await tenant.run(who, () =>
        Again(undefined, who === 'third' ? { onMetadata } : {}),
      );
      assert.equal(reply, 'at last');
      // Values of calls within the process are not encoded.
      const encoded = transport === 'local' ? [] : ['encode'];
      const told = who === 'third' ? ['metadata'] : [];
      allFor(who, 'next', 'schema', 'isFailure', ...encoded, ...told);
    }
  });

  test(`a hedge runs for its caller (${transport})`, { skip: transport === 'http' }, async () => {
    await using w = await world(transport);
    for (const who of ['first', 'second']) {
      asked.length = 0;
      assert.equal(await tenant.run(who, () => w.caller.S.Hedged()), 'the hedge');
      allFor(who, 'next');
    }
  });

  test(`a stream runs for its caller (${transport})`, { skip: transport === 'http' }, async () => {
    await using w = await world(transport);
    await tenant.run('reader', async () => {
      asked.length = 0;
      let sum = 0;
      for await (const tick of w.caller.S.Ticks()) {
        note('tick');
        sum += tick;
      }
      assert.equal(sum, 3);
      async function* lines() {
        try {
          for (const line of ['a', 'b']) {
            note('line');
            yield line;
          }
        } finally {
          note('left');
        }
      }
      for await (const line of w.caller.S.Echo(lines())) assert.match(line, /^[ab]$/);
    });
    allFor('reader', 'tick', 'line', 'left');
  });
}

test('a stream that a node refuses is opened at another for its caller', async () => {
  await using w = await world('tcp');
  // It comes first, and takes one call.
  await using busy = await w.node('a-0', { maxConcurrentCalls: 1 });
  const end = new AbortController();
  const holding = w.caller.S.Hold(undefined, { signal: end.signal });
  await until(() => busy.server.running > 0);
  // The call above was the first, and read the nodes.
  asked.length = 0;
  await tenant.run('reader', async () => {
    const ticks: number[] = [];
    for await (const tick of w.caller.S.Ticks()) ticks.push(tick);
    assert.deepEqual(ticks, [1, 2]);
  });
  assert.equal(asked.filter(([what]) => what === 'next').length, 2, 'one node was asked');
  allFor('reader', 'next', 'encode');
  end.abort();
  await assert.rejects(holding, { code: 'ABORTED' });
});
