/**
 * What the compiler infers of a contract, and what it refuses.
 *
 * Most of this file is checked when it is compiled: an `@ts-expect-error` above a line that compiles is
 * an error of the build. The tests run what a type cannot say.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { topic } from '../../src/broker/topics/topic.ts';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import type { ErrorsOf } from '../../src/rpc/contract.ts';
import { bidi, clientStream, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import type { ReplyStream } from '../../src/rpc/handlers.ts';
import { errorType, ServiceError } from '../../src/rpc/service-error.ts';
import { client } from '../../src/service/client.ts';
import { createService } from '../../src/service/service.ts';

type Equal<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles only for `true`. */
function holds<T extends true>(): T {
  return true as T;
}

interface Account {
  readonly id: number;
  readonly username: string;
}

function schema<T>(check: (value: unknown) => value is T): StandardSchema<unknown, T> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => (check(value) ? { value } : { issues: [{ message: 'no' }] }),
    },
  };
}
const Query = schema((value): value is { text: string } => typeof value === 'object');
const Page = schema((value): value is { rows: string[] } => typeof value === 'object');
const Limit = schema((value): value is { limit: number } => typeof value === 'object');

const Users = contract('users', {
  UserSrv: {
    GetAccount: unary<{ id: number }, Account>(),
    Search: unary({ request: Query, response: Page, errors: { TooBroad: Limit } }),
    Remove: unary<
      { id: number },
      undefined,
      { Gone: ReturnType<typeof errorType<{ at: string }>> }
    >({
      errors: { Gone: errorType<{ at: string }>({ status: 410 }) },
    }),
    Ping: unary(),
    Watch: serverStream<{ from: number }, { event: string }>(),
    Import: clientStream<Account, { count: number }>(),
    Chat: bidi<string, number>(),
  },
});

const own = { environment: false, args: false, registry: 'memory' } as const;
const handlers = {
  UserSrv: {
    GetAccount: ({ id }: { id: number }) => ({ id, username: 'a' }),
    Search: () => ({ rows: [] as string[] }),
    Remove: () => undefined,
    Ping: () => undefined,
    async *Watch() {
      yield { event: 'x' };
    },
    Import: async () => ({ count: 0 }),
    async *Chat(lines: AsyncIterable<string>) {
      for await (const line of lines) yield line.length;
    },
  },
};

test('requests, replies and streams of a client are those of the contract', () => {
  const users = createService(own).client(Users).UserSrv;
  holds<Equal<Parameters<typeof users.GetAccount>[0], { id: number }>>();
  holds<Equal<ReturnType<typeof users.GetAccount>, Promise<Account>>>();
  holds<Equal<Parameters<typeof users.Search>[0], { text: string }>>();
  holds<Equal<ReturnType<typeof users.Search>, Promise<{ rows: string[] }>>>();
  holds<Equal<ReturnType<typeof users.Watch>, ReplyStream<{ event: string }>>>();
  holds<Equal<ReturnType<typeof users.Import>, Promise<{ count: number }>>>();
  holds<Equal<ReturnType<typeof users.Chat>, ReplyStream<number>>>();
  const outside = client(Users, own).UserSrv;
  holds<Equal<ReturnType<typeof outside.GetAccount>, Promise<Account>>>();
  const refused = () => {
    // @ts-expect-error a request of another type
    users.GetAccount({ id: 'seven' });
    // @ts-expect-error no request
    users.GetAccount();
    // @ts-expect-error a method that is not there
    users.GetAcount({ id: 7 });
    // @ts-expect-error an option that is not there
    users.GetAccount({ id: 7 }, { timeout: 5 });
    // @ts-expect-error items of another type
    users.Import([{ id: 'x' }]);
    // @ts-expect-error a struct that is not there
    createService(own).client(Users).UsrSrv;
  };
  assert.equal(typeof refused, 'function');
  assert.equal(typeof users.Ping, 'function');
});

test('typed errors are inferred with their data', () => {
  const { Search, Remove, GetAccount } = Users.UserSrv;
  type SearchErrors = ErrorsOf<typeof Search>;
  holds<Equal<SearchErrors, ServiceError<'TooBroad', { limit: number }>>>();
  holds<Equal<ErrorsOf<typeof GetAccount>, never>>();
  const error: unknown = new Search.errors.TooBroad({ limit: 100 });
  if (!(error instanceof Search.errors.TooBroad)) throw new Error('it is one');
  holds<Equal<typeof error.data, { limit: number }>>();
  assert.deepEqual([error.data.limit, error.errorName, error.status], [100, 'TooBroad', 400]);
  const gone = new Remove.errors.Gone({ at: 'noon' });
  holds<Equal<typeof gone.data, { at: string }>>();
  assert.deepEqual([gone.status, gone instanceof ServiceError], [410, true]);
  const refused = () => {
    // @ts-expect-error data of another type
    new Search.errors.TooBroad({ limit: 'x' });
    // @ts-expect-error no data
    new Search.errors.TooBroad();
    // @ts-expect-error an error that is not there
    new Search.errors.TooNarrow();
  };
  assert.equal(typeof refused, 'function');
});

test('a missing, misnamed or wrong handler is an error of the compiler and of the start', () => {
  const service = () => createService(own);
  const { GetAccount: _, ...missing } = handlers.UserSrv;
  // @ts-expect-error GetAccount is missing
  assert.throws(() => service().handle(Users, { UserSrv: missing }), /UserSrv\.GetAccount/);
  const misnamed = { ...missing, GetAcount: handlers.UserSrv.GetAccount };
  // @ts-expect-error GetAccount is misnamed
  assert.throws(() => service().handle(Users, { UserSrv: misnamed }), /GetAccount/);
  // @ts-expect-error the struct is misnamed
  assert.throws(() => service().handle(Users, { UsrSrv: handlers.UserSrv }), /UsrSrv/);
  const wrong = { ...handlers.UserSrv, GetAccount: () => ({ id: 'x' }) };
  // @ts-expect-error a reply of another type
  service().handle(Users, { UserSrv: wrong });
  service().handle(Users, {
    UserSrv: {
      ...handlers.UserSrv,
      GetAccount(request, context) {
        holds<Equal<typeof request, { id: number }>>();
        holds<Equal<ReturnType<typeof context.remainingMs>, number>>();
        return { id: request.id, username: context.peer.service ?? '' };
      },
    },
  });
});

test('a subscription takes a name with a delivery, or a topic with its value', () => {
  const service = createService({ ...own, broker: 'memory:' });
  const created = topic<{ id: number }>('created');
  service.subscribe(created, (value, delivery) => {
    holds<Equal<typeof value, { id: number }>>();
    return delivery.topic;
  });
  service.subscribe('created', (delivery) => delivery.attempt, { queue: 'q', autoAck: false });
  const refused = () => {
    // @ts-expect-error the broker's own word for a queue
    service.subscribe('created', () => {}, { group: 'q' });
    // @ts-expect-error a handler of another value
    service.subscribe(created, (value: { id: string }) => value);
  };
  assert.equal(typeof refused, 'function');
});
