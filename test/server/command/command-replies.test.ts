/**
 * COMMAND INFO of every command is well formed, and TIME never goes back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimeOfDay } from '../../../src/server/time-of-day.ts';
import { replyEnd } from '../../helpers/resp-session.ts';
import { runServer } from '../running-server.ts';

test('COMMAND INFO of each command, with keys or without, is one reply of ten elements', async () => {
  await using running = await runServer();
  for (const protocol of [2, 3] as const) {
    await using client = await running.connect(protocol);
    for (const { name } of running.server.state.table.top) {
      const reply = await client.call('COMMAND', 'INFO', name);
      assert.equal(replyEnd(reply, 0), reply.length, name);
      const entry = /^\*1\r\n\*10\r\n/.exec(reply.toString('latin1'));
      assert.ok(entry, name);
      // Its ten elements end where the reply ends.
      let at = entry[0].length;
      for (let n = 0; n < 10; n++) at = replyEnd(reply, at);
      assert.equal(at, reply.length, `${name}: ${reply.toString('latin1')}`);
      assert.equal(await client.text('ECHO', name), `$${name.length}\r\n${name}\r\n`);
    }
  }
});

test('TIME never goes back while the wall clock does not, whatever the two clocks say', () => {
  let wall = 1_700_000_000_000;
  let monotonic = 0.9995;
  const time = new TimeOfDay({ now: () => Math.floor(wall), monotonic: () => monotonic });
  let last = 0;
  for (let n = 0; n < 100_000; n++) {
    // The clocks drift against each other, and are read at slightly different moments.
    wall += ((n * 7919) % 13) / 97;
    monotonic += ((n * 104_729) % 17) / 89;
    const { microseconds } = time;
    assert.ok(microseconds >= last, `${microseconds} after ${last}`);
    assert.equal(Math.floor(microseconds / 1000), Math.floor(wall));
    last = microseconds;
  }
});
