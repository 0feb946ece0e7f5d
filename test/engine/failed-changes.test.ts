/**
 * Exceptions at any allocation of a record: either nothing was changed, or the log takes no more; what
 * the log holds always replays, and gives the memory of the last change that was recorded.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../src/util/random.ts';
import { InProcessServer, type MemoryJournal } from '../helpers/in-process-server.ts';
import { seedsOf } from '../helpers/seed.ts';
import { randomCommand } from './random-commands.ts';
import { pictureOf, scheduleOf } from './state-picture.ts';

class NoMemory extends Error {}

/** Throws in the middle of the record whose turn it is. */
function breakRecord(journal: MemoryJournal, left: number): void {
  const begin = journal.begin.bind(journal);
  journal.begin = (type) => {
    const writer = begin(type);
    if (left-- > 0) return writer;
    writer.ensure = () => {
      delete (writer as { ensure?: unknown }).ensure;
      throw new NoMemory('Array buffer allocation failed');
    };
    return writer;
  };
}

function sameAsReplayed(server: InProcessServer): boolean {
  const copy = server.replayed();
  try {
    assert.deepEqual(pictureOf(copy.engine), pictureOf(server.engine));
    assert.deepEqual(scheduleOf(copy.engine), scheduleOf(server.engine));
    return true;
  } catch {
    return false;
  }
}

test('a change that cannot be recorded ends the recording, and the log replays', (t) => {
  let ended = 0;
  for (const seed of seedsOf(t, 60)) {
    const random = new Random(seed);
    const server = new InProcessServer();
    const session = server.session();
    breakRecord(server.journal, random.below(250));
    for (let i = 0; i < 300 && server.journal.failure === null; i++) {
      if (random.chance(0.2)) server.advance(random.below(300));
      if (server.journal.failure !== null) break;
      try {
        session.call(...randomCommand(random, new Map()));
      } catch (error) {
        server.engine.onUnexpectedError(error);
        assert.ok(error instanceof NoMemory, String((error as Error).stack));
        assert.notEqual(server.journal.failure, null, `seed ${seed}: it goes on`);
      }
    }
    // Replaying throws where a record does not fit.
    server.replayed();
    if (server.journal.failure !== null) ended++;
  }
  assert.ok(ended > 30, `${ended} of 60 met the failure`);
});

test('an exception before anything was changed lets the server go on', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', '*', 'f', 'v');
  session.call('XTRIM', 's', 'MAXLEN', 100);
  // A trim that removes nothing looks at the stream and records nothing.
  server.engine.onUnexpectedError(new Error('a bug of a later command'));
  assert.equal(server.journal.failure, null);
  session.call('SET', 'a', 'b');
  server.engine.onUnexpectedError(new Error('a bug behind a recorded change'));
  assert.equal(server.journal.failure, null);
  assert.ok(sameAsReplayed(server));
});

test('a tick goes on when one of its duties throws, and reports it', () => {
  const server = new InProcessServer();
  const { engine } = server;
  const session = server.session();
  session.call('SET', 'k', 'v', 'PX', 100);
  session.call('XADD', 's', 'DELAY', 100, '*', 'f', 'v');
  const reported: string[] = [];
  engine.onFailure = (what, error) => reported.push(`${what}: ${(error as Error).message}`);
  engine.memory.tick = () => {
    throw new Error('cannot read');
  };
  server.advance(200);
  assert.deepEqual(reported, ['keeping to the memory budget: cannot read']);
  assert.equal(engine.statistics.troubles, 1);
  assert.equal(session.call('DBSIZE'), 1);
  assert.equal(session.call('XLEN', 's'), 1);
});

test('a scheduled entry that cannot be added is set aside: the others come, and a checkpoint keeps it', async () => {
  const server = new InProcessServer();
  const { engine } = server;
  const session = server.session();
  session.call('XADD', 's', 'DELAY', 100, '*', 'n', 1);
  session.call('XADD', 's', 'DELAY', 200, '*', 'n', 2);
  session.call('XADD', 's', 'DELAY', 300, '*', 'n', 3);
  const broken = engine.databases[0]?.keyspace.schedule.get(2);
  broken?.body.fill(0xff);
  const reported: string[] = [];
  engine.onFailure = (what) => reported.push(what);
  const { MemoryCheckpoint, MemoryCheckpointStore } = await import(
    '../helpers/memory-checkpoint.ts'
  );
  const checkpoint = new MemoryCheckpoint(new MemoryCheckpointStore());
  const checkpointer = engine.attachCheckpoint({
    checkpoint,
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
  for (let i = 0; i < 5; i++) server.advance(1000);
  assert.equal(session.call('XLEN', 's'), 2);
  assert.deepEqual(reported, ['adding the scheduled entry s2']);
  assert.equal(engine.statistics.setAside, 1);
  assert.equal(engine.nextDeadline(), Number.POSITIVE_INFINITY);
  assert.equal(server.journal.failure, null);
  await checkpointer.write();
  assert.equal(session.call('XSCHEDULE', 'CANCEL', 's', 's2'), 1);
  assert.deepEqual(scheduleOf(engine), []);
});
