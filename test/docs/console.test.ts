/** The command of docs/console.md starts the console that the page describes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { untilReady } from '../cli/micro.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { repositoryRoot } from '../house/source-file.ts';

const page = readFileSync(join(repositoryRoot, 'docs', 'console.md'), 'utf8');

test('each command of docs/console.md starts a console and ends with 0', async () => {
  const lines = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, text = '']) =>
    text.split('\n').filter((line) => line !== ''),
  );
  assert.ok(lines.length > 0);
  await using server = await startRivulet();
  for (const line of lines) {
    const here = line.replaceAll('127.0.0.1:7488', `127.0.0.1:${server.port}`);
    const { code, stdout, stderr } = await untilReady(`${here} --address 127.0.0.1:0`);
    assert.equal(code, 0, `${line}\n${stdout}${stderr}`);
    assert.match(stdout, /ready on http:\/\/127\.0\.0\.1:\d+\/console\//);
  }
});
