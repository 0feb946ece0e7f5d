/**
 * Streams whose blocks are in the checkpoint: what a command and a replayed record ask of it, counted,
 * and what damage does.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checkpointer } from '../../../src/engine/checkpoint/checkpointer.ts';
import { restoreCheckpoint } from '../../../src/engine/checkpoint/restore.ts';
import { Replay } from '../../../src/engine/log/replay.ts';
import { streamReplayHandlers } from '../../../src/engine/streams/stream-replay.ts';
import type { Checkpoint, CheckpointEntry, ScanVisitor } from '../../../src/storage/checkpoint.ts';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../../helpers/memory-checkpoint.ts';

/** Counts what is asked of a checkpoint: every get, seek, and range of keys or entries. */
class CountingCheckpoint extends MemoryCheckpoint implements Checkpoint {
  asked = 0;

  override get(key: Uint8Array): Buffer | undefined {
    this.asked++;
    return super.get(key);
  }

  override seekForward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined {
    this.asked++;
    return super.seekForward(key, limit);
  }

  override seekBackward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined {
    this.asked++;
    return super.seekBackward(key, limit);
  }

  override keys(from: Uint8Array, to: Uint8Array, visit: (key: Buffer) => void): void {
    this.asked++;
    super.keys(from, to, visit);
  }

  override scan(from: Uint8Array, to: Uint8Array, visit: ScanVisitor): void {
    this.asked++;
    super.scan(from, to, visit);
  }
}

interface Opened {
  readonly server: InProcessServer;
  readonly checkpoint: CountingCheckpoint;
  readonly checkpointer: Checkpointer;
}

/** What a process sees that opens this store. */
function open(store: MemoryCheckpointStore): Opened {
  const server = new InProcessServer();
  const checkpoint = new CountingCheckpoint(store);
  server.engine.nodeLimits.maxEntries = 10;
  const checkpointer = server.engine.attachCheckpoint({
    checkpoint,
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
  restoreCheckpoint(server.engine, checkpointer);
  return { server, checkpoint, checkpointer };
}

/** A store with a stream `s` of so many entries 1-1, 2-1, ... and a group that has read nothing. */
async function stored(entries: number): Promise<MemoryCheckpointStore> {
  const store = new MemoryCheckpointStore();
  const { server, checkpointer } = open(store);
  const session = server.session();
  for (let i = 1; i <= entries; i++) session.call('XADD', 's', `${i}-1`, 'f', `v${i}`);
  session.call('XGROUP', 'CREATE', 's', 'g', '0');
  session.call('SET', 'other', 'value');
  await checkpointer.write();
  return store;
}

test('each command on a cold stream, and its record replayed, asks a fixed number of things', async () => {
  const entries = 6000;
  const store = await stored(entries);
  const { server, checkpoint } = open(store);
  const session = server.session();
  let next = entries + 1;
  const commands: (() => (string | number)[])[] = [
    () => ['XADD', 's', 'MAXLEN', '~', '5000', `${next++}-1`, 'f', 'v'],
    () => ['XADD', 's', 'MAXLEN', '=', '4900', `${next++}-1`, 'f', 'v'],
    () => ['XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 3, 'STREAMS', 's', '>'],
    () => ['XDEL', 's', `${1 + ((next * 7919) % entries)}-1`],
    () => ['XDEL', 's', `${next - 4000}-1`, `${next - 3999}-1`],
    () => ['XRANGE', 's', `${(next * 31) % entries}-0`, '+', 'COUNT', 5],
    () => ['XREVRANGE', 's', '+', '-', 'COUNT', 5],
    () => ['XREVRANGE', 's', `${(next * 131) % entries}-0`, '-', 'COUNT', 2],
    () => ['XTRIM', 's', 'MINID', `${next - 4950}-0`],
    () => ['XLEN', 's'],
    () => ['XINFO', 'STREAM', 's'],
  ];
  let most = 0;
  for (let i = 0; i < 2600; i++) {
    const command = commands[i % commands.length]();
    const before = checkpoint.asked;
    const reply = session.call(...command);
    assert.ok(!(reply instanceof Error), `${command.join(' ')}: ${reply}`);
    const asked = checkpoint.asked - before;
    // The first trims remove a sixth of the stream, block by block; a section goes unread.
    const limit = i < commands.length ? 200 : 8;
    assert.ok(asked <= limit, `${i} ${command.join(' ')} asked ${asked} times`);
    if (i >= commands.length) most = Math.max(most, asked);
  }
  assert.ok(most > 0, 'nothing was cold');

  const again = open(store);
  const replay = new Replay(again.server.engine, streamReplayHandlers);
  const { records } = server.journal;
  let inFirst = 0;
  for (const [i, { type, body }] of records.entries()) {
    const before = again.checkpoint.asked;
    replay.apply(type, body);
    const asked = again.checkpoint.asked - before;
    if (asked > 8) inFirst++;
    assert.ok(asked <= 200, `record ${i} of type ${type} asked ${asked} times`);
  }
  assert.ok(
    records.length > 1000 && inFirst <= 3,
    `${inFirst} of ${records.length} asked for much`,
  );
  const all = ['XRANGE', 's', '-', '+'] as const;
  assert.deepEqual(again.server.session().call(...all), session.call(...all));
});

test('a trim by ACKED leaves cold what it does not change', async () => {
  const store = await stored(1000);
  const { server, checkpoint, checkpointer } = open(store);
  const session = server.session();
  const trim = ['XTRIM', 's', 'MAXLEN', 10, 'ACKED'] as const;
  const stream = () => {
    const value = server.engine.databases[0].findKey(Buffer.from('s'))?.value;
    assert.ok(value?.type === 'stream');
    return value.stream;
  };
  // The group has read nothing: the first entry decides.
  assert.equal(session.call(...trim), 0);
  assert.ok(checkpoint.asked < 10, `${checkpoint.asked}`);
  assert.equal(stream().coldCount, 100);
  // It has read all and acknowledged nothing.
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  assert.equal(session.call(...trim), 0);
  assert.equal(stream().coldCount, 100);
  // Two entries of one block may go.
  session.call('XACK', 's', 'g', '501-1', '503-1');
  assert.equal(session.call(...trim), 2);
  assert.equal(stream().coldCount, 99);
  assert.deepEqual(
    (session.call('XRANGE', 's', '500', '505') as [string, unknown][]).map(([id]) => id),
    ['500-1', '502-1', '504-1', '505-1'],
  );
  // And after the next checkpoint and a restart.
  await checkpointer.write();
  const again = open(store).server.session();
  assert.equal(again.call('XLEN', 's'), 998);
  assert.equal((again.call('XRANGE', 's', '-', '+') as unknown[]).length, 998);
});

test('a checkpoint that has lost keys is refused, whichever they are', async () => {
  for (const which of [0, 1]) {
    const store = await stored(100);
    const keys = store.entries.filter(({ key }) => key[0] === 0x6b);
    assert.equal(keys.length, 2);
    store.entries = store.entries.filter((entry) => entry !== keys[which]);
    assert.throws(() => open(store), /1 keys in it and was stored with 2/);
  }
});

test('a read of several streams gives what it delivered before it meets damage in a later one', async () => {
  for (const protocol of [2, 3] as const) {
    for (const command of ['XREADGROUP', 'XREAD', 'CLAIM']) {
      const store = new MemoryCheckpointStore();
      {
        const { server, checkpointer } = open(store);
        const session = server.session();
        for (const key of ['a', 'b', 'c']) {
          for (let i = 1; i <= 25; i++) session.call('XADD', key, `${i}-1`, 'f', `${key}${i}`);
          session.call('XGROUP', 'CREATE', key, 'g', '0');
          if (command === 'CLAIM')
            session.call('XREADGROUP', 'GROUP', 'g', 'old', 'STREAMS', key, '>');
        }
        await checkpointer.write();
      }
      // The second block of `b` is gone: its section cannot be read.
      const blocks = store.entries.filter(({ key }) => key[0] === 0x62);
      const ofB = blocks.filter(
        ({ key }) => key.readUInt32BE(5) === blocks[3]?.key.readUInt32BE(5),
      );
      store.entries = store.entries.filter((entry) => entry !== ofB[1]);
      const { server } = open(store);
      const session = server.session(protocol);
      const read = (...keys: string[]): (string | number)[] => {
        if (command === 'XREAD') return ['XREAD', 'STREAMS', ...keys, ...keys.map(() => '0')];
        const claim = command === 'CLAIM' ? ['CLAIM', 0] : [];
        const of = ['XREADGROUP', 'GROUP', 'g', 'me', ...claim, 'STREAMS'];
        return [...of, ...keys, ...keys.map(() => '>')];
      };
      const found = session.call(...read('a', 'b', 'c')) as Value;
      const [[name, entries], ...more] = (
        found instanceof Map ? [...found] : (found as Value[])
      ) as [string, Value[]][];
      assert.deepEqual([name, entries.length, more.length], ['a', 25, 0], `${command} ${protocol}`);
      assert.throws(
        () => session.call(...read('b', 'c')),
        /missing|are not there|not there|damaged/,
      );
      assert.ok(!(session.call('XLEN', 'c') instanceof Error));
    }
  }
});

test('what cold blocks add to the count of tree nodes is gone when the last one is resident', async () => {
  const store = await stored(600);
  const never = new InProcessServer();
  never.engine.nodeLimits.maxEntries = 10;
  const warm = never.session();
  for (let i = 1; i <= 600; i++) warm.call('XADD', 's', `${i}-1`, 'f', `v${i}`);
  const cold = open(store).server.session();
  // One entry of each block.
  for (const session of [warm, cold]) {
    for (let i = 5; i <= 600; i += 10) session.call('XDEL', 's', `${i}-1`);
  }
  const nodesOf = (session: typeof warm): Value | undefined => {
    const info = session.call('XINFO', 'STREAM', 's') as Value[];
    return info[info.indexOf('radix-tree-nodes') + 1];
  };
  assert.equal(nodesOf(cold), nodesOf(warm));
});

test('a trim by ACKED removes what every group has acknowledged without reading it', async () => {
  const entries = 6000;
  const store = await stored(entries);
  const { server, checkpoint } = open(store);
  const session = server.session();
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 5555, 'STREAMS', 's', '>');
  const ids = Array.from({ length: 5549 }, (_, i) => `${i + 1}-1`);
  session.call('XACK', 's', 'g', ...ids);
  checkpoint.asked = 0;
  assert.equal(session.call('XTRIM', 's', 'MAXLEN', 0, 'ACKED'), 5549);
  // Whole sections go unread; of the one that the trim ends in, its blocks are read.
  assert.ok(checkpoint.asked < 100, `${checkpoint.asked} things asked`);
  assert.equal(session.call('XLEN', 's'), entries - 5549);
  assert.deepEqual(
    (session.call('XRANGE', 's', '-', '+', 'COUNT', 1) as Value[][])[0]![0],
    '5550-1',
  );
});
