/** The examples of docs/extensions.md, run one after the other: what the page shows is what the server answers. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { InProcessServer } from '../helpers/in-process-server.ts';
import { repositoryRoot } from '../house/source-file.ts';

test('every example of docs/extensions.md answers as the page says', () => {
  const page = readFileSync(join(repositoryRoot, 'docs', 'extensions.md'), 'utf8');
  const lines = [...page.matchAll(/^```\n(.*?)^```$/gms)].flatMap(([, block]) =>
    block.trimEnd().split('\n'),
  );
  const server = new InProcessServer();
  const session = server.session();
  let command = '';
  let run = 0;
  for (const line of lines) {
    const wait = /^\((\d+) ms pass(es)?\)$/.exec(line);
    if (wait) server.advance(Number(wait[1]));
    else if (line.startsWith('> ')) command = line.slice(2);
    else {
      const words = [...command.matchAll(/"([^"]*)"|\S+/g)].map(([word, quoted]) => quoted ?? word);
      const reply = session.call(...words);
      const shown = reply === 'OK' ? 'OK' : JSON.stringify(reply);
      assert.equal(reply instanceof Error ? reply.message : shown, line, command);
      run++;
    }
  }
  assert.ok(run > 30, `${run} examples`);
});
