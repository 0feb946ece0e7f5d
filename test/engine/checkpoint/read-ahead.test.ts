/**
 * Cold blocks that are read before a command runs: the command then reads none, and what others change
 * meanwhile is never lost.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checkpointer } from '../../../src/engine/checkpoint/checkpointer.ts';
import { type ReadAhead, readAhead } from '../../../src/engine/checkpoint/read-ahead.ts';
import { restoreCheckpoint } from '../../../src/engine/checkpoint/restore.ts';
import { neededToTrim } from '../../../src/engine/streams/stream-entries.ts';
import { pendingListsOf, type StreamValue } from '../../../src/engine/streams/stream-value.ts';
import { IdList } from '../../../src/stream/id-list.ts';
import { StreamId } from '../../../src/stream/stream-id.ts';
import { TrimRule } from '../../../src/stream/trim.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../../helpers/memory-checkpoint.ts';

const BLOCKS = 600;
const ENTRIES = BLOCKS * 10;

interface Opened {
  readonly server: InProcessServer;
  readonly checkpointer: Checkpointer;
  readonly session: ReturnType<InProcessServer['session']>;
  value(key?: string): StreamValue;
}

function open(store: MemoryCheckpointStore): Opened {
  const server = new InProcessServer();
  server.engine.nodeLimits.maxEntries = 10;
  const checkpointer = server.engine.attachCheckpoint({
    checkpoint: new MemoryCheckpoint(store),
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
  restoreCheckpoint(server.engine, checkpointer);
  const value = (key = 's') =>
    server.engine.databases[0]!.findKey(Buffer.from(key))!.value as StreamValue;
  return { server, checkpointer, session: server.session(), value };
}

/** A stream `s` of ENTRIES entries 1-1, 2-1, ..., all cold; a group has them pending. */
async function cold(): Promise<Opened> {
  const store = new MemoryCheckpointStore();
  const { checkpointer, session } = open(store);
  for (let i = 1; i <= ENTRIES; i++) session.call('XADD', 's', `${i}-1`, 'f', `v${i}`);
  session.call('XGROUP', 'CREATE', 's', 'g', '0');
  session.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  await checkpointer.write();
  return open(store);
}

/** Reads one block and stops, as a slice that is over at once. */
function slices(ahead: ReadAhead, most = Number.POSITIVE_INFINITY): number {
  let count = 0;
  while (!ahead.isDone && count < most) {
    ahead.step(() => true);
    count++;
  }
  return count;
}

function begin(opened: Opened, ids?: IdList): ReadAhead {
  const value = opened.value();
  const pending = pendingListsOf(value);
  const ahead = readAhead({ stream: value.stream, pending, ...(ids && { ids }) });
  assert.ok(ahead !== null);
  return ahead;
}

test('COPY, a trim by ACKED and deletions read no block when all were read ahead', async () => {
  const ids = Array.from({ length: BLOCKS }, (_, i) => `${i * 10 + 5}-1`);
  const commands: [command: string[], ids?: string[]][] = [
    [['COPY', 's', 'd']],
    [['XTRIM', 's', 'MAXLEN', '0', 'ACKED']],
    [['XDELEX', 's', 'KEEPREF', 'IDS', String(ids.length), ...ids], ids],
    [['XACKDEL', 's', 'g', 'IDS', String(ids.length), ...ids], ids],
  ];
  for (const [command, wanted] of commands) {
    const opened = await cold();
    const list = wanted && new IdList();
    for (const id of wanted ?? []) list?.push(idOf(id));
    const ahead = begin(opened, list);
    assert.ok(slices(ahead) >= BLOCKS);
    const { blocks } = opened.checkpointer;
    const read = blocks.reads;
    assert.ok(read >= BLOCKS);
    opened.session.call(...command);
    assert.equal(blocks.reads, read, command[0]);
    ahead.end();
    assert.equal(blocks.aheadBytes, 0);
    assert.equal(blocks.ahead.size, 0);
    opened.session.call('XRANGE', 's', '-', '+', 'COUNT', 1);
  }
});

test('what others change while blocks are read is in the copy', async () => {
  const changes: [string, ...(string | number)[]][] = [
    ['XDEL', 's', '5-1', '15-1', '3005-1', '5995-1'],
    ['XTRIM', 's', 'MAXLEN', ENTRIES - 25],
    ['XTRIM', 's', 'MAXLEN', 100],
    ['XADD', 's', '99999-1', 'f', 'new'],
    ['XACK', 's', 'g', '3-1', '4001-1'],
    ['DEL', 's'],
    ['RENAME', 's', 't'],
  ];
  for (const change of changes) {
    for (const after of [1, BLOCKS / 2, BLOCKS + 20]) {
      const opened = await cold();
      const { session, checkpointer } = opened;
      const ahead = begin(opened);
      slices(ahead, after);
      session.call(...change);
      if (after === BLOCKS / 2) await checkpointer.write();
      slices(ahead);
      const name = change[0] === 'RENAME' ? 't' : 's';
      const copied = session.call('COPY', name, 'd');
      ahead.end();
      assert.equal(copied, change[0] === 'DEL' ? 0 : 1);
      const said = `${change.join(' ')} after ${after}`;
      const all = (key: string) => session.call('XRANGE', key, '-', '+');
      assert.deepEqual(all('d'), all(name), said);
      const pending = (key: string) => session.call('XPENDING', key, 'g', '-', '+', ENTRIES);
      if (copied === 1) assert.deepEqual(pending('d'), pending(name), said);
    }
  }
});

test('blocks that were read ahead and changed, stored and evicted since are read again', async () => {
  const opened = await cold();
  const { session, checkpointer } = opened;
  const ahead = begin(opened);
  slices(ahead);
  session.call('XDEL', 's', '5-1', '2005-1');
  await checkpointer.write();
  assert.equal(checkpointer.blocks.aheadBytes, 0);
  opened.value().stream.evictOldest(Number.POSITIVE_INFINITY);
  // It begins again; what was stored by then is what the command sees.
  slices(ahead);
  session.call('COPY', 's', 'd');
  ahead.end();
  assert.equal(session.call('XLEN', 'd'), ENTRIES - 2);
  assert.deepEqual(session.call('XRANGE', 'd', '2005-1', '2005-1'), []);
});

test('one read ahead may end while another of the same stream goes on', async () => {
  const opened = await cold();
  const one = begin(opened);
  const other = begin(opened);
  slices(one);
  slices(other, 20);
  one.end();
  assert.equal(opened.checkpointer.blocks.ahead.size, 1);
  slices(other);
  const { blocks } = opened.checkpointer;
  const read = blocks.reads;
  opened.session.call('COPY', 's', 'd');
  assert.equal(blocks.reads, read);
  other.end();
  assert.equal(blocks.aheadBytes, 0);
});

test('reads ahead of one stream that follow each other without a gap count what is kept', async () => {
  const opened = await cold();
  const { blocks } = opened.checkpointer;
  const one = begin(opened);
  slices(one);
  const all = blocks.aheadBytes;
  assert.ok(all > 0);
  const other = begin(opened);
  one.end();
  assert.equal(blocks.aheadBytes, all);
  slices(other);
  assert.equal(blocks.aheadBytes, all);
  other.end();
  assert.equal(blocks.aheadBytes, 0);
});

test('a trim by ACKED reads ahead what it may look at, and not the whole stream', async () => {
  const opened = await cold();
  const { session, checkpointer } = opened;
  const value = opened.value();
  for (let i = 1; i <= ENTRIES; i++) {
    if (i % 1000 !== 5) session.call('XACK', 's', 'g', `${i}-1`);
  }
  const rule = new TrimRule();
  rule.strategy = 'maxlen';
  rule.maxlen = ENTRIES;
  assert.equal(neededToTrim(value, rule, 'acked'), null);
  rule.maxlen = ENTRIES - 100;
  const needed = neededToTrim(value, rule, 'acked');
  assert.ok(needed !== null);
  const ahead = readAhead(needed);
  assert.ok(ahead !== null);
  const { blocks } = checkpointer;
  const before = blocks.reads;
  slices(ahead);
  const read = blocks.reads;
  assert.ok(read - before <= 20, `${read - before} blocks`);
  assert.equal(session.call('XTRIM', 's', 'MAXLEN', rule.maxlen, 'ACKED'), 100);
  // All but the block in which the first entry stands that a group needs.
  assert.ok(blocks.reads <= read + 1);
  ahead.end();
});

test('several reads ahead share the time of one turn', async () => {
  const opened = await cold();
  const { blocks } = opened.checkpointer;
  const value = opened.value();
  let now = 0;
  const clock = () => now++;
  const begun = [1, 2, 3, 4].map((n) => {
    const first = idOf(`${n * 1000}-1`);
    const ahead = readAhead({ stream: value.stream, first });
    assert.ok(ahead !== null);
    return ahead;
  });
  const inTurn = (reads: readonly ReadAhead[]) => {
    const before = blocks.reads;
    for (const ahead of reads) ahead.stepFor(40, clock);
    return blocks.reads - before;
  };
  assert.equal(inTurn(begun), 40);
  for (const ahead of begun.slice(1)) ahead.end();
  assert.equal(inTurn(begun.slice(0, 1)), 40);
  begun[0]!.end();
});

test("the ids for which blocks are read are a copy of the command's", async () => {
  const opened = await cold();
  const list = new IdList();
  for (let i = 1; i <= 1000; i++) list.push(idOf(`${i}-1`));
  const copy = list.clone();
  list.clear().push(idOf('7-7'));
  assert.equal(copy.count, 1000);
  assert.equal(copy.get(999, new StreamId()).toString(), '1000-1');
  assert.equal(new IdList().clone().push(idOf('1-1')), undefined);
  // The command's list may hold another command's ids by then.
  const wanted = new IdList();
  for (let i = 0; i < BLOCKS; i++) wanted.push(idOf(`${i * 10 + 5}-1`));
  const ahead = begin(opened, wanted);
  wanted.clear();
  const before = opened.checkpointer.blocks.reads;
  slices(ahead);
  assert.ok(opened.checkpointer.blocks.reads - before >= BLOCKS);
  ahead.end();
});

test('a trim by ACKED loads the pending pages that it may look at, and no others', async () => {
  const opened = await cold();
  const value = opened.value();
  const rule = new TrimRule();
  rule.strategy = 'minid';
  rule.minid.set(0, 0, 0, 1).setMs(100);
  const needed = neededToTrim(value, rule, 'acked');
  assert.ok(needed !== null);
  const ahead = readAhead(needed);
  assert.ok(ahead !== null);
  const pending = pendingListsOf(value)[0]!;
  const before = pending.residentBytes;
  slices(ahead);
  ahead.end();
  assert.ok(pending.residentBytes - before < (pending.size * 26) / 5);
});

test('a group or stream that goes while its pages are loaded ends the read ahead, and no more', async () => {
  for (const change of [['XGROUP', 'DESTROY', 's', 'g'], ['DEL', 's'], ['FLUSHALL']] as const) {
    for (const after of [3, BLOCKS + 4]) {
      const opened = await cold();
      const ahead = begin(opened);
      slices(ahead, after);
      opened.session.call(...change);
      await opened.checkpointer.write();
      slices(ahead);
      ahead.end();
      const copied = opened.session.call('COPY', 's', 'd');
      assert.equal(copied, change[0] === 'XGROUP' ? 1 : 0, change[0]);
      assert.equal(opened.checkpointer.blocks.aheadBytes, 0);
    }
  }
});

test('a copy and its source change apart while another read ahead keeps their blocks', async () => {
  const opened = await cold();
  const { session, checkpointer } = opened;
  const all = (key: string) => session.call('XRANGE', key, '-', '+') as [string, unknown][];
  const before = all('s');
  const one = begin(opened);
  const other = begin(opened);
  slices(one);
  slices(other);
  assert.equal(session.call('COPY', 's', 'd'), 1);
  one.end();
  const every = (from: number) => Array.from({ length: BLOCKS }, (_, i) => `${i * 10 + from}-1`);
  const without = (ids: string[]) => before.filter(([id]) => !ids.includes(id));
  assert.equal(session.call('XDEL', 'd', ...every(3)), BLOCKS);
  assert.deepEqual(all('s'), before);
  assert.equal(session.call('XDEL', 's', ...every(4)), BLOCKS);
  assert.deepEqual(all('d'), without(every(3)));
  assert.deepEqual(all('s'), without(every(4)));
  assert.equal(session.call('COPY', 's', 'e'), 1);
  other.end();
  await checkpointer.write();
  for (const key of ['s', 'd', 'e']) {
    opened.value(key).stream.evictOldest(Number.POSITIVE_INFINITY);
  }
  assert.deepEqual(all('d'), without(every(3)));
  assert.deepEqual(all('s'), without(every(4)));
  assert.deepEqual(all('e'), without(every(4)));
});

test('checkpoints that follow each other do not keep a read ahead from its end', async () => {
  const opened = await cold();
  const ahead = begin(opened);
  for (let n = 0; n < 6; n++) {
    slices(ahead, 50);
    opened.session.call('SET', 'other', n);
    await opened.checkpointer.write();
  }
  assert.ok(ahead.isDone);
  ahead.end();
});

test('a stream with few cold blocks, or none, is not read ahead', async () => {
  const opened = await cold();
  opened.session.call('XADD', 'warm', '*', 'f', 'v');
  assert.equal(readAhead({ stream: opened.value('warm').stream }), null);
  opened.session.call('XTRIM', 's', 'MAXLEN', 1000);
  assert.equal(readAhead({ stream: opened.value().stream }), null);
});

function idOf(text: string): StreamId {
  const id = new StreamId();
  const bytes = Buffer.from(text);
  assert.ok(id.read(bytes, 0, bytes.length));
  return id;
}
