/**
 * `broker.journal` on every broker that has one: a commit is conditional, whole, and reported to
 * watchers.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect as dial } from 'node:net';
import { test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import type { JournalCommit, JournalStore, JournalTask } from '../../src/broker/journal.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

let tokens = 0;
const commit = (journal: JournalStore, given: Partial<JournalCommit>) =>
  journal.commit({ key: 'wf:{a}:j:1', last: '0-0', records: [], token: `t${tokens++}`, ...given });

interface Place extends AsyncDisposable {
  readonly broker: Broker;
}

const places: Record<string, () => Promise<Place>> = {
  memory: async () => {
    const broker = await openBroker('memory:');
    return { broker, [Symbol.asyncDispose]: () => broker.disconnect() };
  },
  file: async () => {
    const directory = temporaryDirectory('journal');
    const broker = await openBroker(`file:${directory.path}`);
    return {
      broker,
      async [Symbol.asyncDispose]() {
        await broker.disconnect();
        await directory[Symbol.asyncDispose]();
      },
    };
  },
  rivulet: async () => {
    const server = await startRivulet();
    const broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
    return {
      broker,
      async [Symbol.asyncDispose]() {
        await broker.disconnect();
        await server[Symbol.asyncDispose]();
      },
    };
  },
};

if (missing('redis-server') === false) {
  places.redis = async () => {
    const server = await startRedis();
    const broker = await openBroker(`redis://127.0.0.1:${server.port}`);
    return {
      broker,
      async [Symbol.asyncDispose]() {
        await broker.disconnect();
        await server[Symbol.asyncDispose]();
      },
    };
  };
}

for (const [name, open] of Object.entries(places)) {
  test(`${name}: a commit happens where its condition holds, with all of its effects`, async () => {
    await using place = await open();
    const journal = place.broker.journal as JournalStore;
    assert.equal(place.broker.capabilities.journal, 'atomic');
    const key = 'wf:{a}:j:1';
    const first = await commit(journal, {
      records: [{ t: 'start', d: '{"ä":1}' }, { t: 'more' }],
      effects: [
        { kind: 'add', key: 'wf:{a}:v1', fields: ['body', 'x'] },
        { kind: 'add', key: 'wf:{a}:v1', fields: ['body', 'later'], delayMs: 60_000 },
        { kind: 'add', key: 'nowhere', fields: ['a', 'b'], onlyIfThere: true },
      ],
    });
    assert.ok(first !== null);
    assert.equal(first.ids.length, 2);
    assert.match(first.added[0] as string, /^\d+-\d+$/);
    assert.match(first.added[1] as string, /^s./);
    assert.equal(first.added[2], null);
    assert.equal(await commit(journal, { records: [{ t: 'again' }] }), null);
    const also = [{ key: 'wf:{a}:j:2', last: '5-5' }];
    const last = first.ids[1] as string;
    assert.equal(await commit(journal, { last, records: [{ t: 'x' }], also }), null);
    const read = await journal.read(key);
    assert.deepEqual(
      read.map(({ id, fields }) => [id, fields.t, fields.d]),
      [
        [first.ids[0], 'start', '{"ä":1}'],
        [last, 'more', undefined],
      ],
    );
    assert.deepEqual(
      (await journal.read(key, { after: first.ids[0] as string })).map(({ id }) => id),
      [last],
    );
    const newest = await journal.read(key, { newestFirst: true, limit: 1 });
    assert.deepEqual(
      newest.map(({ id }) => id),
      [last],
    );
    const next = await commit(journal, {
      last,
      restart: true,
      records: [{ t: 'afresh' }],
      effects: [
        { kind: 'unschedule', key: 'wf:{a}:v1', name: first.added[1] as string },
        { kind: 'delete', key: 'wf:{a}:v1', ids: [first.added[0] as string] },
      ],
    });
    assert.ok(next !== null);
    assert.equal(await journal.length(key), 1);
    assert.equal(await journal.length('wf:{a}:v1'), 0);
    assert.deepEqual(await journal.keys('wf:{a}:j:*'), [key]);
    await journal.remove([key]);
    assert.deepEqual(await journal.read(key), []);
  });

  test(`${name}: a task that a commit acknowledges is gone and makes room`, async () => {
    await using place = await open();
    const journal = place.broker.journal as JournalStore;
    const queue = 'wf:{a}:v1';
    const tasks: JournalTask[] = [];
    let arrived = () => {};
    const subscriber = await journal.consume(
      queue,
      (task) => {
        tasks.push(task);
        arrived();
      },
      { group: 'workers', ack: 'manual', concurrency: 4, maxInFlight: 1, from: 'earliest' },
    );
    const next = () =>
      new Promise<JournalTask>((resolve) => {
        arrived = () => {
          const task = tasks.shift();
          if (task !== undefined) resolve(task);
        };
        arrived();
      });
    for (let i = 0; i < 3; i++) {
      await journal.apply([{ kind: 'add', key: queue, fields: ['body', String(i)] }]);
    }
    for (let i = 0; i < 3; i++) {
      const task = await next();
      assert.equal(Buffer.from(task.message.body).toString(), String(i));
      const done = await commit(journal, {
        key: `j${i}`,
        records: [{ t: 'done' }],
        effects: [{ kind: 'ack', key: queue, group: 'workers', id: task.id }],
      });
      assert.ok(done !== null);
      task.settledByCommit();
    }
    assert.deepEqual(await journal.queue(queue, 'workers'), { waiting: 0, pending: 0 });
    assert.equal(await journal.length(queue), 0);
    assert.equal(subscriber.inFlight, 0);
    assert.equal(await journal.queue(queue, 'others'), null);
  });

  test(`${name}: watchers of a key are notified of each commit until they stop`, async () => {
    await using place = await open();
    const journal = place.broker.journal as JournalStore;
    let told = 0;
    let whenTold = () => {};
    const end = await journal.watch('wf:{a}:j:1', () => {
      told++;
      whenTold();
    });
    const one = new Promise<void>((resolve) => {
      whenTold = resolve;
    });
    const first = await commit(journal, { records: [{ t: 'start' }] });
    await one;
    end();
    await commit(journal, { last: first?.ids[0] as string, records: [{ t: 'x' }] });
    await journal.read('wf:{a}:j:1');
    assert.equal(told, 1);
  });
}

test('rivulet: a commit whose reply is lost happens once and is answered as committed', async () => {
  await using server = await startRivulet();
  let cut = false;
  const proxy = createServer((client) => {
    const upstream = dial(server.port, '127.0.0.1');
    client.on('error', () => {});
    upstream.on('error', () => {});
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    client.on('data', (bytes) => {
      if (bytes.includes('IFLAST') && cut) {
        cut = false;
        // The server receives it; the client never receives the answer.
        upstream.removeAllListeners('data');
        upstream.once('data', () => client.destroy());
      }
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => client.write(bytes));
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as { port: number };
  await using broker = await openBroker(`rivulet://127.0.0.1:${port}`);
  const journal = broker.journal as JournalStore;
  cut = true;
  const reply = await commit(journal, { records: [{ t: 'start' }] });
  assert.equal(cut, false, 'the reply was cut off');
  const entries = await journal.read('wf:{a}:j:1');
  assert.deepEqual(
    entries.map(({ id }) => id),
    reply?.ids,
  );
  proxy.close();
});
