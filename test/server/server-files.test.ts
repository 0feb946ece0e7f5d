/**
 * Listeners and files of a running server: protected mode, unix sockets, TLS, HTTP, CONFIG REWRITE.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { freePort } from '../helpers/free-port.ts';
import { runServer } from './running-server.ts';

function directory(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'rivulet-files-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

async function ask(socket: Socket, text: string): Promise<string> {
  socket.on('error', () => {});
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(text);
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks).toString();
}

const remote = Object.values(networkInterfaces())
  .flat()
  .find((each) => each !== undefined && each.family === 'IPv4' && !each.internal)?.address;

test('protected mode turns remote clients away, until there is a password', {
  skip: remote === undefined && 'needs a network interface besides the loopback',
}, async () => {
  await using running = await runServer({ bind: '0.0.0.0' });
  const host = remote as string;
  const { port } = running;
  assert.match(
    await ask(connect({ port, host }), 'PING\r\n'),
    /^-DENIED Redis is running in protected mode/,
  );
  assert.equal(
    await ask(connect({ port, host: '127.0.0.1' }), 'CONFIG SET requirepass x\r\nQUIT\r\n'),
    '+OK\r\n+OK\r\n',
  );
  assert.equal(
    await ask(connect({ port, host }), 'AUTH x\r\nCONFIG SET requirepass ""\r\nQUIT\r\n'),
    '+OK\r\n+OK\r\n+OK\r\n',
  );
  running.config.change([['protected-mode', 'no']], false);
  assert.equal(await ask(connect({ port, host }), 'QUIT\r\n'), '+OK\r\n');
});

test('a unix socket serves, with the permission asked for', async () => {
  using place = directory();
  const path = join(place.path, 'r.sock');
  await using running = await runServer({ unixsocket: path, unixsocketperm: '700', port: '0' });
  assert.deepEqual(
    running.server.addresses.map(({ text }) => text),
    [`unix:${path}`],
  );
  assert.equal(statSync(path).mode & 0o777, 0o700);
  const reply = await ask(connect({ path }), 'CLIENT INFO\r\nQUIT\r\n');
  assert.match(reply, new RegExp(`addr=${path}:0 .* flags=U `));
});

test('TLS serves clients that have a certificate of the authority', {
  skip: spawnSync('openssl', ['version']).status !== 0 && 'needs openssl',
}, async () => {
  using place = directory();
  const file = (name: string) => join(place.path, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.crt'),
    '-subj',
    '/CN=ca',
    '-days',
    '2',
  );
  openssl('req', ...key, '-keyout', file('s.key'), '-out', file('s.csr'), '-subj', '/CN=localhost');
  openssl(
    'x509',
    '-req',
    '-in',
    file('s.csr'),
    '-CA',
    file('ca.crt'),
    '-CAkey',
    file('ca.key'),
    '-CAcreateserial',
    '-out',
    file('s.crt'),
    '-days',
    '2',
  );
  const port = await freePort();
  await using running = await runServer({
    'tls-port': String(port),
    'tls-cert-file': file('s.crt'),
    'tls-key-file': file('s.key'),
    'tls-ca-cert-file': file('ca.crt'),
  });
  assert.deepEqual(
    running.server.addresses.map(({ text }) => text),
    [`tls://127.0.0.1:${port}`],
  );
  const read = (name: string) => readFileSync(file(name));
  const common = { port, host: '127.0.0.1', ca: read('ca.crt'), servername: 'localhost' };
  const known = connectTls({ ...common, cert: read('s.crt'), key: read('s.key') });
  assert.equal(await ask(known, 'ECHO hi\r\nQUIT\r\n'), '$2\r\nhi\r\n+OK\r\n');
  assert.equal(await ask(connectTls(common), 'PING\r\n'), '');
});

test('HTTP serves health, readiness and metrics', async () => {
  const port = await freePort();
  await using running = await runServer({ 'http-port': String(port) });
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, text: await response.text() };
  };
  assert.deepEqual(await get('/healthz'), { status: 200, text: 'ok\n' });
  assert.deepEqual(await get('/readyz'), { status: 200, text: 'ready\n' });
  assert.equal((await get('/nothing')).status, 404);
  assert.match((await get('/')).text, /redis_version:/);
  const post = await fetch(`http://127.0.0.1:${port}/metrics`, { method: 'POST', body: 'x' });
  assert.equal(post.status, 405);

  await using session = await running.connect();
  for (let i = 1; i <= 3; i++) await session.call('XADD', 'orders"1', `${i}-1`, 'f', 'v');
  await session.call('XGROUP', 'CREATE', 'orders"1', 'g', '0');
  await session.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '2', 'STREAMS', 'orders"1', '>');
  await session.call('nonsense');
  const { text } = await get('/metrics');
  for (const line of [
    'rivulet_ready 1',
    'rivulet_command_calls_total{command="xadd"} 3',
    'rivulet_command_duration_seconds_count{command="xadd"} 3',
    'rivulet_stream_entries{db="0",stream="orders\\"1"} 3',
    'rivulet_group_pending{db="0",stream="orders\\"1",group="g"} 2',
    'rivulet_group_lag{db="0",stream="orders\\"1",group="g"} 1',
    'rivulet_pending 2',
    'rivulet_error_replies_total{code="ERR"} 1',
    'rivulet_connected_clients 1',
  ]) {
    assert.ok(text.includes(`${line}\n`), `${line}\nin\n${text}`);
  }
  assert.match(text, /^nodejs_eventloop_lag_seconds /m);
  // Every line is a comment or a sample; no series is there twice.
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  for (const line of samples) assert.match(line, /^[a-z_][a-z0-9_]*(\{.*\})? (-?[0-9.e+-]+|NaN)$/i);
  const series = samples.map((line) => line.slice(0, line.lastIndexOf(' ')));
  assert.equal(new Set(series).size, series.length);
});

test('metrics list no more streams than allowed, and count them all', async () => {
  const port = await freePort();
  await using running = await runServer({
    'http-port': String(port),
    'metrics-series-limit': '5',
  });
  await using session = await running.connect();
  await session.pipeline(Array.from({ length: 20 }, (_, i) => ['XADD', `s${i}`, '*', 'f', 'v']));
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  assert.match(text, /^rivulet_streams 20$/m);
  assert.equal(text.match(/^rivulet_stream_entries\{/gm)?.length, 5);
});

test('readiness says why it is missing', async () => {
  const port = await freePort();
  const running = await runServer({ 'http-port': String(port) });
  const readyz = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`);
    return `${response.status} ${await response.text()}`;
  };
  const journal = running.server.state.engine.journal as { refusal: string | null };
  journal.refusal = 'No space left on device';
  assert.equal(await readyz(), '503 the disk refuses writes: No space left on device\n');
  await using session = await running.connect();
  assert.equal(
    await session.text('XADD', 's', '*', 'f', 'v'),
    '-MISCONF Errors writing to the AOF file: No space left on device\r\n',
  );
  assert.equal(await session.text('GET', 'k'), '$-1\r\n');
  journal.refusal = null;
  assert.equal(await session.text('XLEN', 's'), ':0\r\n');
  running.server.http?.drain();
  assert.equal(await readyz(), '503 shutting down\n');
  await running[Symbol.asyncDispose]();
});

test('CONFIG REWRITE writes the file that the server was started with', async () => {
  using place = directory();
  const file = join(place.path, 'r.conf');
  writeFileSync(file, '# kept\ntimeout 5\n');
  await using running = await runServer();
  running.config.file = file;
  await using session = await running.connect();
  await session.call('CONFIG', 'SET', 'timeout', '7');
  await session.call('ACL', 'SETUSER', 'bob', 'on', 'nopass', '~*', '+@read');
  assert.equal(await session.text('CONFIG', 'REWRITE'), '+OK\r\n');
  const content = readFileSync(file, 'utf8');
  assert.match(content, /^# kept\ntimeout 7\n/);
  assert.match(content, /^user bob on nopass sanitize-payload ~\* resetchannels -@all \+@read$/m);
});

test('ACL SAVE and LOAD use the aclfile', async () => {
  using place = directory();
  const file = join(place.path, 'users.acl');
  writeFileSync(file, 'user ann on nopass ~* +@all\n');
  await using running = await runServer({ aclfile: file });
  await using session = await running.connect();
  assert.match(await session.text('ACL', 'USERS'), /ann/);
  await session.call('ACL', 'SETUSER', 'bob', 'on');
  assert.equal(await session.text('ACL', 'SAVE'), '+OK\r\n');
  await session.call('ACL', 'DELUSER', 'bob');
  assert.equal(await session.text('ACL', 'LOAD'), '+OK\r\n');
  assert.match(await session.text('ACL', 'USERS'), /bob/);
  writeFileSync(file, 'user ann +nonsense\n');
  assert.match(await session.text('ACL', 'LOAD'), /^-ERR .*WARNING: ACL errors detected/);
});
