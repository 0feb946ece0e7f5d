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

async function refusal(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  assert.equal(code, 1, stdout + stderr);
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
  assert.equal(code, 1);
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
