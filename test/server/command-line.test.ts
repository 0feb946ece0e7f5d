/**
 * `micro server` as a process: its ready line, why it cannot start, how it ends.
 */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { runTool, type ToolResult } from '../helpers/children.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { rivuletCommand, startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

function run(...args: string[]): Promise<ToolResult> {
  const command = rivuletCommand(args);
  return runTool(command.command, command.args, { timeoutMs: 20_000 });
}

/** The line with which it does not start: 2 is the code for arguments and configuration, 1 for all else. */
async function refusal(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  const isUsage = !/^micro: can't start: /.test(stderr);
  assert.equal(code, isUsage ? 2 : 1, stdout + stderr);
  assert.equal(stderr.trimEnd().split('\n').length, 1, `one line, not:\n${stderr}`);
  return stderr.trimEnd();
}

test('it says in one line why it cannot start', async () => {
  await using place = temporaryDirectory('refusals');
  const memory = ['--appendonly', 'no', '--http-port', '0'];
  assert.equal(await refusal('--prot', '1'), "micro: unknown flag 'prot'; did you mean 'port'?");
  assert.equal(
    await refusal('--port', 'x'),
    "micro: bad value for '--port': argument couldn't be parsed into an integer",
  );
  assert.match(await refusal('nowhere.conf'), /can't read configuration file/);
  const mistyped = join(place.path, 'mistyped.conf');
  writeFileSync(mistyped, 'port 0\n\nappendfsink always\n');
  assert.equal(
    await refusal(mistyped),
    `micro: ${mistyped}:3: unknown parameter 'appendfsink'; did you mean 'appendfsync'?`,
  );
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address() as { port: number };
  assert.equal(
    await refusal('--port', String(port), ...memory),
    `micro: can't start: can't listen on 127.0.0.1:${port}: the port is in use`,
  );
  assert.match(
    await refusal('--port', '0', '--appendonly', 'no', '--http-port', String(port)),
    /can't listen on http:\/\/127\.0\.0\.1:\d+: the port is in use/,
  );
  taken.close();
  assert.match(
    await refusal('--port', '0', '--tls-port', '1', ...memory),
    /tls-port needs tls-cert-file and tls-key-file/,
  );
  const file = join(place.path, 'file');
  writeFileSync(file, '');
  assert.equal(
    await refusal('--port', '0', '--http-port', '0', '--dir', file),
    `micro: can't start: ${file} is not a directory. Choose another data directory.`,
  );
  if (process.getuid?.() !== 0) {
    const locked = join(place.path, 'locked');
    mkdirSync(locked);
    chmodSync(locked, 0o500);
    assert.match(await refusal('--port', '0', '--http-port', '0', '--dir', locked), /not writ/i);
  }
});

test('a directory in use is refused, and the process that uses it is named', async () => {
  await using first = await startRivulet();
  const line = await refusal('--port', '0', '--http-port', '0', '--dir', first.directory);
  assert.match(line, new RegExp(`${first.pid}`));
});

test('a mistyped command is answered with the nearest right one', async () => {
  const { command, args } = rivuletCommand([]);
  const serve = args.map((arg) => (arg === 'server' ? 'sevrer' : arg));
  const { code, stderr } = await runTool(command, serve, { timeoutMs: 20_000 });
  assert.equal(code, 2);
  assert.equal(stderr, "micro: unknown command 'sevrer'; did you mean 'server'?\n");
});

test('the command starts from its bundle, unless the modules were compiled later', async () => {
  await using place = temporaryDirectory('launcher');
  const binary = rivuletCommand([]).args[0]!;
  const write = (name: string, text: string, at: number) => {
    const path = join(place.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    utimesSync(path, at, at);
  };
  write('package.json', '{"type":"module"}', 1);
  write('bin/micro.js', readFileSync(binary, 'utf8'), 1);
  const launch = () => runTool(process.execPath, [join(place.path, 'bin/micro.js'), 'a', 'b']);
  const nothing = await launch();
  assert.equal(nothing.code, 1);
  assert.match(nothing.stderr, /^micro: not built yet/);
  const program = (name: string) =>
    `export const main = (args) => console.log('${name}', ...args);`;
  write('dist/src/cli/main.js', program('modules'), 1000);
  assert.equal((await launch()).stdout, 'modules a b\n');
  write('dist/micro/main.js', program('bundle'), 1000);
  assert.equal((await launch()).stdout, 'bundle a b\n');
  write('dist/src/cli/main.js', program('modules'), 2000);
  assert.equal((await launch()).stdout, 'modules a b\n');
});

test('--help names every parameter', async () => {
  const { code, stdout } = await run('--help');
  assert.equal(code, 0);
  for (const name of ['--port', '--appendfsync', '--maxmemory', 'hz', 'replica-priority']) {
    assert.ok(stdout.includes(name), name);
  }
});

test('SIGTERM: replies leave, data stays, the code is 0; it starts again with everything', async () => {
  await using place = temporaryDirectory('sigterm');
  const pidfile = join(place.path, 'pid');
  const directory = join(place.path, 'data');
  const server = await startRivulet({ directory, args: ['--pidfile', pidfile] });
  assert.equal(readFileSync(pidfile, 'utf8'), `${server.pid}\n`);
  const session = await RespSession.open(server.port);
  const blocked = await RespSession.open(server.port);
  blocked.call('XREAD', 'BLOCK', '0', 'STREAMS', 'other', '$').catch(() => {});
  const replies = session.pipeline(
    Array.from({ length: 1000 }, (_, i) => ['XADD', 's', `${i + 1}-0`, 'f', 'v']),
  );
  assert.equal((await replies).length, 1000);
  assert.equal(await server.stop(), 0);
  assert.ok(!existsSync(pidfile));
  await Promise.all([session.closed, blocked.closed]);
  await using again = await startRivulet({ directory });
  await using reader = await RespSession.open(again.port);
  assert.equal(await reader.text('XLEN', 's'), ':1000\r\n');
});

test('SHUTDOWN ends the server as SIGTERM does', async () => {
  await using server = await startRivulet();
  const session = await RespSession.open(server.port);
  await session.call('SET', 'k', 'v');
  session.call('SHUTDOWN').catch(() => {});
  await session.closed;
  await new Promise((resolve) => {
    if (server.process.exitCode !== null) resolve(null);
    else server.process.once('exit', resolve);
  });
  assert.equal(server.process.exitCode, 0);
});

test('the ready line names the real addresses', async () => {
  await using server = await startRivulet({ args: ['--appendonly', 'no'] });
  assert.match(server.output(), /^rivulet \d+\.\d+\.\d+ ready on 127\.0\.0\.1:\d+ \(.*pid \d+\)$/m);
});

/** Resolves when the server cannot be reached any more; a bounded wait. */
async function gone(port: number): Promise<void> {
  for (let i = 0; i < 400; i++) {
    const session = await RespSession.open(port).catch(() => null);
    if (session === null) return;
    await session.close();
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`port ${port} still answers`);
}

/** Waits, at most 10 seconds, until the server has logged this. */
async function said(server: { output(): string }, what: RegExp): Promise<void> {
  for (let i = 0; i < 400 && !what.test(server.output()); i++) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.match(server.output(), what);
}

test('daemonize yes leaves a server in the background, with its pidfile and log', async () => {
  await using place = temporaryDirectory('daemon');
  const path = (name: string) => join(place.path, name);
  writeFileSync(
    path('redis.conf'),
    `daemonize yes\nport 0\nhttp-port 0\ndir "${path('data')}"\npidfile ${path('pid')}\nlogfile ${path('log')}\nrdbcompression yes\n`,
  );
  const { code, stdout, stderr } = await run(path('redis.conf'));
  assert.equal(code, 0, stderr);
  const port = Number(/ready on 127\.0\.0\.1:(\d+)/.exec(stdout)?.[1]);
  const pid = Number(/pid (\d+)/.exec(stdout)?.[1]);
  try {
    assert.equal(readFileSync(path('pid'), 'utf8'), `${pid}\n`);
    await using session = await RespSession.open(port);
    assert.match(await session.text('CONFIG', 'GET', 'daemonize'), /yes/);
    assert.match(readFileSync(path('log'), 'utf8'), /without effect here: rdbcompression"/);
    session.call('SHUTDOWN').catch(() => {});
    await session.closed;
    await gone(port);
    for (let i = 0; i < 400 && existsSync(path('pid')); i++) {
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    assert.ok(!existsSync(path('pid')), 'the pidfile goes with the server');
  } finally {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended, as it should.
    }
  }
});

test('a server in the background that cannot start says why, and the code is 1', async () => {
  await using place = temporaryDirectory('daemon-refused');
  const file = join(place.path, 'file');
  writeFileSync(file, '');
  const line = await refusal(
    '--daemonize',
    'yes',
    '--port',
    '0',
    '--http-port',
    '0',
    '--dir',
    file,
  );
  assert.match(line, /file is not a directory/);
});

test('a flag takes back what the file asks for and this server refuses', async () => {
  await using place = temporaryDirectory('taken-back');
  const file = join(place.path, 'redis.conf');
  const refused = {
    'cluster-enabled': ['yes', 'no', /this server cannot be a node of a cluster/],
    replicaof: ['127.0.0.1 6379', 'no one', /this server cannot be a replica/],
    'min-replicas-to-write': ['1', '0', /has no replicas/],
    'maxmemory-policy': ['allkeys-lru', 'noeviction', /'allkeys-lru' deletes keys/],
  } as const;
  for (const [name, [value, , why]] of Object.entries(refused)) {
    writeFileSync(file, `port 0\n${name} ${value}\n`);
    const line = await refusal(file, '--appendonly', 'no', '--http-port', '0');
    assert.match(line, why);
    assert.ok(line.includes(`${file}:2: '${name} ${value}'`), line);
  }
  const all = Object.entries(refused);
  writeFileSync(
    file,
    `${all.map(([name, [value]]) => `${name} ${value}\n`).join('')}daemonize yes\n`,
  );
  const args = all.flatMap(([name, [, value]]) => [`--${name}`, ...value.split(' ')]);
  await using server = await startRivulet({
    args: ['--config', file, '--appendonly', 'no', '--daemonize', 'no', ...args],
  });
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('PING'), '+PONG\r\n');
});

test('a pidfile that cannot be written is a warning; signals end the server all the same', async () => {
  await using place = temporaryDirectory('no-pidfile');
  await using server = await startRivulet({
    args: ['--appendonly', 'no', '--pidfile', join(place.path, 'missing', 'pid')],
  });
  await said(server, /Failed to write PID file/);
  server.process.kill('SIGHUP');
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('PING'), '+PONG\r\n', 'SIGHUP does not end it');
  assert.equal(await server.stop('SIGTERM'), 0);
});

test('SHUTDOWN removes the pidfile', async () => {
  await using place = temporaryDirectory('shutdown-pidfile');
  const pidfile = join(place.path, 'pid');
  await using server = await startRivulet({ args: ['--pidfile', pidfile, '--appendonly', 'no'] });
  const session = await RespSession.open(server.port);
  const ended = new Promise((resolve) => server.process.once('exit', resolve));
  session.call('SHUTDOWN', 'NOSAVE').catch(() => {});
  assert.equal(await ended, 0);
  assert.ok(!existsSync(pidfile));
});

test('rename-command and include with wildcards work as in Redis', async () => {
  await using place = temporaryDirectory('renamed');
  const path = (name: string) => join(place.path, name);
  mkdirSync(path('conf.d'));
  writeFileSync(path('conf.d/10-a.conf'), 'rename-command CONFIG ""\nrename-command EVAL ""\n');
  writeFileSync(path('conf.d/20-b.conf'), 'rename-command KEYS k3ys\nloadmodule /lib/x.so arg\n');
  writeFileSync(path('redis.conf'), 'include conf.d/*.conf\nsearch-on-timeout fail\n');
  await using server = await startRivulet({
    args: ['--config', path('redis.conf'), '--appendonly', 'no'],
  });
  await using session = await RespSession.open(server.port);
  assert.match(await session.text('CONFIG', 'GET', 'port'), /^-ERR unknown command 'CONFIG'/);
  assert.match(await session.text('KEYS', '*'), /^-ERR unknown command 'KEYS'/);
  assert.equal(await session.text('K3YS', '*'), '*0\r\n');
  assert.equal(await session.text('ACL', 'SETUSER', 'u', '+config|get', '-keys'), '+OK\r\n');
  assert.equal(await session.text('COMMAND', 'INFO', 'config'), '*1\r\n$-1\r\n');
  await said(server, /without effect here: loadmodule, search-on-timeout/);
  writeFileSync(path('redis.conf'), 'rename-command NOPE x\n');
  assert.match(
    await refusal(path('redis.conf'), '--appendonly', 'no'),
    /No such command in rename/,
  );
});
