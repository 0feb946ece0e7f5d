/**
 * kill -9 of the real binary while clients race to extend one stream by EXEC IFLAST.
 *
 * Each entry names the one that it follows, so that two winners of one condition, a winner without its
 * second effect, or a lost acknowledged one would be seen in what the restarted server has.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Client, connect } from '../../src/client/client.ts';
import { RivuletError } from '../../src/errors.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';

const ROUNDS = process.env.RIVULET_FULL === '1' ? 60 : 6;
const RACERS = 4;

test(`one winner for each condition, whole or not at all, in ${ROUNDS} kills`, async (t) => {
  await using directory = temporaryDirectory('if-last');
  const acknowledged: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await using server = await startRivulet({ directory: directory.path });
    const clients = await Promise.all(
      Array.from({ length: RACERS }, () => connect({ port: server.port, reconnect: false })),
    );
    const racing = Promise.allSettled(clients.map((client) => race(client, acknowledged)));
    const before = acknowledged.length;
    await until(() => acknowledged.length >= before + 50 + 37 * round);
    await server.stop('SIGKILL');
    for (const end of await racing) {
      if (end.status === 'rejected' && !(end.reason instanceof RivuletError)) throw end.reason;
    }
    for (const client of clients) client.destroy();
    await verify(directory.path, acknowledged);
  }
  t.diagnostic(`${acknowledged.length} acknowledged`);
});

type Entry = [id: Buffer, fields: Buffer[]];

async function race(client: Client, acknowledged: string[]): Promise<void> {
  for (;;) {
    const [newest] = (await client.call('XREVRANGE', 'j', '+', '-', 'COUNT', 1)) as Entry[];
    const last = newest === undefined ? '0-0' : newest[0].toString();
    const [, , , reply] = await Promise.all([
      client.call('MULTI'),
      client.call('XADD', 'j', '*', 'after', last),
      client.call('XADD', 'effects', '*', 'of', last),
      client.call('EXEC', 'IFLAST', 'j', last),
    ]);
    if (Array.isArray(reply)) acknowledged.push(String(reply[0]));
  }
}

async function verify(directory: string, acknowledged: readonly string[]): Promise<void> {
  await using server = await startRivulet({ directory });
  await using client = await connect({ port: server.port });
  const entries = (await client.call('XRANGE', 'j', '-', '+')) as Entry[];
  let last = '0-0';
  for (const [id, [, after]] of entries) {
    assert.equal(String(after), last, 'each entry follows the one that its condition named');
    last = id.toString();
  }
  const effects = (await client.call('XRANGE', 'effects', '-', '+')) as Entry[];
  const names = (of: Entry[]) => of.map(([, [, name]]) => String(name));
  assert.deepEqual(names(effects), names(entries), 'both effects of each, or none');
  const present = new Set(entries.map(([id]) => id.toString()));
  assert.deepEqual(
    acknowledged.filter((id) => !present.has(id)),
    [],
  );
}
