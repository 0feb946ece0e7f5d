/**
 * The suite that says what a call is, whatever carries it: values, metadata, errors, deadlines, ends.
 *
 * Give it a test runner and a factory of fixtures. A fixture makes services that find each other and
 * call over the transport under test. Every case counts at the handler, because that is where a call
 * that was repeated without leave shows.
 */
import assert from 'node:assert/strict';
import { RivuletError } from '../../errors.ts';
import type { CallContext } from '../../rpc/context.ts';
import { contract, serverStream, unary } from '../../rpc/contract.ts';
import type { HandlersOf } from '../../rpc/handlers.ts';
import type { Service } from '../../service/service.ts';
import { type CaseSetup, type FixtureCase, registerCases } from '../register-cases.ts';

export interface RpcFixture extends AsyncDisposable {
  /** A service that is not started, with the transport under test; ended by the suite. */
  service(name: string): Service;
  /** It carries server streams. */
  readonly hasStreams?: true;
  /** A caller that gives up ends its handler. */
  readonly hasCancel?: true;
}

const NAME = 'conformance.calls';
const Kinds = contract(NAME, {
  Kinds: {
    Echo: unary<unknown, unknown>(),
    Fail: unary<{ how: string }, unknown>(),
    Wait: unary<{ nested?: boolean }, number>(),
    Never: unary<unknown, unknown>(),
    Hedged: unary<unknown, number>({ idempotent: true, timeoutMs: 60_000, hedge: { afterMs: 30 } }),
    Count: serverStream<{ to: number }, number>(),
  },
});
type Handlers = HandlersOf<typeof Kinds>['Kinds'];

/** Polled, because the end of a handler on another machine has no event here. */
const SEEN_MS = 30_000;

export const rpcCases: readonly FixtureCase<RpcFixture>[] = [
  {
    name: 'a request and its reply arrive whole, once',
    async run(fixture) {
      let runs = 0;
      const { Echo } = await connected(fixture, {
        Echo: (request) => {
          runs++;
          return request;
        },
      });
      for (const value of [
        { text: 'ä漢🚀' },
        [1, 2.5, null],
        null,
        'text',
        { deep: { list: [{}] } },
      ]) {
        assert.deepEqual(await Echo(value), value);
      }
      assert.equal(runs, 5);
    },
  },
  {
    name: 'many calls at once each get their own reply',
    async run(fixture) {
      const { Echo } = await connected(fixture, { Echo: async (request) => request });
      const calls = Array.from({ length: 200 }, async (_, n) => {
        assert.deepEqual(await Echo({ n }), { n });
      });
      await Promise.all(calls);
    },
  },
  {
    name: 'metadata arrives both ways, whatever the case of its names',
    async run(fixture) {
      const { Echo } = await connected(fixture, {
        Echo: (_request, context) => {
          context.responseMetadata.set('X-Back', 'b');
          return context.metadata.get('x-TENANT') ?? null;
        },
      });
      let back: string | undefined;
      const seen = await Echo(null, {
        metadata: { 'X-Tenant': 'a' },
        onMetadata: (given) => {
          back = given.get('x-back');
        },
      });
      assert.deepEqual([seen, back], ['a', 'b']);
    },
  },
  {
    name: 'what a handler throws arrives with its text and without its stack, after one run',
    async run(fixture) {
      let runs = 0;
      const { Fail } = await connected(fixture, {
        Fail: () => {
          runs++;
          throw new Error('the cellar is wet');
        },
      });
      const error = await failureOf(Fail({ how: 'plainly' }));
      assert.match(error.message, /the cellar is wet/);
      assert.doesNotMatch(error.message, /\n\s+at /);
      assert.equal(error.sent, 'maybe');
      assert.equal(runs, 1);
    },
  },
  {
    name: 'the code of an error that a handler throws arrives',
    async run(fixture) {
      const { Fail } = await connected(fixture, {
        Fail: () => {
          throw new RivuletError('CONFLICT', 'it is there already');
        },
      });
      const error = await failureOf(Fail({ how: 'with a code' }));
      assert.equal(error.code, 'CONFLICT');
    },
  },
  {
    name: 'an endpoint that no node has is METHOD_NOT_FOUND, and provably ran no handler',
    async run(fixture) {
      const { caller } = await connectedServices(fixture, {});
      const error = await failureOf(caller.call(NAME, 'Kinds.Missing', {}));
      assert.deepEqual([error.code, error.sent], ['METHOD_NOT_FOUND', 'no']);
    },
  },
  {
    name: 'a call ends at its deadline, for the caller and for the handler',
    async run(fixture) {
      const ends: string[] = [];
      let runs = 0;
      const wait = untilAborted(ends);
      const { Never } = await connected(fixture, {
        Never: (request, context) => {
          runs++;
          return wait(request, context);
        },
      });
      // On a slow machine a deadline may be over before the handler begins: then there is no signal.
      for (let timeoutMs = 200; runs === 0 && timeoutMs < SEEN_MS; timeoutMs *= 2) {
        const began = performance.now();
        const error = await failureOf(Never({}, { timeoutMs }));
        assert.equal(error.code, 'TIMEOUT');
        assert.ok(performance.now() - began >= timeoutMs - 10, 'it ended before its deadline');
      }
      assert.equal(runs, 1);
      await until(() => ends.length === 1, "the end of the handler's signal");
    },
  },
  {
    name: 'a nested call has what is left of the deadline of its cause',
    async run(fixture) {
      const { caller, node } = await connectedServices(fixture, {
        Wait: async ({ nested }, context) => {
          if (nested === true) return context.remainingMs();
          // It asks for more than its own caller has left.
          return node.client(Kinds).Kinds.Wait({ nested: true }, { timeoutMs: 2 * SEEN_MS });
        },
      });
      const left = await caller.client(Kinds).Kinds.Wait({}, { timeoutMs: SEEN_MS });
      assert.ok(left > 0 && left < SEEN_MS, `${left} ms were left of ${SEEN_MS}`);
    },
  },
  {
    name: 'a caller that aborts gets ABORTED, and the signal of the handler is aborted',
    uses: ['hasCancel'],
    async run(fixture) {
      const ends: string[] = [];
      let begun = false;
      const wait = untilAborted(ends);
      const { Never } = await connected(fixture, {
        Never: (request, context) => {
          begun = true;
          return wait(request, context);
        },
      });
      const controller = new AbortController();
      const call = Never({}, { signal: controller.signal });
      await until(() => begun, 'the handler');
      controller.abort();
      assert.equal((await failureOf(call)).code, 'ABORTED');
      await until(() => ends.length === 1, "the end of the handler's signal");
    },
  },
  {
    name: 'of a call and its hedge one answers and the other is cancelled',
    uses: ['hasCancel'],
    async run(fixture) {
      const ends: string[] = [];
      let runs = 0;
      const wait = untilAborted(ends);
      const { Hedged } = await connected(fixture, {
        Hedged: async (request, context) => {
          if (++runs === 2) return 2;
          await wait(request, context);
          return 1;
        },
      });
      assert.equal(await Hedged({}), 2);
      await until(() => ends.length === 1, 'the end of the slower handler');
      assert.equal(runs, 2);
    },
  },
  {
    name: 'a stream of replies arrives whole and in order',
    uses: ['hasStreams'],
    async run(fixture) {
      const { Count } = await connected(fixture, { Count: countTo });
      let next = 0;
      for await (const n of Count({ to: 500 })) assert.equal(n, next++);
      assert.equal(next, 500);
    },
  },
  {
    name: 'leaving the loop over a stream ends its handler',
    uses: ['hasStreams'],
    async run(fixture) {
      let isEnded = false;
      const { Count } = await connected(fixture, {
        async *Count(request, context) {
          try {
            yield* countTo(request, context);
          } finally {
            isEnded = true;
          }
        },
      });
      for await (const n of Count({ to: 1e9 })) if (n === 3) break;
      await until(() => isEnded, 'the end of the handler');
    },
  },
];

export function rpcConformance(setup: CaseSetup<RpcFixture>): void {
  registerCases({ ...setup, name: `calls over ${setup.name}` }, rpcCases);
}

async function* countTo({ to }: { to: number }, _context: CallContext): AsyncGenerator<number> {
  for (let n = 0; n < to; n++) yield n;
}

/** A handler that waits for the end of its call. */
function untilAborted(ends: string[]): (request: unknown, context: CallContext) => Promise<never> {
  return (_request, { signal }) =>
    new Promise((_resolve, reject) => {
      const end = () => {
        ends.push(String(signal.reason));
        reject(signal.reason);
      };
      if (signal.aborted) end();
      else signal.addEventListener('abort', end, { once: true });
    });
}

async function connected(fixture: RpcFixture, handlers: Partial<Handlers>) {
  const { caller } = await connectedServices(fixture, handlers);
  return caller.client(Kinds).Kinds;
}

/** A node with these handlers, and a service that calls it. Both are started; the fixture ends them. */
async function connectedServices(fixture: RpcFixture, handlers: Partial<Handlers>) {
  const node = fixture.service(NAME);
  const unused = () => {
    throw new Error('this case does not call it');
  };
  const all = {
    Echo: unused,
    Fail: unused,
    Wait: unused,
    Never: unused,
    Hedged: unused,
    Count: unused,
  };
  node.handle(Kinds, { Kinds: { ...all, ...handlers } as Handlers });
  await node.start();
  const caller = fixture.service(`${NAME}.caller`);
  await caller.start();
  return { node, caller };
}

async function failureOf(call: Promise<unknown>): Promise<RivuletError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RivuletError, `${String(error)} is no RivuletError`);
    return error;
  }
  throw new Error('the call succeeded');
}

async function until(isTrue: () => boolean, what: string): Promise<void> {
  const end = performance.now() + SEEN_MS;
  while (!isTrue()) {
    if (performance.now() > end) throw new Error(`waited ${SEEN_MS} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
