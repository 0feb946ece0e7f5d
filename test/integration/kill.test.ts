/**
 * kill -9 of the real binary under load, at random moments, round after round on one directory.
 *
 * After each death everything that a client saw acknowledged is there, in order, once; every message
 * that was delivered and not acknowledged is pending; what was acknowledged to the group never comes back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Client, connect } from '../../src/client/client.ts';
import { pairsOf, type Reply } from '../../src/client/reply.ts';
import { RivuletError } from '../../src/errors.ts';
import { Random } from '../../src/util/random.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { seedOf } from '../helpers/seed.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const ROUNDS = process.env.RIVULET_FULL === '1' ? 200 : 20;
const PUBLISHERS = 4;
const CONSUMERS = 3;

/** What the clients know of one stream and its group, over all rounds. */
class Witness {
  /** Id of each acknowledged entry by its publisher's number. */
  readonly published = new Map<string, string>();
  /** Numbers whose XADD got no reply: there or not. */
  readonly unknown = new Set<string>();
  /** Ids whose delivery was seen, and not yet their acknowledgement. */
  readonly delivered = new Set<string>();
  readonly acknowledged = new Set<string>();
  /** Ids whose XACK got no reply: pending or not. */
  readonly maybeAcknowledged = new Set<string>();
  counter = 0;
}

test(`nothing acknowledged is lost in ${ROUNDS} kills under load`, async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  await using directory = temporaryDirectory('kill');
  const witness = new Witness();
  for (let round = 0; round < ROUNDS; round++) {
    // The process dies, not the machine: what each policy acknowledges is with the kernel.
    const policy = ['always', 'everysec', 'no'][round % 3] as string;
    await using server = await startRivulet({
      directory: directory.path,
      args: ['--appendfsync', policy],
    });
    const client = await connect({ port: server.port, reconnect: false });
    if (round === 0) await client.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
    await verify(client, witness, `seed ${seed}, round ${round} (${policy})`);
    // Connected first: the moments are moments of work.
    const clients = await connectAll(server.port);
    const load = work(clients, witness, round);
    load.catch(() => {});
    const moments: Promise<unknown>[] = [client.call('PING'), wait(30 + random.below(250))];
    // A kill during a checkpoint is the hardest one.
    if (random.chance(0.5)) moments.push(wait(random.below(50)).then(() => client.call('BGSAVE')));
    await Promise.allSettled(moments);
    await server.stop('SIGKILL');
    await load;
    client.destroy();
  }
  await using server = await startRivulet({ directory: directory.path });
  await using client = await connect({ port: server.port });
  await verify(client, witness, `seed ${seed}, at the end`);
  assert.ok(
    witness.published.size > ROUNDS * 10,
    `only ${witness.published.size} entries: no load`,
  );
  assert.ok(
    witness.acknowledged.size > ROUNDS * 5,
    `only ${witness.acknowledged.size} acknowledged`,
  );
  t.diagnostic(
    `${witness.published.size} entries, ${witness.acknowledged.size} acknowledged, ${witness.delivered.size} pending`,
  );
});

function connectAll(port: number): Promise<Client[]> {
  const count = PUBLISHERS + CONSUMERS + 1;
  return Promise.all(Array.from({ length: count }, () => connect({ port, reconnect: false })));
}

/** Publishers, consumers and a counter that go on until their connection breaks. */
async function work(clients: Client[], witness: Witness, round: number): Promise<void> {
  const jobs = clients.map((client, i) => {
    if (i < PUBLISHERS) return publish(client, witness, `${round}/${i}`);
    if (i < PUBLISHERS + CONSUMERS) return consume(client, witness, `c${i}`);
    return count(client, witness);
  });
  const ends = await Promise.allSettled(jobs);
  for (const end of ends) {
    // Only the death of the server may end a job.
    if (end.status === 'rejected' && !(end.reason instanceof RivuletError)) throw end.reason;
  }
  for (const client of clients) client.destroy();
}

async function publish(client: Client, witness: Witness, publisher: string): Promise<void> {
  for (let n = 0; ; n++) {
    // Several at a time, so that frames hold more than one command.
    const batch = Array.from({ length: 1 + (n % 8) }, (_, i) => `${publisher}/${n}.${i}`);
    for (const number of batch) witness.unknown.add(number);
    await Promise.all(
      batch.map(async (number) => {
        const id = await client.call('XADD', 's', '*', 'n', number, 'body', 'x'.repeat(n % 300));
        witness.unknown.delete(number);
        witness.published.set(number, String(id));
      }),
    );
  }
}

async function consume(client: Client, witness: Witness, consumer: string): Promise<void> {
  for (let n = 0; ; n++) {
    const reply = await client.call(
      'XREADGROUP',
      'GROUP',
      'g',
      consumer,
      'COUNT',
      20,
      'STREAMS',
      's',
      '>',
    );
    const ids = pairsOf(reply).flatMap(([, entries]) =>
      (entries as Reply[][]).map(([id]) => String(id)),
    );
    for (const id of ids) {
      assert.ok(!witness.acknowledged.has(id), `${id} was acknowledged and delivered again`);
      witness.delivered.add(id);
    }
    // Every fourth batch stays pending.
    if (n % 4 === 3 || ids.length === 0) continue;
    for (const id of ids) witness.maybeAcknowledged.add(id);
    await client.call('XACK', 's', 'g', ...ids);
    for (const id of ids) {
      witness.maybeAcknowledged.delete(id);
      witness.delivered.delete(id);
      witness.acknowledged.add(id);
    }
  }
}

async function count(client: Client, witness: Witness): Promise<void> {
  for (;;) witness.counter = Number(await client.call('INCR', 'counter'));
}

async function verify(client: Client, witness: Witness, when: string): Promise<void> {
  const counter = Number((await client.call('GET', 'counter')) ?? 0);
  assert.ok(
    counter >= witness.counter && counter <= witness.counter + 1,
    `${when}: counter ${counter}, acknowledged ${witness.counter}`,
  );
  witness.counter = counter;
  const entries = await readAll(client);
  const idOf = new Map<string, string>();
  for (const [id, number] of entries) {
    assert.ok(!idOf.has(number), `${when}: ${number} is there twice`);
    assert.ok(
      witness.published.has(number) || witness.unknown.has(number),
      `${when}: ${number} was never sent`,
    );
    idOf.set(number, id);
  }
  for (const [number, id] of witness.published)
    assert.equal(idOf.get(number), id, `${when}: acknowledged ${number} is lost`);
  // What was unknown has been decided by now.
  for (const number of witness.unknown) {
    const id = idOf.get(number);
    if (id !== undefined) witness.published.set(number, id);
  }
  witness.unknown.clear();
  const pending = await readPending(client);
  for (const id of witness.delivered) {
    if (witness.maybeAcknowledged.has(id)) continue;
    assert.ok(
      pending.has(id),
      `${when}: ${id} was delivered, not acknowledged, and is not pending`,
    );
  }
  for (const id of witness.acknowledged)
    assert.ok(!pending.has(id), `${when}: ${id} was acknowledged and is pending`);
  for (const id of witness.maybeAcknowledged) {
    if (pending.has(id)) continue;
    witness.delivered.delete(id);
    witness.acknowledged.add(id);
  }
  witness.maybeAcknowledged.clear();
  for (const id of pending) witness.delivered.add(id);
}

/** Ids and numbers of all entries; fails when ids do not ascend or XLEN says otherwise. */
async function readAll(client: Client): Promise<[id: string, number: string][]> {
  const all: [string, string][] = [];
  for (let from = '-'; ; from = `(${all.at(-1)?.[0]}`) {
    const page = (await client.call('XRANGE', 's', from, '+', 'COUNT', 1_000)) as [
      Buffer,
      Buffer[],
    ][];
    for (const [id, fields] of page) all.push([String(id), String(fields[1])]);
    if (page.length < 1_000) break;
  }
  for (let i = 1; i < all.length; i++) {
    assert.ok(
      compareIds(all[i - 1][0], all[i][0]) < 0,
      `${all[i - 1][0]} stands before ${all[i][0]}`,
    );
  }
  assert.equal(await client.call('XLEN', 's'), all.length);
  return all;
}

async function readPending(client: Client): Promise<Set<string>> {
  const page = (await client.call('XPENDING', 's', 'g', '-', '+', 10_000_000)) as Reply[][];
  const summary = (await client.call('XPENDING', 's', 'g')) as Reply[];
  assert.equal(summary[0], page.length);
  return new Set(page.map(([id]) => String(id)));
}

function compareIds(a: string, b: string): number {
  const [aMs, aSeq] = a.split('-').map(BigInt);
  const [bMs, bSeq] = b.split('-').map(BigInt);
  const difference = aMs === bMs ? aSeq - bSeq : aMs - bMs;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
