/** `--json`: every command that prints a result has it, and standard output then holds JSON and nothing else. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { COMMANDS } from '../../src/cli/command-table.ts';
import { examplesOf } from '../../src/cli/examples.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { brokerFixture } from './broker-fixture.ts';
import { micro, shell } from './micro.ts';

/** They serve, or print what a shell or a person at a prompt reads. */
const WITHOUT_RESULT = /^(api|proxy|web|bot|cli|completion)$/;
/** A reply or a message that is asked for as it comes. */
const AS_IT_COMES = / --(output raw|raw|format)\b/;

function leavesOf(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
}

async function commandsWithResult(): Promise<Command[]> {
  const rows = COMMANDS.filter(({ name, load }) => load && !WITHOUT_RESULT.test(name));
  return Promise.all(rows.map((row) => row.load?.() as Promise<Command>));
}

test('every command with a result takes --json', async () => {
  for (const command of await commandsWithResult()) {
    for (const leaf of leavesOf(command)) {
      const names = leaf.options.map(({ long }) => long);
      assert.ok(names.includes('--json'), `${command.name()} ${leaf.name()}`);
    }
  }
});

test('with --json every example prints JSON only: one value, or one object a line', async () => {
  await using fixture = await brokerFixture();
  await using home = temporaryDirectory('home');
  const env = { MICRO_BROKER: fixture.url, XDG_CONFIG_HOME: home.path };
  const order = new URL('../../examples/11-workflows/order.js', import.meta.url);
  writeFileSync(join(home.path, 'order.mjs'), `export * from '${order}';`);
  for (const command of await commandsWithResult()) {
    await fixture.renew();
    for (const { line, untilStopped } of examplesOf(command)) {
      if (untilStopped || AS_IT_COMES.test(line)) continue;
      const here = line.replaceAll('rivulet://127.0.0.1:7488', fixture.url);
      const asked = / --json\b/.test(here) ? here : `${here} --json`;
      const { code, stdout, stderr } = await shell(asked, { env, cwd: home.path });
      assert.equal(code, 0, `${asked}\n${stdout}${stderr}`);
      mustBeJson(stdout, asked);
    }
  }
});

function mustBeJson(text: string, line: string): void {
  try {
    JSON.parse(text);
  } catch {
    for (const each of text.split('\n').filter((one) => one !== '')) {
      assert.doesNotThrow(() => JSON.parse(each), `${line}\n${text}`);
    }
  }
}

test('new, generate and context say as JSON what they have written, without passwords', async () => {
  await using home = temporaryDirectory('home');
  const options = { cwd: home.path, env: { XDG_CONFIG_HOME: home.path } };
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await micro([...args, '--json'], options);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const made = await run('new', 'desk');
  assert.equal(made.name, 'desk');
  assert.equal(made.directory, join(home.path, 'desk'));
  for (const file of made.files)
    assert.notEqual(readFileSync(join(made.directory, file)).length, 0);
  writeFileSync(join(home.path, 'a.proto'), 'syntax = "proto3"; message Name { string name = 1; }');
  const written = { from: 'a.proto', path: 'a.proto.ts' };
  assert.deepEqual(await run('generate', 'a.proto'), [{ ...written, changed: true }]);
  assert.deepEqual(await run('generate', 'a.proto'), [{ ...written, changed: false }]);
  const context = { name: 'x', broker: 'rivulet://ann@h:1', registry: null };
  const added = await run('context', 'add', 'x', '--broker', 'rivulet://ann:secret@h:1');
  assert.deepEqual(
    { ...added, file: '' },
    { ...context, broker: added.broker, current: true, file: '' },
  );
  assert.doesNotMatch(JSON.stringify(added), /secret/);
  assert.match(added.broker, /^rivulet:\/\/.*h:1$/);
  const { file: _, ...same } = added;
  assert.deepEqual(await run('context', 'select', 'x'), same);
  assert.deepEqual(await run('context', 'list'), [same]);
  assert.deepEqual(await run('context', 'remove', 'x'), { ...same, current: false });
});

test('run prints each line of a service, and what it says of one itself, as an object', async () => {
  await using home = temporaryDirectory('run');
  const program = `console.log('out'); console.error('"err" \\u001b[31m'); process.exitCode = 3;`;
  writeFileSync(join(home.path, 'one.mjs'), program);
  const { code, stdout } = await micro(['run', '--once', '--json', 'one.mjs'], { cwd: home.path });
  assert.equal(code, 3);
  const lines = stdout.trimEnd().split('\n');
  const said = lines.map((line) => JSON.parse(line)).sort((a, b) => (a.from < b.from ? -1 : 1));
  assert.deepEqual(said, [
    { service: 'one', from: 'micro', text: 'ended with 3' },
    { service: 'one', from: 'stderr', text: '"err" \u001b[31m' },
    { service: 'one', from: 'stdout', text: 'out' },
  ]);
});
