/** A service from start to stop: nouns, wrappers, subscriptions, draining, signals. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { createTestBroker } from '../../src/broker/testing.ts';
import { topic } from '../../src/broker/topics/topic.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import type { ClientWrapper, ServerWrapper, SubscriberWrapper } from '../../src/rpc/wrappers.ts';
import { consistentHash } from '../../src/selector/strategies.ts';
import { client } from '../../src/service/client.ts';
import { createService } from '../../src/service/service.ts';
import { createTestService } from '../../src/service/testing.ts';

const Users = contract('users', {
  UserSrv: {
    Get: unary<{ id: number }, { id: number }>(),
    Slow: unary<{ ms: number }, string>({ timeoutMs: 60_000 }),
    Watch: serverStream<{ count: number }, number>(),
  },
});
const handlers = {
  UserSrv: {
    Get: ({ id }: { id: number }) => ({ id }),
    Slow: async () => 'done',
    async *Watch({ count }: { count: number }) {
      for (let n = 0; n < count; n++) yield n;
    },
  },
};
/** Nothing of this process's environment. */
const own = { environment: false, args: false } as const;

test('a client works before the start, and outside of a service', async () => {
  const registry = new MemoryRegistry();
  await using users = createService({ ...own, name: 'users', registry, transport: 'tcp' });
  users.handle(Users, handlers);
  await using caller = createService({ ...own, name: 'caller', registry });
  const early = caller.client(Users);
  await users.start();
  assert.deepEqual(await early.UserSrv.Get({ id: 1 }), { id: 1 });
  await using outside = client(Users, {
    ...own,
    registry,
    transport: 'tcp',
    selector: consistentHash,
  });
  assert.deepEqual(await outside.UserSrv.Get({ id: 2 }, { key: 'a' }), { id: 2 });
  assert.equal(await outside.close(), undefined);
  await assert.rejects(outside.UserSrv.Get({ id: 3 }), { code: 'CLOSED', sent: 'no' });
  assert.equal((await registry.getService('users')).length, 1, 'an instance stays open');
});

test('the name is that of the first contract where no option says another', async () => {
  const service = createService(own).handle(Users, handlers);
  assert.equal(service.name, 'users');
  assert.match(service.nodeId, /^users-/);
  assert.equal(createService(own).name, 'go.micro.server');
  assert.equal(createService({ ...own, id: 'node-1' }).nodeId, 'node-1');
});

test('wrappers run first outermost at the client, the server and around messages', async () => {
  const order: string[] = [];
  const clientWrapper =
    (name: string): ClientWrapper =>
    async (call, next) => {
      order.push(`${name} > ${call.endpoint}`);
      const result = await next();
      order.push(`${name} <`);
      return result;
    };
  const serverWrapper =
    (name: string): ServerWrapper =>
    async (request, context, next) => {
      order.push(`${name} > ${context.endpoint}`);
      const result = await next(request);
      order.push(`${name} <`);
      return result;
    };
  const subscriberWrapper =
    (name: string): SubscriberWrapper =>
    async (delivery, next) => {
      order.push(`${name} > ${delivery.topic}`);
      await next();
      order.push(`${name} <`);
    };
  await using t = await createTestService({
    name: 'users',
    wrap: {
      client: [clientWrapper('c1'), clientWrapper('c2')],
      server: [serverWrapper('s1'), serverWrapper('s2')],
      subscriber: [subscriberWrapper('m1'), subscriberWrapper('m2')],
    },
  });
  t.service.handle(Users, handlers);
  t.service.subscribe('created', () => order.push('handler'), { queue: 'mailer' });
  await t.service.start();
  await t.finish(t.service.client(Users).UserSrv.Get({ id: 1 }));
  const endpoint = 'UserSrv.Get';
  assert.deepEqual(order.splice(0), [
    `c1 > ${endpoint}`,
    `c2 > ${endpoint}`,
    `s1 > ${endpoint}`,
    `s2 > ${endpoint}`,
    's2 <',
    's1 <',
    'c2 <',
    'c1 <',
  ]);
  await t.broker.publish('created', { headers: {}, body: Buffer.from('{}') });
  await t.settle();
  assert.deepEqual(order, ['m1 > created', 'm2 > created', 'handler', 'm2 <', 'm1 <']);
});

test('subscriptions share a queue, take typed topics, settle by themselves or by hand', async () => {
  await using t = await createTestService({ name: 'mailer' });
  const seen: string[] = [];
  const created = topic<{ id: number }>('user.created');
  const other = t.open({ name: 'mailer' });
  for (const [name, service] of [
    ['a', t.service],
    ['b', other],
  ] as const) {
    service.subscribe(created, ({ id }) => seen.push(`${name}${id}`), { queue: 'mailer' });
    service.subscribe('all', () => seen.push(`${name} all`));
  }
  let attempts = 0;
  t.service.subscribe(
    'manual',
    async (delivery) => {
      attempts = delivery.attempt;
      if (delivery.attempt === 2) await delivery.ack();
      else await delivery.nack({ delayMs: 10 });
    },
    { queue: 'q', autoAck: false },
  );
  await t.service.start();
  await other.start();
  for (let id = 0; id < 4; id++) await created.publish(t.broker, { id });
  await t.broker.publish('all', { headers: {}, body: Buffer.from('x') });
  await t.broker.publish('manual', { headers: {}, body: Buffer.from('x') });
  await t.advance(1000);
  assert.equal(seen.filter((each) => /^[ab]\d$/.test(each)).length, 4, seen.join());
  assert.deepEqual(seen.filter((each) => each.endsWith('all')).sort(), ['a all', 'b all']);
  assert.equal(attempts, 2);
  const [record] = await t.registry.getService('mailer');
  const listed = record!.endpoints.find(({ name }) => name === 'user.created');
  assert.deepEqual(
    { ...listed?.metadata },
    {
      subscriber: 'true',
      topic: 'user.created',
      queue: 'mailer',
    },
  );
  // After the start it begins at once, and ends when it is told to.
  const late = t.service.subscribe('late', () => seen.push('late'));
  await late.ready;
  await t.broker.publish('late', { headers: {}, body: Buffer.from('x') });
  await t.settle();
  await t.finish(late.unsubscribe());
  await t.broker.publish('late', { headers: {}, body: Buffer.from('x') });
  await t.advance(1000);
  assert.equal(seen.filter((each) => each === 'late').length, 1);
});

test('a wrong subscription is refused when it is made', async () => {
  const bare = createService({ ...own, registry: 'memory' });
  assert.throws(() => bare.subscribe('t', () => {}), { code: 'FAILED_PRECONDITION' });
  await using t = await createTestService();
  const wrong = { code: 'INVALID_ARGUMENT' };
  assert.throws(() => t.service.subscribe('t', null as never), wrong);
  assert.throws(() => t.service.subscribe('t', () => {}, { autoAck: 'no' as never }), wrong);
  assert.throws(() => t.service.subscribe('t', () => {}, { concurrency: 0 }), wrong);
  assert.throws(() => t.service.subscribe('t', () => {}, { group: 'q' } as never), wrong);
  assert.throws(() => t.service.subscribe('', () => {}), { code: 'TOPIC_ILLEGAL' });
});

test('stop deregisters first, lets calls, streams and messages end, and refuses what is new', async () => {
  await using t = await createTestService({ name: 'caller' });
  const users = t.open({ name: 'users' });
  const done: string[] = [];
  users.handle(Users, {
    UserSrv: {
      ...handlers.UserSrv,
      async Slow({ ms }) {
        await t.pause(ms);
        done.push('call');
        return 'done';
      },
      async *Watch({ count }) {
        for (let n = 0; n < count; n++) {
          await t.pause(100);
          yield n;
        }
        done.push('stream');
      },
    },
  });
  users.subscribe('work', async () => {
    await t.pause(2000);
    done.push('message');
  });
  await users.start();
  const api = t.service.client(Users).UserSrv;
  const call = api.Slow({ ms: 1000 });
  const reading = (async () => {
    const seen: number[] = [];
    for await (const n of api.Watch({ count: 15 })) seen.push(n);
    return seen.length;
  })();
  await t.broker.publish('work', { headers: {}, body: Buffer.from('x') });
  await t.advance(50);
  const stopping = users.stop();
  await t.settle();
  assert.deepEqual(await t.registry.getService('users'), []);
  await assert.rejects(t.finish(api.Get({ id: 1 })), { sent: 'no' });
  await t.finish(stopping);
  assert.equal(await call, 'done');
  assert.equal(await t.finish(reading), 15);
  assert.deepEqual(done.sort(), ['call', 'message', 'stream']);
  await assert.rejects(users.start(), { code: 'CLOSED' });
  await users.stop();
});

test('what does not end is ended when the drain has lasted long enough', async () => {
  await using t = await createTestService({ name: 'caller' });
  const users = t.open({ name: 'users', drainTimeoutMs: 3000 });
  users.handle(Users, {
    UserSrv: { ...handlers.UserSrv, Slow: () => new Promise<string>(() => {}) },
  });
  await users.start();
  const call = t.service.client(Users).UserSrv.Slow({ ms: 1 });
  call.catch(() => {});
  await t.settle();
  const before = t.now().getTime();
  await t.finish(users.stop());
  assert.equal(t.now().getTime() - before, 3000);
});

test('a start that failed can be tried again, and leaves nothing open', async () => {
  await using test = await createTestBroker();
  const registry = new MemoryRegistry();
  let isThere = false;
  const broker = new Proxy(test.broker, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name === 'subscribe' && !isThere) return () => Promise.reject(new Error('not there yet'));
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  await using service = createService({ ...own, name: 'users', broker, registry });
  service.handle(Users, handlers);
  service.subscribe('t', () => {});
  await assert.rejects(service.start(), /not there yet/);
  assert.deepEqual(await registry.getService('users'), []);
  assert.equal(service.health().ready, false);
  isThere = true;
  await service.start();
  assert.equal((await registry.getService('users')).length, 1);
});

test('run lasts until SIGTERM, lets the call in flight end, and exits with 0', async () => {
  const program = `
    const { contract, unary } = await import(${JSON.stringify(new URL('../../src/index.js', import.meta.url))});
    const { createService } = await import(${JSON.stringify(new URL('../../src/index.js', import.meta.url))});
    const Users = contract('users', { UserSrv: { Slow: unary() } });
    const service = createService({ name: 'users', registry: 'memory' });
    service.handle(Users, { UserSrv: { Slow: async () => {
      console.log('handling');
      await new Promise((resolve) => setTimeout(resolve, 300));
      return 'done';
    } } });
    const running = service.run();
    await service.start();
    service.client(Users).UserSrv.Slow().then(console.log);
    await running;
    console.log('stopped', service.health().reasons.join());
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text: string) => {
    output += text;
    if (text.includes('handling')) child.kill('SIGTERM');
  });
  const [code] = await once(child, 'close');
  assert.deepEqual([code, output], [0, 'handling\ndone\nstopped the service is stopping\n']);
});

test('runnables start before the service is called and stop with it', async () => {
  await using t = await createTestService({ name: 'users' });
  const order: string[] = [];
  t.service.add({
    start: async () => void order.push('start'),
    stop: async () => void order.push('stop'),
  });
  await t.service.start();
  assert.throws(() => t.service.add({ start: async () => {}, stop: async () => {} }));
  await t.finish(t.service.stop());
  assert.deepEqual(order, ['start', 'stop']);
});
