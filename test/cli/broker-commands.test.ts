/** Commands about topics, groups and dead letters on the real server: what they print and how they fail. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { freePort } from '../helpers/free-port.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { type BrokerFixture, brokerFixture, FIRST_ID } from './broker-fixture.ts';
import { micro, shell } from './micro.ts';

let fixture: BrokerFixture;
before(async () => {
  fixture = await brokerFixture();
});
after(() => fixture[Symbol.asyncDispose]());
beforeEach(() => fixture.renew());

function run(...args: string[]) {
  return micro(args, { env: { MICRO_BROKER: fixture.url } });
}

async function json(...args: string[]) {
  const { code, stdout, stderr } = await run(...args, '--json');
  assert.equal(code, 0, `${args}: ${stderr}`);
  return JSON.parse(stdout);
}

test('publish says ok, and what it published is read back byte for byte', async () => {
  const said = await run('publish', 'letters', '{"a":1}', '-H', 'Tenant: blue', '-k', 'k1');
  assert.deepEqual([said.code, said.stdout, said.stderr], [0, 'ok\n', '']);
  const read = await json('subscribe', 'letters', '--from', 'earliest', '--count', '1');
  assert.equal(read.body, '{"a":1}');
  assert.equal(read.key, 'k1');
  assert.deepEqual(read.headers, { 'Content-Type': 'application/json', Tenant: 'blue' });
  const bytes = await shell(
    `printf '\\377\\000' | micro publish letters - && micro topic tail letters -n 1 --json`,
    {
      env: { MICRO_BROKER: fixture.url },
    },
  );
  assert.equal(JSON.parse(bytes.stdout.split('\n')[1]!).bodyBase64, '/wA=');
});

test('a second publish of one id adds nothing and says so', async () => {
  const first = await json('publish', 'letters', 'a', '--dedup-id', 'one');
  const second = await json('publish', 'letters', 'a', '--dedup-id', 'one');
  assert.deepEqual([first.duplicate, second.duplicate], [false, true]);
  assert.equal(first.id, second.id);
});

test('each line of standard input is a message, in order', async () => {
  // U+2028 is a character of the line, and an empty line is a message.
  const lines = Array.from({ length: 1203 }, (_, i) => (i === 7 ? '' : `line\u2028 ${i}`)).join(
    '\n',
  );
  const env = { MICRO_BROKER: fixture.url };
  const { code, stderr } = await micro(['publish', 'letters', '--lines'], {
    env,
    input: lines.replaceAll('3\n', '3\r\n'),
  });
  assert.equal(code, 0, stderr);
  const all = await run('topic', 'tail', 'letters', '-n', '2000', '--raw');
  assert.equal(all.stdout, `${lines}\n`);
});

test('a subscriber of a group acknowledges what it printed and nothing more', async () => {
  const read = await run('subscribe', 'orders', '--group', 'billing', '--count', '1', '--raw');
  assert.equal(read.stdout, '{"id":2}\n');
  const pending = await json('group', 'pending', 'orders', 'billing');
  assert.deepEqual(
    pending.map(({ consumer }: { consumer: string }) => consumer),
    ['ann', 'ann'],
  );
  const rest = await run('subscribe', 'orders', '-g', 'billing', '--wait', '700ms', '--raw');
  assert.equal(rest.stdout, '{"id":3}\n{"id":4}\n');
});

test('a reader that goes away ends the command without a word', async () => {
  const env = { MICRO_BROKER: fixture.url };
  await micro(['publish', 'letters', '0123456789'.repeat(1000), '--count', '500'], { env });
  const line = 'micro topic tail letters -n 500 | head -n 1';
  const { code, stderr } = await shell(line, { env });
  assert.deepEqual([code, stderr], [0, '']);
});

test('exit codes say what kind of failure it was, in one line that says what to do', async () => {
  const closed = `rivulet://user:secret@127.0.0.1:${await freePort()}`;
  const cases: [string[], number, RegExp][] = [
    [['publish', 'bad topic', 'x'], 2, /TOPIC_ILLEGAL/],
    [['publish', 'a', 'x', '--delay', 'soon'], 2, /write 500ms, 5s/],
    [['publish', 'a', 'x', '--count', '1e3'], 2, /whole number/],
    [['publish', 'a', 'x', '--count', '-1'], 2, /whole number/],
    [['publish', 'a', 'x', '--header', 'nothing'], 2, /Name: value/],
    [['publish', 'a', 'x', '--colour'], 2, /--colour/],
    [['publish'], 2, /topic/],
    [['subscribe', 'a', '--from', 'yesterday'], 2, /earliest, new/],
    [['subscribe', 'a', '--format', '%z'], 2, /%z/],
    [['topic', 'infos', 'a'], 2, /info/],
    [['topic', 'info', 'none'], 3, /micro list topics/],
    [['topic', 'tail', 'none'], 3, /no topic/],
    [['topic', 'trim', 'orders'], 2, /--max-length/],
    [['group', 'info', 'orders', 'none'], 3, /micro list groups orders/],
    [['group', 'pending', 'orders', 'none'], 3, /NOT_FOUND/],
    [['group', 'ack', 'orders', 'billing', 'x'], 2, /no id/],
    [['group', 'ack', 'orders', 'billing', '1-1'], 3, /none of these/],
    [['group', 'claim', 'orders', 'none'], 3, /no group/],
    [['dead', 'show', 'orders'], 3, /no dead letter/],
    [['request', 'nothing.responds', 'x'], 3, /NO_RESPONDERS/],
    [['list', 'topics', '--broker', closed], 4, /is it running/],
    [['list', 'topics', '--broker', 'nope://x'], 2, /rivulet:\/\//],
    [['list', 'nodes', 'none', '--registry', 'broker'], 3, /no node/],
    [['subscribe', 'orders', '--count', '1', '--wait', '200ms'], 5, /0 of 1/],
    [['lisst'], 2, /did you mean 'list'/],
  ];
  for (const [args, code, text] of cases) {
    const result = await run(...args);
    assert.equal(result.code, code, `${args.join(' ')}: ${result.stdout}${result.stderr}`);
    assert.match(result.stderr, text, args.join(' '));
    assert.equal(result.stdout, '', args.join(' '));
    assert.ok(!result.stderr.includes('secret'));
    assert.ok(!/\n\s+at /.test(result.stderr), 'no stack trace');
  }
});

test('claim, acknowledge and release act on pending messages by hand', async () => {
  const claimed = await run('group', 'claim', 'orders', 'billing', '--limit', '1', '--json');
  assert.deepEqual(JSON.parse(claimed.stdout).body, '{"id":0}');
  const [first] = await json('group', 'pending', 'orders', 'billing', '--consumer', 'micro');
  assert.equal(first.id, FIRST_ID);
  assert.equal((await json('group', 'ack', 'orders', 'billing', FIRST_ID)).acknowledged, 1);
  await json('group', 'release', 'orders', 'billing', '1700000000001-0');
  const [free] = await json('group', 'pending', 'orders', 'billing');
  assert.deepEqual([free.id, free.consumer], ['1700000000001-0', '']);
});

test('a group that is reset to a position reads everything after it', async () => {
  await json('group', 'reset', 'orders', 'billing', '--to', '1700000000003-0');
  const read = await run('subscribe', 'orders', '-g', 'billing', '--wait', '500ms', '--raw');
  assert.equal(read.stdout, '{"id":4}\n');
  await json('topic', 'replay', 'orders', 'billing', '--from', 'earliest');
  assert.equal((await json('group', 'info', 'orders', 'billing')).lag, 5);
});

test('dead letters are listed with their reason, shown, and go back', async () => {
  assert.deepEqual(await json('dead', 'list'), [
    { topic: 'payments', deadLetter: 'payments.dead', count: 2 },
  ]);
  const [dead] = await json('dead', 'list', 'payments');
  assert.deepEqual([dead.group, dead.reason, dead.attempts], ['billing', 'card declined', 1]);
  assert.equal((await json('dead', 'show', 'payments', dead.id)).body, '{"card":"declined"}');
  assert.equal((await json('dead', 'redrive', 'payments', '--limit', '1')).redriven, 1);
  assert.equal((await json('dead', 'redrive', 'payments')).redriven, 1);
  assert.deepEqual(await json('dead', 'list'), []);
});

test('what a message holds cannot move the cursor of the terminal', async () => {
  await fixture.client.call('XADD', 'letters', '*', 'body', '\u001b[2Jgone\rback', 'key', '\u0007');
  const { stdout } = await run('topic', 'tail', 'letters');
  assert.ok(stdout.includes('\\u001b[2Jgone\\rback'), stdout);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  assert.ok(!/[\u0000-\u0008\u000b-\u001f]/.test(stdout));
});

test('a context names addresses, shows no password in lists, and only its owner can read it', async () => {
  await using home = temporaryDirectory('home');
  const env = { XDG_CONFIG_HOME: home.path };
  const here = (...args: string[]) => micro(args, { env });
  const empty = await here('context', 'select', '-');
  assert.equal(empty.code, 2);
  await here('context', 'add', 'local', '--broker', fixture.url, '--registry', 'broker');
  await here('context', 'add', 'far', '--broker', 'rivulet://me:secret@127.0.0.1:1');
  assert.match((await here('list', 'topics', '--quiet')).stdout, /^orders$/m);
  assert.equal((await here('list', 'services')).stdout, 'go.micro.srv.greeter\n');
  await here('context', 'select', 'far');
  assert.equal((await here('list', 'topics')).code, 4);
  assert.match((await here('list', 'topics', '-q', '-c', 'local')).stdout, /^payments$/m);
  const shown = await here('context', 'list');
  assert.ok(!shown.stdout.includes('secret') && shown.stdout.includes('* '), shown.stdout);
  await here('context', 'select', '-');
  assert.equal((await here('topic', 'info', 'orders')).code, 0);
  const file = join(home.path, 'micro', 'contexts.json');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(JSON.parse(readFileSync(file, 'utf8')).current, 'local');
  assert.match((await here('list', 'topics', '-c', 'none')).stderr, /there are: far, local/);
  const relative = { XDG_CONFIG_HOME: 'relative', HOME: home.path };
  assert.match((await micro(['context', 'list'], { env: relative })).stderr, /^$/);
});
