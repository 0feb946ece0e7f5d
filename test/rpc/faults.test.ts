/**
 * What one call's own code breaks stays with that call: schemas, policies, errors and metadata that throw
 * or do not fit end their call with a reason, and the calls beside it on the same connection go on.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { currentScope } from '../../src/broker/dispatch/scope.ts';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import type { CallOptions } from '../../src/rpc/handlers.ts';
import type { Metadata } from '../../src/rpc/metadata.ts';
import { ServiceError } from '../../src/rpc/service-error.ts';
import { createService } from '../../src/service/service.ts';
import { TcpTransport } from '../../src/transport/tcp/tcp.ts';
import { until } from '../helpers/until.ts';

const aNumber: StandardSchema<unknown, number> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: (value) =>
      typeof value === 'number' ? { value } : { issues: [{ message: 'no number' }] },
  },
};
const throwing: StandardSchema<unknown, number> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate() {
      throw new Error('the schema is broken');
    },
  },
};

const Faulty = contract('test.faulty', {
  S: {
    Unfit: unary<undefined, number>({ response: aNumber }),
    Broken: unary<undefined, number>({ response: throwing }),
    Fail: unary<unknown, unknown>(),
    Text: unary<number, string>(),
    Echo: unary<unknown, unknown>(),
    Late: unary<undefined, number>(),
    Kept: unary<undefined, object>({ idempotent: true, cache: { ttlMs: 60_000 } }),
    Wait: unary<undefined, string>(),
    Hang: unary<number, undefined>(),
    Thenable: unary<undefined, number>(),
  },
});

/** Errors that only code without types makes. */
const ERRORS: readonly object[] = [
  { code: 'INTERNAL', status: 500, detail: 'without an id' },
  { code: 'INTERNAL', id: 'x', detail: 'without a status' },
  { code: 'INTERNAL', id: 'x', status: -5, detail: 'below 0' },
  { code: 'INTERNAL', id: 'x', status: 1e300, detail: 'beyond every integer' },
  { code: 'INTERNAL', id: 'x', status: Number.POSITIVE_INFINITY, detail: 'infinite' },
  { code: 'INTERNAL', id: 'x', status: '500', detail: 'a text' },
];
/** Not a promise, and it gives one. */
const thenable = {
  // biome-ignore lint/suspicious/noThenProperty: it is what is tested
  then: (resolve: (n: unknown) => void) => resolve(Promise.resolve(7)),
};
const MAX_FRAME = 16 * 1024 * 1024;

async function world(transport: string, options: Parameters<typeof createService>[0] = {}) {
  const service = createService({
    environment: false,
    args: false,
    registry: new MemoryRegistry(),
    transport,
    ...options,
  });
  const waiting: (() => void)[] = [];
  /** Per call of Hang: its own trace, and that of the code that ran at its abort. */
  const aborted: [own: string | undefined, seen: string | undefined][] = [];
  let setLater = () => {};
  service.handle(Faulty, {
    S: {
      Unfit: () => 'text' as never,
      Broken: () => 1,
      Fail(which) {
        throw new ServiceError(ERRORS[which as number] as never);
      },
      Text: (length) => 'x'.repeat(length),
      Echo: (value) => value,
      Late(_, { responseMetadata }) {
        responseMetadata.set('said', 'in time');
        setLater = () => void responseMetadata.set('said', 'too late');
        return 1;
      },
      Kept: () => ({ run() {} }),
      Wait: () => new Promise((resolve) => waiting.push(() => resolve('waited'))),
      Hang(_, context) {
        const traceOf = (header: string | undefined) => header?.slice(3, 35);
        context.signal.addEventListener('abort', () => {
          const seen = traceOf(currentScope()?.trace?.traceparent);
          aborted.push([traceOf(context.metadata.get('traceparent')), seen]);
        });
        return new Promise(() => {});
      },
      Thenable: () => thenable as never,
    },
  });
  await service.start();
  const { S } = service.client(Faulty);
  return {
    S,
    aborted,
    setLater: () => setLater(),
    /** Runs `work` beside a call, which must not notice. */
    async beside<T>(work: () => Promise<T>): Promise<T> {
      const neighbour = S.Wait(undefined, { timeoutMs: 60_000 });
      neighbour.catch(() => {});
      const result = await work();
      await until(() => waiting.length > 0);
      waiting.pop()?.();
      assert.equal(await neighbour, 'waited');
      return result;
    },
    [Symbol.asyncDispose]: () => service.stop(),
  };
}

const callOfEcho = {
  service: 'test.faulty',
  endpoint: 'S.Echo',
  kind: 'unary',
  contentType: 'application/json',
  metadata: {},
  timeoutMs: 5000,
  signal: null,
  body: Buffer.from('1'),
} as const;

/** A service that runs two calls at once, and a channel to it below the client. */
async function ofTwoCalls() {
  const registry = new MemoryRegistry();
  const w = await world('tcp', { name: 'test.faulty', registry, maxConcurrentCalls: 2 });
  const [node] = (await registry.getService('test.faulty'))[0]?.nodes ?? [];
  assert.ok(node);
  return Object.assign(w, { channel: await new TcpTransport().dial(node) });
}

function failed(code: string) {
  return (error: unknown) => {
    assert.ok(error instanceof ServiceError);
    assert.equal(error.code, code, error.message);
    return true;
  };
}

for (const transport of ['local', 'tcp', 'ws', 'grpc', 'http']) {
  test(`a reply that does not fit its schema fails its call alone (${transport})`, async () => {
    await using w = await world(transport);
    await w.beside(() => assert.rejects(w.S.Unfit(), failed('VALIDATION_FAILED')));
    await w.beside(() => assert.rejects(w.S.Broken(), failed('INTERNAL')));
  });

  test(`an error whose fields are wrong reaches its caller, and no other (${transport})`, async () => {
    await using w = await world(transport);
    for (const which of ERRORS.keys()) {
      await w.beside(() =>
        assert.rejects(w.S.Fail(which), (error) => {
          assert.equal((error as ServiceError).detail, (ERRORS[which] as ServiceError).detail);
          return failed('INTERNAL')(error);
        }),
      );
    }
  });

  test(`a policy that throws ends the call that asked it (${transport})`, async () => {
    const isFailure = () => {
      throw new Error('the policy is broken');
    };
    await using w = await world(transport, { breaker: { isFailure } });
    await w.beside(() => assert.rejects(w.S.Fail(0), /the policy is broken/));
  });

  test(`a promise within a thenable is waited for (${transport})`, async () => {
    await using w = await world(transport);
    assert.equal(await w.S.Thenable(), 7);
  });

  test(`what a handler does at its call's deadline belongs to its call (${transport})`, async () => {
    await using w = await world(transport);
    const calls = [1, 2, 3].map((n) => w.S.Hang(n, { timeoutMs: 100 + n }));
    await Promise.allSettled(calls);
    await until(() => w.aborted.length >= calls.length);
    for (const [own, seen] of w.aborted) assert.equal(seen, own);
    assert.equal(new Set(w.aborted.map(([own]) => own)).size, calls.length);
  });
}

test('metadata that a handler sets after its reply is not seen by the caller in its process', async () => {
  await using w = await world('local');
  let metadata: Metadata | undefined;
  const options: CallOptions = {
    onMetadata(given) {
      metadata = given;
    },
  };
  await w.S.Late(undefined, options);
  w.setLater();
  assert.equal(metadata?.get('said'), 'in time');
});

test('a shared reply that cannot be kept is given, and not kept', async () => {
  await using w = await world('local', { local: 'share' });
  const first = await w.S.Kept();
  assert.notEqual(await w.S.Kept(), first);
});

test('what is larger than a frame of tcp fails its call alone', async () => {
  await using w = await world('tcp');
  for (const length of [MAX_FRAME - 2, MAX_FRAME + 1]) {
    await w.beside(() => assert.rejects(w.S.Text(length), failed('BODY_TOO_LARGE')));
    await w.beside(() => assert.rejects(w.S.Echo('x'.repeat(length)), failed('BODY_TOO_LARGE')));
  }
  const metadata = { ['n'.repeat(1025)]: 'x' };
  await w.beside(() => assert.rejects(w.S.Echo(1, { metadata }), failed('INVALID_ARGUMENT')));
});

test('metadata of the size that is allowed arrives, however little is left for it', async () => {
  await using w = await world('tcp');
  let most = 64 * 1024;
  const call = () => w.S.Echo(1, { metadata: { x: 'v'.repeat(most) } });
  while ((await call().catch(({ code }) => code)) === 'LIMIT_EXCEEDED') most--;
  assert.equal(await w.beside(call), 1);
});

test('metadata that cannot be read fails its call, and is not counted as a running one', async () => {
  await using w = await ofTwoCalls();
  const { channel } = w;
  const call = { ...callOfEcho, metadata: { 'No Name': 'two\nlines' } };
  for (let calls = 0; calls < 3; calls++) {
    await assert.rejects(channel.request(call), { code: 'INVALID_ARGUMENT' });
  }
  assert.equal(await w.S.Echo(1), 1);
  await channel.close();
});

test('calls that wait for their codec count as running ones', async () => {
  await using w = await ofTwoCalls();
  const { channel } = w;
  const call = { ...callOfEcho, contentType: 'application/msgpack', body: Buffer.of(1) };
  const calls = Array.from({ length: 5 }, () => channel.request(call));
  const codes = await Promise.all(
    calls.map((each) =>
      each.then(
        () => 'OK',
        ({ code }) => code,
      ),
    ),
  );
  const refused = Array(3).fill('LIMIT_EXCEEDED');
  assert.deepEqual(codes.sort(), [...refused, 'OK', 'OK']);
  assert.equal(await w.S.Echo(1), 1);
  await channel.close();
});

test('a channel does not hold the call that dialled it, nor its request', async () => {
  const settings = { environment: false, args: false, transport: 'tcp' } as const;
  const registry = new MemoryRegistry();
  const Up = contract('test.up', { S: { Pass: unary<string, number>() } });
  const Down = contract('test.down', { S: { One: unary<undefined, number>() } });
  await using down = createService({ ...settings, name: 'test.down', registry });
  await using up = createService({ ...settings, name: 'test.up', registry });
  await using caller = createService({ ...settings, registry });
  let dialled: WeakRef<object> | undefined;
  down.handle(Down, { S: { One: () => 1 } });
  up.handle(Up, {
    S: {
      Pass() {
        dialled ??= new WeakRef(currentScope() as object);
        return up.client(Down).S.One();
      },
    },
  });
  for (const each of [down, up, caller]) await each.start();
  const { Pass } = caller.client(Up).S;
  await Pass('x'.repeat(1_000_000));
  // What one call left with timers and buffers goes with the next ones.
  for (let call = 0; call < 2000 && dialled?.deref() !== undefined; call++) {
    await Pass('');
    if (call % 20 === 0) globalThis.gc?.();
  }
  assert.equal(dialled?.deref(), undefined);
});
