/** Which commands show nothing that is not safe: every row of the server, by what its reply can show. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandTable } from '../../../src/server/command/command-table.ts';
import { allCommands } from '../../../src/server/commands/index.ts';
import { shownUpTo } from '../../../src/server/output/reply-barriers.ts';
import { Arguments } from '../../../src/util/arguments.ts';
import { InProcessServer } from '../../helpers/in-process-server.ts';

const table = new CommandTable(allCommands);

function shown(server: InProcessServer, ...args: string[]): number | null {
  const given = Arguments.of(...args);
  let entry = table.find(given);
  if (entry?.subcommands) entry = entry.subcommands.find(given, 1);
  assert.ok(entry !== null, args.join(' '));
  return shownUpTo(entry, given, server.engine.databases[0]!);
}

test('a command that writes, waits or shows more than keys shows all that is recorded', () => {
  const server = new InProcessServer();
  const free: string[] = [];
  for (const entry of table.entries) {
    if (entry.subcommands !== null) continue;
    const args = [...entry.name.split('|'), 'a', 'b', 'c', 'd', 'e', 'f'];
    const position = shown(server, ...args);
    const isRead = entry.has('readonly') && entry.keys.length > 0;
    if (entry.has('write')) assert.equal(position, null, entry.name);
    else if (position !== null && !isRead) free.push(entry.name);
  }
  for (const name of ['ping', 'time', 'client|list', 'hello', 'config|get']) {
    assert.ok(free.includes(name), name);
  }
  for (const name of [
    'info',
    'dbsize',
    'keys',
    'scan',
    'exec',
    'publish',
    'slowlog|get',
    'xread',
  ]) {
    assert.ok(!free.includes(name), name);
  }
});

test('a read shows the last change of its keys, and that a key is gone', () => {
  const server = new InProcessServer();
  const session = server.session();
  /** Runs a command and returns where its records begin and end. */
  const did = (...args: string[]) => {
    const from = server.journal.appended;
    session.call(...args);
    return { from, to: server.journal.appended };
  };
  const within = (position: number | null, { from, to }: { from: number; to: number }) =>
    assert.ok(position !== null && position > from && position <= to, `${position}: ${from} ${to}`);
  assert.equal(shown(server, 'GET', 'a'), 0);
  const set = did('SET', 'a', '1');
  const add = did('XADD', 's', '1-1', 'f', 'v');
  within(shown(server, 'GET', 'a'), set);
  within(shown(server, 'XRANGE', 's', '-', '+'), add);
  within(shown(server, 'MGET', 'a', 's'), add);
  within(shown(server, 'EXISTS', 'a', 'nothing'), set);
  assert.equal(shown(server, 'GET', 'nothing'), 0);
  const group = did('XGROUP', 'CREATE', 's', 'g', '0');
  within(shown(server, 'XINFO', 'GROUPS', 's'), group);
  const read = did('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  within(shown(server, 'XPENDING', 's', 'g'), read);
  const acknowledged = did('XACK', 's', 'g', '1-1');
  within(shown(server, 'XPENDING', 's', 'g'), acknowledged);
  within(shown(server, 'GET', 'a'), set);
  const renamed = did('RENAME', 'a', 'b');
  within(shown(server, 'GET', 'a'), renamed);
  within(shown(server, 'GET', 'b'), renamed);
  const moved = did('MOVE', 'b', '1');
  within(shown(server, 'TYPE', 'b'), moved);
  const deleted = did('DEL', 's');
  within(shown(server, 'XLEN', 's'), deleted);
  did('SET', 'c', '1', 'PX', '5');
  server.clock.advance(10);
  const expired = did('GET', 'c');
  within(shown(server, 'GET', 'c'), expired);
  did('SET', 'd', '1');
  const swapped = did('SWAPDB', '0', '1');
  within(shown(server, 'GET', 'b'), swapped);
  within(shown(server, 'GET', 'd'), swapped);
  const flushed = did('FLUSHALL');
  within(shown(server, 'GET', 'b'), flushed);
  assert.equal(shown(server, 'XSCHEDULE', 'LEN', 's'), null);
});
