/** Tools of a developer: new, run, completion, the prompt, bench, and services by hand. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { splitLine } from '../../src/cli/commands/prompt.ts';
import { latencyPlot, percentiles } from '../../src/cli/printing/latency.ts';
import { ended, runTool, startChild } from '../helpers/children.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { repositoryRoot } from '../house/source-file.ts';
import { type BrokerFixture, brokerFixture } from './broker-fixture.ts';
import { MICRO, micro, shell } from './micro.ts';

let fixture: BrokerFixture;
before(async () => {
  fixture = await brokerFixture();
});
after(() => fixture[Symbol.asyncDispose]());

const run = (...args: string[]) =>
  micro(args, { env: { MICRO_BROKER: fixture.url, MICRO_REGISTRY: 'broker' } });

test('the project that micro new writes compiles, and its tests pass', async () => {
  await using home = temporaryDirectory('project');
  const made = await micro(['new', 'order-desk'], { cwd: home.path });
  assert.equal(made.code, 0, made.stderr);
  const project = join(home.path, 'order-desk');
  mkdirSync(join(project, 'node_modules', '@types'), { recursive: true });
  symlinkSync(repositoryRoot, join(project, 'node_modules', 'rivulet'), 'dir');
  const types = join(repositoryRoot, 'node_modules', '@types', 'node');
  symlinkSync(types, join(project, 'node_modules', '@types', 'node'), 'dir');
  mkdirSync(join(project, 'node_modules', '.bin'));
  const compiler = join(repositoryRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  symlinkSync(compiler, join(project, 'node_modules', '.bin', 'tsc'));
  // As the README of the project says.
  const tested = await runTool('npm', ['test'], {
    cwd: project,
    env: { PATH: `${dirname(process.execPath)}:${process.env.PATH}`, HOME: home.path },
    timeoutMs: 120_000,
  });
  assert.equal(tested.code, 0, tested.stdout + tested.stderr);
  assert.match(tested.stdout, /# pass 1|ℹ pass 1/);
  assert.equal((await micro(['new', 'order-desk'], { cwd: home.path })).code, 2);
  for (const name of ['Order', '1st', 'a_b', '..']) {
    assert.equal((await micro(['new', name], { cwd: home.path })).code, 2, name);
  }
  rmSync(join(project, 'node_modules'), { recursive: true });
});

test('run labels the output of services, restarts one whose file changed, and ends all', async () => {
  await using home = temporaryDirectory('run');
  const write = (name: string, text: string) => writeFileSync(join(home.path, name), text);
  const stays = 'setInterval(() => {}, 1000);';
  write('one.mjs', `console.log('one starts'); ${stays}`);
  write('two.mjs', `console.log('two starts'); ${stays}`);
  const child = startChild(process.execPath, [MICRO, 'run', 'one.mjs', 'two.mjs'], {
    cwd: home.path,
  });
  let stdout = '';
  child.stdout?.on('data', (text) => {
    stdout += text;
  });
  const printed = (text: RegExp) =>
    until(
      () => text.test(stdout),
      () => `${text} in ${stdout}`,
    );
  await printed(/one \| one starts/);
  await printed(/two \| two starts/);
  write('one.mjs', `console.log('one again'); ${stays}`);
  await printed(/one \| one again/);
  child.kill('SIGINT');
  assert.equal(await ended(child), 0);
  const failing = await shell(`printf 'process.exit(7)' > bad.mjs && micro run --once bad.mjs`, {
    cwd: home.path,
  });
  assert.equal(failing.code, 7);
  assert.equal((await micro(['run', 'nowhere.mjs'], { cwd: home.path })).code, 2);
});

test('the prompt runs commands, survives their failures, and splits quotes as a shell does', async () => {
  const { code, stdout, stderr } = await micro(['cli'], {
    env: { MICRO_BROKER: fixture.url },
    input: `publish letters '{"a": 1}'\nnonsense\n"open\nmicro topic tail letters --raw\nquit\nlist topics\n`,
  });
  assert.equal(code, 0);
  assert.equal(stdout, 'ok\n{"a": 1}\n');
  assert.match(stderr, /unknown command 'nonsense'[\s\S]*quote is not closed/);
  assert.deepEqual(splitLine(` a "b c" 'd "e'f "" \\x "g\\"h" `), [
    'a',
    'b c',
    'd "ef',
    '',
    '\\x',
    'g"h',
  ]);
});

test('bench measures and leaves nothing behind', async () => {
  for (const what of ['publish', 'consume', 'request']) {
    const { code, stdout, stderr } = await run('bench', what, '--count', '500', '--json');
    assert.equal(code, 0, stderr);
    const result = JSON.parse(stdout);
    assert.ok(result.perSecond > 0 && result.p50 > 0 && result.p99 >= result.p50, stdout);
    assert.equal(result.operations, 450);
  }
  assert.ok(!(await run('list', 'topics', '-q')).stdout.includes('micro.bench'));
  const shown = await run(
    'bench',
    'call',
    'go.micro.srv.greeter',
    'Say.Hello',
    '{}',
    '--count',
    '200',
  );
  assert.match(shown.stdout, /ms {2}#+/);
});

test('percentiles are those of the sorted list, and the plot counts each value once', () => {
  const sorted = Array.from({ length: 1000 }, (_, i) => (i + 1) / 10);
  assert.deepEqual(percentiles(sorted), { p50: 50, p90: 90, p99: 99, p999: 99.9, max: 100 });
  const counts = latencyPlot(sorted).match(/\d+$/gm)!.map(Number);
  assert.equal(
    counts.reduce((sum, each) => sum + each, 0),
    1000,
  );
  assert.equal(latencyPlot([5]).split('\n').length, 1);
  assert.deepEqual(percentiles([7]), { p50: 7, p90: 7, p99: 7, p999: 7, max: 7 });
});

test('services are shown in go-micro’s form, asked for their health, and registered by hand', async () => {
  const shown = await run('get', 'service', 'go.micro.srv.greeter');
  assert.match(
    shown.stdout,
    /^service {2}go\.micro\.srv\.greeter\n\nversion 1\.0\.0\n\nID\tAddress\tMetadata\n.*\t127\.0\.0\.1:\d+\t/,
  );
  assert.match(shown.stdout, /\n\nEndpoint: Say\.Hello\nRequest: /);
  const health = await run('health', 'go.micro.srv.greeter');
  assert.equal(health.code, 0, health.stdout + health.stderr);
  assert.match(health.stdout, /node\t\taddress:port\t\tstatus\n.*\t\tok\n/);
  assert.match((await run('stats', 'go.micro.srv.greeter')).stdout, /\tmemory\t.*\n.*mb\t/);
  const record = '{"name":"old","version":"1","nodes":[{"id":"old-1","address":"127.0.0.1:1"}]}';
  assert.equal((await run('register', 'service', record)).stdout, 'ok\n');
  assert.match((await run('list', 'services')).stdout, /^old$/m);
  const sick = await run('health', 'old', '--timeout', '1s');
  assert.equal(sick.code, 1, 'a node that does not answer is not well');
  assert.equal((await run('deregister', 'service', record)).stdout, 'ok\n');
  assert.equal((await run('get', 'service', 'old')).code, 3);
  assert.equal((await run('register', 'service', '{"name":"x","nodes":[]}')).code, 2);
  const streamed = await run('stream', 'go.micro.srv.greeter', 'Say.Count', '{"to":3}', '--json');
  assert.equal(streamed.stdout, '{"number":1}\n{"number":2}\n{"number":3}\n');
  const few = await run('stream', 'go.micro.srv.greeter', 'Say.Count', '{"to":9}', '-n', '2');
  assert.equal(few.stdout, '{\n\t"number": 1\n}\n{\n\t"number": 2\n}\n');
});
