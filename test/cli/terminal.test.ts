/** Output that depends on a terminal: in a pty of `script`, and without one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { runTool } from '../helpers/children.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { MICRO, micro } from './micro.ts';

const skip =
  spawnSync('script', ['--version'], { stdio: 'ignore' }).status !== 0 &&
  'needs script of util-linux, which this machine does not have';

/** Everything that the command writes to its terminal. */
async function onTerminal(args: readonly string[], url: string, columns = 80): Promise<string> {
  const line = `stty cols ${columns}; exec "${process.execPath}" "${MICRO}" ${args.join(' ')}`;
  const { PATH = '', HOME = '' } = process.env;
  const env = { PATH, HOME, MICRO_BROKER: url, XDG_CONFIG_HOME: '/nonexistent', TERM: 'xterm' };
  const { stdout } = await runTool('script', ['-qec', line, '/dev/null'], { env });
  return stdout;
}

test('a progress bar is shown on a terminal, fits into it, and is gone at the end', {
  skip,
}, async () => {
  await using server = await startRivulet({ args: ['--appendonly', 'no'] });
  const url = `rivulet://127.0.0.1:${server.port}`;
  const args = ['publish', 'many', 'x', '--count', '60000'];
  for (const columns of [80, 20]) {
    const shown = await onTerminal(args, url, columns);
    const bars = shown
      .split('\r\u001b[K')
      .slice(1)
      .map((bar) => bar.split(/[\r\n]/)[0]!);
    assert.ok(
      bars.some((bar) => bar.startsWith('publishing to many')),
      JSON.stringify(shown),
    );
    assert.ok(
      bars.every((bar) => bar.length < columns),
      `${columns}: ${JSON.stringify(bars)}`,
    );
    assert.equal(bars.at(-1)?.replace(/ok$/, ''), '', 'the bar is removed');
    assert.match(shown, /ok\r\n$/);
  }
  const piped = await micro(args, { env: { MICRO_BROKER: url } });
  assert.deepEqual([piped.stdout, piped.stderr], ['ok\n', '']);
});

test('JSON is indented on a terminal and one line in a pipe', { skip }, async () => {
  await using server = await startRivulet({ args: ['--appendonly', 'no'] });
  const url = `rivulet://127.0.0.1:${server.port}`;
  await micro(['publish', 'one', 'x'], { env: { MICRO_BROKER: url } });
  assert.match(await onTerminal(['list', 'topics', '--json'], url), /^\[\r\n {2}\{\r\n/);
  const piped = await micro(['list', 'topics', '--json'], { env: { MICRO_BROKER: url } });
  assert.equal(piped.stdout.split('\n').length, 2);
});
