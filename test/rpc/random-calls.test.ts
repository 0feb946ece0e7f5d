/**
 * Random calls of all four kinds while ways are cut and nodes are stopped and started, with one checker:
 * each call ends once and by its deadline, with what was asked for or an error, and its handler ran at
 * most as often as it may.
 *
 * Set RIVULET_SEED to see a failure again, CALLS_SECONDS to run longer.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultyProxy } from '../../src/conformance/index.ts';
import { RivuletError } from '../../src/errors.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { CallContext } from '../../src/rpc/context.ts';
import { bidi, clientStream, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { Random } from '../../src/util/random.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { seedNamed } from '../helpers/seed.ts';

const seed = seedNamed('random calls');
const SECONDS = Number(process.env.CALLS_SECONDS ?? 3);
const AT_ONCE = 12;
/** How late a timer may be on a machine that does other things. */
const SLACK_MS = 2500;
const ATTEMPTS = 2;

/** What a handler is to do; `id` is the call's. */
interface Order {
  readonly id: number;
  readonly messages: number;
  readonly delayMs: number;
  readonly end: 'well' | 'badly' | 'never';
}

const Calls = contract('test.random', {
  Srv: {
    Unary: unary<Order, number>(),
    Idempotent: unary<Order, number>({ idempotent: true, retry: { attempts: ATTEMPTS } }),
    Server: serverStream<Order, number>(),
    Client: clientStream<Order, number>(),
    Both: bidi<Order, number>(),
  },
});

interface World extends AsyncDisposable {
  readonly client: Service;
  /** Something bad, and over within half a second. */
  harm(random: Random): Promise<void>;
  readonly running: () => number;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function act(order: Order, context: CallContext): Promise<void> {
  await pause(order.delayMs);
  if (order.end === 'badly') throw new Error(`ordered ${order.id}`);
  if (order.end === 'well' || context.signal.aborted) return;
  await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
}

async function world(transport: string, runs: Map<number, number>): Promise<World> {
  const registry = new MemoryRegistry();
  const server = transport === 'rivulet' ? await startRivulet() : null;
  const serverProxy = server === null ? null : await FaultyProxy.start(server.port);
  const broker =
    transport === 'memory'
      ? `memory:random-${seed}`
      : serverProxy === null
        ? undefined
        : `rivulet://127.0.0.1:${serverProxy.port}`;
  const options = {
    registry,
    transport: broker === undefined ? transport : 'broker',
    ...(broker === undefined ? {} : { broker }),
  };
  const run = (id: number) => runs.set(id, (runs.get(id) ?? 0) + 1);
  const start = async (): Promise<Service> => {
    const node = createService({ ...options, name: 'test.random', drainTimeoutMs: 100 });
    node.handle(Calls, {
      Srv: {
        async Unary(order, context) {
          run(order.id);
          await act(order, context);
          return order.id;
        },
        async Idempotent(order, context) {
          run(order.id);
          await act(order, context);
          return order.id;
        },
        async *Server(order, context) {
          run(order.id);
          for (let n = 0; n < order.messages; n++) yield order.id;
          await act(order, context);
        },
        async Client(orders, context) {
          let last: Order | null = null;
          let count = 0;
          for await (const order of orders) {
            if (last === null) run(order.id);
            last = order;
            count++;
          }
          if (last !== null) await act(last, context);
          return count;
        },
        async *Both(orders, context) {
          let isFirst = true;
          for await (const order of orders) {
            if (isFirst) run(order.id);
            isFirst = false;
            yield order.id;
            await act(order, context);
          }
        },
      },
    });
    await node.start();
    return node;
  };
  const nodes = [await start(), await start()];
  const client = createService({ ...options, name: 'test.random.client' });
  await client.start();
  return {
    client,
    running: () => nodes.reduce((sum, node) => sum + node.server.running, 0),
    async harm(random) {
      if (serverProxy !== null && random.chance(0.6)) {
        if (random.chance(0.5)) serverProxy.cut();
        else {
          serverProxy.mode = 'black hole';
          await pause(random.below(300));
          serverProxy.mode = 'pass';
          // What was swallowed is not made good: the connections are useless.
          serverProxy.cut();
        }
        return;
      }
      const at = random.below(nodes.length);
      await (nodes[at] as Service).stop();
      nodes[at] = await start();
    },
    async [Symbol.asyncDispose]() {
      await client.stop();
      await Promise.all(nodes.map((node) => node.stop()));
      await registry.close();
      await serverProxy?.[Symbol.asyncDispose]();
      await server?.stop('SIGKILL');
    },
  };
}

interface Outcome {
  readonly id: number;
  readonly kind: string;
  readonly timeoutMs: number;
  readonly tookMs: number;
  readonly error: unknown;
}

/** One random call, to its end. Throws where it succeeds with what was not asked for. */
async function once(client: Service, random: Random, id: number): Promise<Outcome> {
  const { Srv } = client.client(Calls);
  const order: Order = {
    id,
    messages: random.below(40),
    delayMs: random.below(60),
    end: random.pick(['well', 'well', 'well', 'badly', 'never'] as const),
  };
  const kind = random.pick(['Unary', 'Idempotent', 'Server', 'Client', 'Both'] as const);
  const timeoutMs = 50 + random.below(600);
  const controller = new AbortController();
  const stop = random.chance(0.15)
    ? setTimeout(() => controller.abort(), random.below(200))
    : undefined;
  const options = { timeoutMs, signal: controller.signal };
  const leaveAfter = random.chance(0.2) ? random.below(10) : Number.POSITIVE_INFINITY;
  const began = performance.now();
  let error: unknown = null;
  try {
    if (kind === 'Unary' || kind === 'Idempotent') {
      assert.equal(await Srv[kind](order, options), id);
    } else if (kind === 'Client') {
      const orders = Array.from({ length: 1 + order.messages }, () => order);
      assert.equal(await Srv.Client(orders, options), orders.length);
    } else {
      const orders = Array.from({ length: 1 + (order.messages % 5) }, () => order);
      const replies = kind === 'Server' ? Srv.Server(order, options) : Srv.Both(orders, options);
      let count = 0;
      let hasLeft = false;
      for await (const reply of replies) {
        assert.equal(reply, id);
        hasLeft = ++count > leaveAfter;
        if (hasLeft) break;
      }
      // A stream that ends well has ended whole.
      const whole = kind === 'Server' ? order.messages : orders.length;
      if (!hasLeft) assert.equal(count, whole, `${kind} ${id}: ${count} of ${whole} replies`);
    }
    assert.notEqual(order.end, kind === 'Server' || kind === 'Both' ? '' : 'badly');
  } catch (thrown) {
    if (!(thrown instanceof RivuletError)) throw thrown;
    error = thrown;
  } finally {
    clearTimeout(stop);
  }
  return { id, kind, timeoutMs, tookMs: performance.now() - began, error };
}

for (const transport of ['local', 'tcp', 'memory', 'rivulet']) {
  test(`${transport}: random calls end once, in time, and run no oftener than they may (seed ${seed})`, {
    timeout: 60_000 + SECONDS * 2000,
  }, async () => {
    const runs = new Map<number, number>();
    const outcomes: Outcome[] = [];
    await using w = await world(transport, runs);
    const random = new Random(seed);
    // The first call loads modules, which a busy machine may take seconds for.
    await w.client.client(Calls).Srv.Unary({ id: -1, messages: 0, delayMs: 0, end: 'well' });
    const until = performance.now() + SECONDS * 1000;
    let ids = 0;
    const callers = Array.from({ length: AT_ONCE }, async (_, at) => {
      const own = new Random(seed + at);
      while (performance.now() < until) {
        outcomes.push(await once(w.client, own, ids++));
        // Calls that are refused at once must not keep the loop from its timers.
        await new Promise(setImmediate);
      }
    });
    const harming = (async () => {
      while (performance.now() < until) {
        await pause(150 + random.below(300));
        await w.harm(random);
      }
    })();
    await Promise.all([...callers, harming]);
    assert.equal(outcomes.length, ids);
    for (const { id, kind, timeoutMs, tookMs, error } of outcomes) {
      const what = `${kind} ${id} with ${timeoutMs} ms, ${error}`;
      assert.ok(tookMs <= timeoutMs + SLACK_MS, `${what}: took ${Math.round(tookMs)} ms`);
      const most = kind === 'Idempotent' ? ATTEMPTS : 1;
      const count = runs.get(id) ?? 0;
      assert.ok(count <= most, `${what}: its handler ran ${count} times`);
      if (error === null) assert.ok(count >= 1, `${what}: no handler ran`);
      else if ((error as RivuletError).sent === 'no') {
        assert.equal(count, 0, `${what}: says that no handler ran`);
      }
    }
    const well = outcomes.filter(({ error }) => error === null).length;
    assert.ok(well > outcomes.length / 10, `${well} of ${outcomes.length} calls ended well`);
    const end = performance.now() + 10_000;
    while (w.running() > 0 && performance.now() < end) await pause(20);
    assert.equal(w.running(), 0, 'handlers still run');
  });
}
