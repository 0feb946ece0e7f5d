/** Every example in the help of a command runs, and every command has one. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { COMMANDS } from '../../src/cli/command-table.ts';
import { examplesOf } from '../../src/cli/examples.ts';
import { freePort } from '../helpers/free-port.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { brokerFixture } from './broker-fixture.ts';
import { shell, untilReady } from './micro.ts';

test('every command that takes arguments has an example', async () => {
  for (const command of await parsedCommands()) {
    for (const leaf of leavesOf(command)) {
      assert.ok(examplesOf(leaf).length > 0, `${leaf.name()} of ${command.name()} has no example`);
    }
  }
});

test('every example ends with exit code 0, one after the other of one command', async () => {
  await using fixture = await brokerFixture();
  await using home = temporaryDirectory('home');
  const env = { MICRO_BROKER: fixture.url, XDG_CONFIG_HOME: home.path };
  // The module of the example of `micro workflow move`.
  const order = new URL('../../examples/11-workflows/order.js', import.meta.url);
  writeFileSync(join(home.path, 'order.mjs'), `export * from '${order}';`);
  for (const command of await parsedCommands()) {
    await fixture.renew();
    for (const { line, untilStopped } of examplesOf(command)) {
      if (untilStopped) {
        await startsAndStops(line, env);
        continue;
      }
      // The documentation's server is the test's.
      const here = line.replaceAll('rivulet://127.0.0.1:7488', fixture.url);
      const { code, stdout, stderr } = await shell(here, { env, cwd: home.path });
      assert.equal(code, 0, `${line}\n${stdout}${stderr}`);
      assert.notEqual(`${stdout}${stderr}`, '', `${line} prints nothing`);
    }
  }
});

/** Ports of examples are those of the documentation; a test takes free ones. */
async function startsAndStops(line: string, env: Record<string, string>): Promise<void> {
  const address = `--address 127.0.0.1:${await freePort()}`;
  const free = / --address /.test(line)
    ? line.replace(/--address \S+/, address)
    : `${line} ${address}`;
  const stopped = await untilReady(free, { env });
  assert.equal(stopped.code, 0, `${line}\n${stopped.stdout}${stopped.stderr}`);
}

test('examples of commands that read their own arguments run too', async () => {
  await using home = temporaryDirectory('home');
  const env = { XDG_CONFIG_HOME: home.path };
  for (const { name, examples = [], load } of COMMANDS) {
    assert.ok(load !== undefined || examples.length > 0, `${name} has no example`);
    for (const { line, untilStopped } of examples) {
      let free = line;
      for (const port of ['7488', '7489', '8080']) {
        free = free.replace(port, String(await freePort()));
      }
      // Without these, the ports of a server that runs here would be taken.
      if (name === 'server') {
        for (const flag of ['--port', '--http-port']) {
          if (!free.includes(`${flag} `)) free += ` ${flag} ${await freePort()}`;
        }
      }
      const run = untilStopped ? untilReady : shell;
      const { code, stdout, stderr } = await run(free, { env, cwd: home.path });
      assert.equal(code, 0, `${line}\n${stdout}${stderr}`);
      const shown = await shell(`micro help ${name}`);
      assert.ok(shown.stdout.includes(line), `micro help ${name} does not show: ${line}`);
    }
  }
});

async function parsedCommands(): Promise<Command[]> {
  const rows = COMMANDS.filter(({ load }) => load !== undefined);
  assert.ok(rows.length >= 8);
  return Promise.all(rows.map(({ load }) => load!()));
}

function leavesOf(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
}
