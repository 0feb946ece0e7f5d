/** Exit codes of every command: what is written wrong, what is not there, what cannot be reached. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { COMMANDS } from '../../src/cli/command-table.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { micro } from './micro.ts';

interface Line {
  /** The command and the one below it. */
  readonly words: readonly string[];
  /** Null for those that read their arguments themselves. */
  readonly command: Command | null;
}

const lines: Line[] = [];
for (const { name, load } of COMMANDS) {
  const command = load === undefined ? null : await load();
  const below = command?.commands.filter((each) => each.name() !== 'help') ?? [];
  if (below.length === 0) lines.push({ words: [name], command });
  for (const each of below) lines.push({ words: [name, each.name()], command: each });
}

/** Some at once: each is a process. */
async function each(cases: readonly Line[], check: (line: Line) => Promise<void>): Promise<void> {
  const rest = [...cases];
  const work = async () => {
    for (let next = rest.shift(); next !== undefined; next = rest.shift()) await check(next);
  };
  await Promise.all([work(), work(), work()]);
}

async function mustEnd(args: readonly string[], expected: number): Promise<string> {
  const { code, stdout, stderr } = await micro(args);
  const shown = `micro ${args.join(' ')}: ${code}\n${stdout}${stderr}`;
  assert.equal(code, expected, shown);
  assert.equal(stderr.trimEnd().split('\n').length, 1, `one line: ${shown}`);
  assert.match(stderr, /^micro: /, shown);
  return stderr;
}

test('a flag that a command does not know ends it with 2', async () => {
  await each(lines, async ({ words }) => {
    const text = await mustEnd([...words, '--no-such-flag'], 2);
    // An option that must be given is missed first.
    assert.match(text, /no-such-flag|required option/);
  });
});

test('an argument that is missing, too much, or no command, ends micro with 2', async () => {
  const needing = lines.filter(({ command }) => command?.registeredArguments[0]?.required === true);
  assert.ok(needing.length >= 20, `${needing.length}`);
  await each(needing, async ({ words }) => void (await mustEnd(words, 2)));
  for (const words of [['repair'], ['repair', 'a', 'b'], ['call'], ['call', 'a', 'b', 'c', 'd']]) {
    await mustEnd(words, 2);
  }
  await mustEnd(['nosuch'], 2);
  await mustEnd(['topic', 'nosuch'], 2);
});

/** Commands of a broker, and what they need beside its address. */
const OF_A_BROKER: readonly (readonly string[])[] = [
  ['publish', 't', 'x'],
  ['subscribe', 't'],
  ['request', 't', 'x'],
  ['topic', 'info', 't'],
  ['topic', 'replay', 't', 'g', '--from', 'earliest'],
  ['group', 'info', 't', 'g'],
  ['group', 'pending', 't', 'g'],
  ['list', 'topics'],
  ['list', 'groups', 't'],
  ['list', 'workflows'],
  ['workflow', 'list'],
  ['bench', 'publish', '--count', '1'],
];

test('a broker that is away ends a command with 4, an address that is none with 2', async () => {
  const cases = OF_A_BROKER.map((words) => ({ words, command: null }));
  await each(cases, async ({ words }) => {
    await mustEnd([...words, '--broker', 'rivulet://127.0.0.1:1'], 4);
    await mustEnd([...words, '--broker', 'nosuch://127.0.0.1'], 2);
  });
});

test('a directory that cannot be made is an error at once, and one that is not there has its code', async () => {
  await using home = temporaryDirectory('exit-codes');
  assert.match(await mustEnd(['new', '/proc/order-desk'], 1), /\/proc\/order-desk/);
  const server = ['server', '--port', '0', '--http-port', '0', '--dir', '/proc/data'];
  assert.match(await mustEnd(server, 1), /\/proc\/data/);
  await mustEnd(['repair', join(home.path, 'nothing')], 3);
});

test('a line that the terminal of the bot refuses ends it with 1, behind the answers to lines before', async () => {
  const args = ['bot', '--inputs', 'terminal', '--registry', 'memory'];
  const input = `echo before\n${'x'.repeat(2 ** 20 + 2 ** 17)}\necho behind\n`;
  const { code, stdout, stderr } = await micro(args, { input });
  assert.deepEqual([code, stdout], [1, 'before\n']);
  assert.match(stderr, /^micro: a line of the terminal has at most 1048576 bytes/m);
});
