/**
 * The names of services and calls as they were promised: each one of the design is used here as its text
 * writes it, by a program that knows nothing but the package. Types are checked when this file is
 * compiled; the tests run it.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  bidi,
  type Call,
  type CallContext,
  type Channel,
  client,
  clientStream,
  contract,
  createService,
  type DialOptions,
  errorType,
  type Filter,
  type Listener,
  type ListenOptions,
  type Logger,
  loadProto,
  MemoryRegistry,
  Metadata,
  type Node,
  type Outcome,
  type OutgoingCall,
  type Registry,
  type RegistryEvent,
  RivuletError,
  type Selector,
  ServiceError,
  type ServiceOptions,
  type ServiceRecord,
  type StandardSchema,
  type Strategy,
  serverStream,
  type Transport,
  topic,
  unary,
} from '../../src/index.ts';

interface GetAccountRequest {
  readonly id: number;
}
interface Account {
  readonly id: number;
  readonly username: string;
}
interface Row {
  readonly n: number;
}
interface Line {
  readonly text: string;
}

function schema<T>(): StandardSchema<unknown, T> {
  return {
    '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as T }) },
  };
}
const Query = schema<{ text: string }>();
const Page = schema<{ rows: string[] }>();
const TooBroad = schema<{ limit: number }>();
const Filters = schema<{ since?: number }>();
const UserEvent = schema<{ at: number }>();

const NAME = 'go.micro.api.userservices';
const Users = contract(NAME, {
  UserSrv: {
    GetAccount: unary<GetAccountRequest, Account>(),
    Search: unary({
      request: Query,
      response: Page,
      errors: { TooBroad, Gone: errorType<{ at: string }>({ status: 410 }) },
      idempotent: true,
      timeoutMs: 300,
      hedge: { afterMs: 50 },
      retry: { attempts: 2, minMs: 20, maxMs: 500 },
      cache: { ttlMs: 1, maxEntries: 10 },
      rateLimit: { perSecond: 1000, burst: 1000 },
    }),
    Watch: serverStream({ request: Filters, response: UserEvent, idleTimeoutMs: 60_000 }),
    Import: clientStream({ request: schema<Row>(), response: schema<{ n: number }>() }),
    Chat: bidi({ request: schema<Line>(), response: schema<Line>() }),
  },
});
const userCreated = topic<Account>('users.created');

/** Every option, as the design writes it. */
const written = {
  name: NAME,
  version: 'latest',
  metadata: {},
  broker: 'memory:design',
  registry: 'memory:design',
  selector: 'random',
  transport: 'auto',
  codec: 'json',
  registerTtlMs: 90_000,
  registerIntervalMs: 30_000,
  registerCheck: async () => {},
  advertise: undefined,
  address: ':0',
  wrap: { client: [], server: [], subscriber: [] },
} satisfies ServiceOptions;
const alone = { environment: false, args: false } as const;

test('a service and its client use every name of the design', async () => {
  await using service = createService({ ...alone, ...written });
  const log: string[] = [];
  service.handle(Users, {
    UserSrv: {
      async GetAccount(request, ctx) {
        log.push(...everythingOf(ctx));
        ctx.responseMetadata.set('X-Node', 'one');
        return { id: request.id, username: 'Hello Micro' };
      },
      async Search(_request, _ctx) {
        throw new Users.UserSrv.Search.errors.TooBroad({ limit: 100 });
      },
      async *Watch(_request, ctx) {
        for (let at = 0; !ctx.signal.aborted; at++) yield { at };
      },
      async Import(rows, _ctx) {
        let n = 0;
        for await (const row of rows) n += row.n;
        return { n };
      },
      async *Chat(lines, _ctx) {
        for await (const line of lines) yield line;
      },
    },
  });
  const created = deferred();
  const handler = (account: Account) => created.resolve(account.username);
  service.subscribe(userCreated, handler, { queue: 'mailer', autoAck: true });
  service.subscribe('users.removed', (delivery) => delivery.text());
  await service.start();

  const users = service.client(Users);
  const { signal } = new AbortController();
  let node: string | undefined;
  const account = await users.UserSrv.GetAccount(
    { id: 7 },
    {
      timeoutMs: 2000,
      signal,
      metadata: { 'X-Tenant': 'a' },
      onMetadata: (metadata) => {
        node = metadata.get('x-node');
      },
    },
  );
  assert.deepEqual([account.username, node], ['Hello Micro', 'one']);
  assert.deepEqual(log, [
    NAME,
    'UserSrv.GetAccount',
    'unary',
    'a',
    '1',
    'signal',
    'deadline',
    'peer',
  ]);

  for await (const event of users.UserSrv.Watch({})) {
    assert.equal(event.at, 0);
    break;
  }
  const rows = function* () {
    yield { n: 1 };
    yield { n: 2 };
  };
  const { n } = await users.UserSrv.Import(rows());
  assert.equal(n, 3);
  const lines = async function* () {
    yield { text: 'a' };
  };
  const replies = users.UserSrv.Chat(lines());
  for await (const { text } of replies) assert.equal(text, 'a');
  const raw = await service.call(NAME, 'UserSrv.GetAccount', { id: 1 });
  assert.deepEqual(raw, { id: 1, username: 'Hello Micro' });

  const failure: unknown = await users.UserSrv.Search({ text: 'x' }).catch((error) => error);
  assert.ok(failure instanceof Users.UserSrv.Search.errors.TooBroad);
  assert.ok(failure instanceof ServiceError && failure instanceof RivuletError);
  const { id, status, detail, data, sent }: ServiceError<string, { limit: number }> = failure;
  assert.deepEqual([id, status, detail, data.limit, sent], [NAME, 400, 'TooBroad', 100, 'maybe']);

  await userCreated.publish(await service.broker(), { id: 1, username: 'new' });
  assert.equal(await created.promise, 'new');
  assert.deepEqual(service.options.registerTtlMs, { value: 90_000, from: 'code' });
  await service.stop();
});

function deferred() {
  let resolve: (value: unknown) => void = () => {};
  const promise = new Promise<unknown>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

function everythingOf(ctx: CallContext): string[] {
  const { service, endpoint, method, metadata, signal, deadline, peer, attempt } = ctx;
  const logger: Logger = ctx.log;
  logger.info({ key: ctx.idempotencyKey }, 'called');
  assert.ok(metadata instanceof Metadata && ctx.remainingMs() > 0);
  const tenant: string | undefined = metadata.get('x-tenant');
  return [
    service,
    endpoint,
    method,
    tenant ?? '',
    String(attempt),
    signal instanceof AbortSignal ? 'signal' : '',
    deadline instanceof Date ? 'deadline' : '',
    typeof peer.address === 'string' && (peer.service === null || peer.service === NAME)
      ? 'peer'
      : '',
  ];
}

test('a client outside of a service takes URLs, names and instances of each noun', async () => {
  await using service = createService({ ...alone, name: NAME, registry: 'memory:outside' });
  service.server.add('UserSrv.GetAccount', unary(), () => ({ id: 7, username: 'Hello Micro' }));
  await service.start();
  const records = await MemoryRegistry.shared('outside').getService(NAME);
  const chosen: Outcome[] = [];
  const registry: Registry = new Wrapped(records);
  const first: Strategy = { name: 'first', choose: (candidates) => candidates[0] as never };
  const latest: Filter = (services) => services.filter(({ version }) => version === 'latest');
  const selector: Selector = {
    name: 'own',
    select: async (name, { filters = [], key } = {}) => {
      assert.equal(key, 'k');
      let left: readonly ServiceRecord[] = await registry.getService(name);
      for (const filter of filters) left = filter(left as never) as never;
      const node = left[0]?.nodes[0] as Node;
      return () => node;
    },
    mark: (_service, _node, outcome) => void chosen.push(outcome),
    reset: () => {},
    close: async () => {},
  };
  for (const options of [
    { registry, selector: first },
    { registry, selector },
  ] as const) {
    await using users = client(Users, { ...alone, ...options, transport: new Through() });
    const call = { key: 'k', filters: [latest] };
    assert.equal((await users.UserSrv.GetAccount({ id: 7 }, call)).id, 7);
  }
  assert.deepEqual(chosen, [{ result: 'ok' }]);
});

/** A registry of the application, over what it knows. */
class Wrapped implements Registry {
  readonly name = 'wrapped';
  readonly #records: Awaited<ReturnType<Registry['getService']>>;

  constructor(records: Awaited<ReturnType<Registry['getService']>>) {
    this.#records = records;
  }

  async register(_service: ServiceRecord, _options: { ttlMs: number }): Promise<void> {}
  async deregister(_service: ServiceRecord): Promise<void> {}
  async getService(name: string) {
    return this.#records.filter((record) => record.name === name);
  }
  async listServices() {
    return this.#records;
  }
  async *watch(
    _name?: string,
    { signal }: { signal?: AbortSignal } = {},
  ): AsyncIterable<RegistryEvent> {
    await new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve()));
  }
  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A transport of the application: calls of one reply, answered by itself. */
class Through implements Transport {
  readonly name = 'through';

  canDial(_node: Node): boolean {
    return true;
  }

  async listen({ address }: ListenOptions): Promise<Listener> {
    return { address, metadata: {}, close: async () => {} };
  }

  async dial(_node: Node, _options?: DialOptions): Promise<Channel> {
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value));
    return {
      load: 0,
      request: async ({ contentType }: OutgoingCall) => ({
        contentType,
        metadata: {},
        body: encode({ id: 7, username: 'Hello Micro' }),
      }),
      call: (_call: OutgoingCall): Call => assert.fail('no stream is asked for'),
      close: async () => {},
    };
  }
}

test('a .proto loaded at run time is a contract whose requests are unknown', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'design-'));
  const path = join(directory, 'order.proto');
  writeFileSync(
    path,
    `syntax = "proto3";
     message Request { int64 id = 1; }
     message Order { int64 id = 1; string username = 2; }
     service OrderSrv { rpc GetOrder(Request) returns (Order); }`,
  );
  const { OrderSrv } = await loadProto(path);
  assert.ok(OrderSrv !== undefined);
  const Orders = contract('go.micro.api.orderservice', { OrderSrv });
  await using service = createService({
    ...alone,
    name: 'go.micro.api.orderservice',
    registry: 'memory:proto',
  });
  service.handle(Orders, {
    OrderSrv: { GetOrder: (request: unknown) => ({ ...(request as object), username: 'x' }) },
  } as never);
  await service.start();
  const order = await service.call<{ id: bigint; username: string }>(
    'go.micro.api.orderservice',
    'OrderSrv.GetOrder',
    { id: '1' },
  );
  // An int64 is a bigint in types, and a decimal string in JSON.
  assert.deepEqual([String(order.id), order.username], ['1', 'x']);
  rmSync(directory, { recursive: true });
});

test('run lasts until the service stops', async () => {
  const service = createService({ ...alone, registry: 'memory:run' });
  const running = service.run();
  await service.stop();
  await running;
});
