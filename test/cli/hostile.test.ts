/** The command line and what harms it: names and replies of others, readers that leave, Ctrl-C. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { ended, startChild } from '../helpers/children.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { MICRO, micro, shell } from './micro.ts';
import { hasTerminal, openTerminal } from './pty.ts';

/** Moves the cursor, in the form of 7 bits and in that of 8, and forges a line. */
const EVIL = '\u001b[2J\u009b2J\u007f\nmicro: forged';
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it finds
const CONTROL = /[\u001b\u009b\u007f]/;

const Evil = contract('go.micro.srv.evil', {
  Evil: { Say: unary<unknown, unknown>(), Many: serverStream<unknown, unknown>() },
});

let server: RivuletServer;
let service: Service;
let responder: Broker;
let url: string;
before(async () => {
  server = await startRivulet({ args: ['--appendonly', 'no'] });
  url = `rivulet://127.0.0.1:${server.port}`;
  service = createService({ broker: url, environment: false, args: false });
  service.handle(Evil, {
    Evil: {
      Say: (request) => {
        if ((request as { fail?: boolean }).fail) throw new Error(EVIL);
        return { text: EVIL };
      },
      async *Many() {
        yield { text: EVIL };
      },
    },
  });
  await service.start();
  responder = await openBroker(url);
  await responder.respond('evil', () => ({ body: EVIL }));
  await using client = await connect({ port: server.port });
  const topic = `evil${EVIL}`;
  await client.call('XADD', topic, '*', 'headers', JSON.stringify({ a: EVIL }), 'body', EVIL);
  await client.call('XGROUP', 'CREATE', topic, EVIL, '0');
  await client.call('XADD', 'plain', '*', 'body', EVIL);
  await client.close();
});
after(async () => {
  await responder?.disconnect();
  await service?.stop();
  await server[Symbol.asyncDispose]();
});

const run = (...args: string[]) =>
  micro(args, { env: { MICRO_BROKER: url, MICRO_REGISTRY: 'broker' } });

test('nothing that others wrote reaches the terminal as a control character', async () => {
  const topic = `evil${EVIL}`;
  for (const args of [
    ['list', 'topics'],
    ['list', 'topics', '-q'],
    ['list', 'topics', '--json'],
    ['list', 'groups'],
    ['list', 'services'],
    ['list', 'nodes'],
    ['topic', 'info', topic],
    ['topic', 'info', topic, '--json'],
    ['topic', 'info', `${EVIL}none`],
    ['group', 'info', topic, EVIL],
    ['group', 'info', topic, `${EVIL}none`],
    ['topic', 'tail', topic],
    ['topic', 'tail', topic, '--json'],
    ['topic', 'tail', `${EVIL}none`],
    ['get', 'service', 'go.micro.srv.evil'],
    ['get', 'service', 'go.micro.srv.evil', '--json'],
    ['health', 'go.micro.srv.evil'],
    ['stats', 'go.micro.srv.evil'],
    ['call', 'go.micro.srv.evil', 'Evil.Say'],
    ['call', 'go.micro.srv.evil', 'Evil.Say', '{"fail":true}'],
    ['request', 'evil', '{}', '--json'],
    ['stream', 'go.micro.srv.evil', 'Evil.Many'],
    ['stream', 'go.micro.srv.evil', 'Evil.Many', '--json'],
    ['topic', EVIL],
    [EVIL],
    ['context', 'show', EVIL],
  ]) {
    const { stdout, stderr } = await run(...args);
    assert.notEqual(stdout + stderr, '', `${args}`);
    assert.doesNotMatch(stdout + stderr, CONTROL, JSON.stringify(args));
    assert.doesNotMatch(stderr, /^micro: forged/m, JSON.stringify(args));
  }
  const said = JSON.parse((await run('call', 'go.micro.srv.evil', 'Evil.Say')).stdout);
  assert.equal(said.text, EVIL, 'escaped, and the same value');
});

test('a format shows escapes on a terminal, and the bytes in a pipe', {
  skip: hasTerminal(),
}, async () => {
  await using home = temporaryDirectory('format');
  await using terminal = openTerminal(
    `micro topic tail plain --format '%b<end>' --broker ${url}`,
    home.path,
  );
  const shown = await terminal.until(/<end>/);
  assert.doesNotMatch(shown, CONTROL, JSON.stringify(shown));
  const piped = await run('topic', 'tail', 'plain', '--format', '%b');
  assert.equal(piped.stdout, EVIL);
});

test('a reply shows escapes on a terminal, and its bytes in a pipe', {
  skip: hasTerminal(),
}, async () => {
  await using home = temporaryDirectory('reply');
  await using terminal = openTerminal(`micro request evil '{}' --broker ${url}`, home.path);
  const shown = await terminal.until(/micro: forged/);
  assert.doesNotMatch(shown, CONTROL, JSON.stringify(shown));
  assert.equal(await terminal.ended, 0);
  assert.equal((await run('request', 'evil', '{}')).stdout, `${EVIL}\n`);
});

test('a reader that leaves ends a command quietly and a server not at all', async () => {
  const env = { MICRO_BROKER: url };
  await run('publish', 'many', 'x'.repeat(1000), '--count', '2000');
  for (const line of [
    'micro topic tail many -n 2000 --json | head -1',
    'micro subscribe many --from earliest | head -1',
  ]) {
    const { code, stdout, stderr } = await shell(`${line}; exit $?`, { env });
    assert.deepEqual([code, stderr], [0, ''], line);
    assert.notEqual(stdout, '');
  }
  const child = startChild(
    process.execPath,
    [MICRO, 'api', '--broker', url, '--address', '127.0.0.1:0', '--access-log'],
    { env: { PATH: process.env.PATH } },
  );
  const [line] = await once(child.stdout!, 'data');
  child.stdout?.destroy();
  child.stderr?.destroy();
  const [, address] = /(http:\/\/[\d.:]+)/.exec(String(line)) ?? [];
  for (let i = 0; i < 5; i++) assert.equal((await fetch(`${address}/_/healthz`)).status, 200);
  child.kill('SIGTERM');
  assert.equal(await ended(child), 0);
});

test('work that Ctrl-C cuts short says so in its exit code, and leaves nothing behind', async () => {
  const start = (...args: string[]) =>
    startChild(process.execPath, [MICRO, ...args], {
      env: { PATH: process.env.PATH, MICRO_BROKER: url, MICRO_REGISTRY: 'broker' },
    });
  const bench = start('bench', 'publish', '--count', '9000000');
  await using client = await connect({ port: server.port });
  const topic = `micro.bench.${bench.pid}`;
  const exists = async () => Number(await client.call('EXISTS', topic));
  await until(async () => (await exists()) !== 0);
  bench.kill('SIGINT');
  assert.equal(await ended(bench), 130);
  assert.equal(await exists(), 0);
  await run('publish', 'few', 'x');
  const short = start('subscribe', 'few', '--from', 'earliest', '--count', '2');
  await once(short.stdout!, 'data');
  short.kill('SIGINT');
  assert.equal(await ended(short), 130);
  const endless = start('subscribe', 'few', '--from', 'earliest');
  await once(endless.stdout!, 'data');
  endless.kill('SIGTERM');
  assert.equal(await ended(endless), 0);
  await client.close();
});

test('two changes while a service ends start one process, not two', async () => {
  await using home = temporaryDirectory('changes');
  const program = (text: string) =>
    writeFileSync(
      join(home.path, 'slow.mjs'),
      `console.log('${text} starts', process.pid);
process.on('SIGTERM', () => setTimeout(() => process.exit(), 1500));
setInterval(() => console.log('alive', process.pid), 100);`,
    );
  program('first');
  const child = startChild(process.execPath, [MICRO, 'run', 'slow.mjs'], { cwd: home.path });
  let stdout = '';
  child.stdout?.on('data', (text) => {
    stdout += text;
  });
  const printed = (text: RegExp) =>
    until(
      () => text.test(stdout),
      () => `${text} in ${stdout}`,
    );
  await printed(/first starts/);
  program('second');
  await printed(/changed: restarting/);
  program('third');
  await printed(/third starts \d+[\s\S]*alive[\s\S]*alive[\s\S]*alive/);
  const started = [...stdout.matchAll(/starts (\d+)/g)].map(([, pid]) => Number(pid));
  child.kill('SIGINT');
  assert.equal(await ended(child), 0);
  assert.equal(started.length, 2, stdout);
  for (const pid of started) assert.throws(() => process.kill(pid, 0), `${pid} still runs`);
});

test('Ctrl-C at the prompt reaches the command that runs, and the prompt goes on', {
  skip: hasTerminal(),
}, async () => {
  await run('publish', 'shown', '"hello"');
  await using home = temporaryDirectory('prompt');
  await using terminal = openTerminal('micro cli', home.path, { env: { MICRO_BROKER: url } });
  await terminal.until(/micro> /);
  terminal.type('topic tail shown --follow\r');
  await terminal.until(/"hello"/);
  terminal.type('\u0003');
  await terminal.until(/micro> /);
  terminal.type('topic inf\u0003');
  await terminal.until(/micro> /);
  terminal.type('list topics -q\r');
  await terminal.until(/shown\r\n/);
  await terminal.until(/micro> /);
  terminal.type('quit\r');
  assert.equal(await terminal.ended, 0);
});

test('a terminal that closes ends run and the services that it has started', async () => {
  await using home = temporaryDirectory('hangup');
  // One that does not hear the terminal itself.
  const program = `process.on('SIGHUP', () => {}); console.log('pid', process.pid); setInterval(() => {}, 1000);`;
  writeFileSync(join(home.path, 'one.mjs'), program);
  const args = [MICRO, 'run', '--no-watch', 'one.mjs'];
  const child = startChild(process.execPath, args, { cwd: home.path });
  let stdout = '';
  child.stdout?.on('data', (text) => {
    stdout += text;
  });
  await until(
    () => /pid \d+\n/.test(stdout),
    () => stdout,
  );
  const pid = Number(/pid (\d+)/.exec(stdout)?.[1]);
  child.kill('SIGHUP');
  assert.equal(await ended(child), 0);
  assert.throws(() => process.kill(pid, 0), /ESRCH/);
});

test('a server that cannot listen says so, and advises another address', async () => {
  const taken = createServer();
  taken.listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
  for (const command of ['api', 'proxy', 'web']) {
    const args = [command, '--address', address, '--registry', 'memory', '--broker', url];
    const { code, stderr } = await micro(args);
    assert.deepEqual([code, command], [1, command], stderr);
    assert.match(stderr, /can(not|'t) listen on .*; choose another --address\n$/);
  }
  taken.close();
});
