/**
 * A log replayed under another configuration than the one it was written under, and switched in
 * between: the state is the one that wrote the log, to the last node and the last idempotent id.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Replay } from '../../../src/engine/log/replay.ts';
import { streamReplayHandlers } from '../../../src/engine/streams/stream-replay.ts';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer, type InProcessSession } from '../../helpers/in-process-server.ts';
import { seedsOf } from '../../helpers/seed.ts';
import { type RecentIds, randomCommand } from '../random-commands.ts';
import { pictureOf } from '../state-picture.ts';

/** Another process on the same records, its settings those of the configuration file. */
function restarted(
  server: InProcessServer,
  settings: (copy: InProcessServer) => void,
): InProcessServer {
  const copy = new InProcessServer(server.clock.now());
  settings(copy);
  const replay = new Replay(copy.engine, streamReplayHandlers);
  for (const { type, body } of server.journal.records) replay.apply(type, body);
  return copy;
}

const DEFAULTS = (): void => {};
const OTHERS = ({ engine }: InProcessServer): void => {
  engine.nodeLimits.maxEntries = 3;
  engine.nodeLimits.maxBytes = 100;
  engine.idempotencyWindow.duration = 1;
  engine.idempotencyWindow.maxsize = 2;
};

function add(session: InProcessSession, iid: string): unknown {
  return session.call('XADD', 's', 'IDMP', 'p', iid, '*', 'f', 'v');
}

test('nodes end where they ended when the log was written, whatever the limits are now', () => {
  const server = new InProcessServer();
  const session = server.session();
  for (const [maxEntries, entries] of [
    [10, 95],
    [100, 250],
    [7, 40],
    [0, 300],
  ] as const) {
    server.engine.nodeLimits.maxEntries = maxEntries;
    for (let i = 0; i < entries; i++) session.call('XADD', 's', '*', 'f', `${i}`);
    for (const settings of [DEFAULTS, OTHERS]) {
      const copy = restarted(server, settings);
      assert.deepEqual(pictureOf(copy.engine), pictureOf(server.engine));
      // What an approximate trim removes depends on the nodes alone.
      const trim = ['XTRIM', 's', 'MAXLEN', '~', '60', 'LIMIT', '0'] as const;
      const untrimmed = restarted(server, DEFAULTS);
      assert.equal(copy.session().call(...trim), untrimmed.session().call(...trim));
    }
  }
});

test('random commands under limits that change give the same nodes after a restart', (t) => {
  for (const seed of seedsOf(t, 10)) {
    const random = new Random(seed);
    const server = new InProcessServer();
    const session = server.session();
    const recent = new Map<string, string[]>();
    for (let i = 0; i < 500; i++) {
      if (random.chance(0.02)) {
        server.engine.nodeLimits.maxEntries = random.below(30);
        server.engine.nodeLimits.maxBytes = random.pick([0, 200, 4096]);
        server.engine.idempotencyWindow.maxsize = 1 + random.below(5);
      }
      if (random.chance(0.2)) server.advance(random.below(300));
      const args = randomCommand(random, recent as RecentIds);
      const reply = session.call(...args);
      if (args[0] === 'XADD' && typeof reply === 'string') {
        recent.set(String(args[1]), [...(recent.get(String(args[1])) ?? []).slice(-40), reply]);
      }
    }
    server.engine.tick();
    const copy = restarted(server, OTHERS);
    copy.engine.tick();
    assert.deepEqual(pictureOf(copy.engine), pictureOf(server.engine), `seed ${seed}`);
  }
});

test('an idempotent id used again after its window is recognised after a restart too', () => {
  const server = new InProcessServer();
  const session = server.session();
  session.call('XADD', 's', '*', 'f', 'v');
  session.call('XCFGSET', 's', 'IDMP-DURATION', 10);
  const first = add(session, 'i');
  assert.equal(add(session, 'i'), first);
  server.advance(11_000);
  const second = add(session, 'i');
  assert.notEqual(second, first);
  server.advance(2000);
  for (const settings of [DEFAULTS, OTHERS]) {
    const copy = restarted(server, settings);
    assert.equal(add(copy.session(), 'i'), second, 'a duplicate');
    copy.advance(1000);
    assert.equal(add(copy.session(), 'i'), second, 'a duplicate after a tick');
    copy.advance(8000);
    assert.notEqual(add(copy.session(), 'i'), second, 'its window is over');
  }
});

test('a stream keeps the window that it began with, over a change of the setting and a restart', () => {
  const server = new InProcessServer();
  const session = server.session();
  server.engine.idempotencyWindow.duration = 60;
  server.engine.idempotencyWindow.maxsize = 3;
  const ids = ['a', 'b', 'c'].map((iid) => add(session, iid));
  server.engine.idempotencyWindow.duration = 5;
  server.advance(30_000);
  for (const settings of [DEFAULTS, OTHERS]) {
    const copy = restarted(server, settings);
    copy.engine.tick();
    const session = copy.session();
    assert.deepEqual(
      ['a', 'b', 'c'].map((iid) => add(session, iid)),
      ids,
    );
    const fourth = add(session, 'd');
    assert.equal(add(session, 'd'), fourth);
    assert.notEqual(add(session, 'a'), ids[0], 'only three are remembered');
  }
});

test('a duplicate is answered with its id, however large its sequence, and with its name when it is scheduled', () => {
  const server = new InProcessServer();
  const session = server.session();
  const { now } = server.engine;
  session.call('XADD', 's', `${now}-9223372036854775808`, 'f', 'v');
  const high = `${now}-9223372036854775809`;
  assert.equal(add(session, 'high'), high);
  const later = session.call('XADD', 's', 'DELAY', 50_000, 'IDMP', 'p', 'later', '*', 'f', 'v');
  assert.equal(later, 's1');
  for (const each of [server, restarted(server, DEFAULTS)]) {
    const session = each.session();
    assert.equal(add(session, 'high'), high);
    assert.equal(add(session, 'later'), 's1');
    // What DUMP and the checkpoint hold says it too.
    session.call('COPY', 's', 'copy', 'REPLACE');
    assert.equal(session.call('XADD', 'copy', 'IDMP', 'p', 'high', '*', 'f', 'v'), high);
    assert.equal(session.call('XADD', 'copy', 'IDMP', 'p', 'later', '*', 'f', 'v'), 's1');
  }
});

test('the clock set back between two lives forgets no idempotent id', () => {
  const server = new InProcessServer();
  const session = server.session();
  const first = add(session, 'i');
  server.clock.setNow(server.clock.now() - 3_600_000);
  const copy = restarted(server, DEFAULTS);
  copy.engine.tick();
  assert.equal(add(copy.session(), 'i'), first);
});
