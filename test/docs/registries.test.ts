/** The commands of docs/registries.md run as they are written, beside a member of a ring. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { GossipRegistry } from '../../src/registry/gossip/gossip.ts';
import { shell } from '../cli/micro.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { repositoryRoot } from '../house/source-file.ts';

test('the commands of docs/registries.md run as they are written', async () => {
  await using home = temporaryDirectory('registries');
  await using ring = new GossipRegistry();
  const port = (await ring.address()).split(':')[1] ?? '';
  const page = readFileSync(join(repositoryRoot, 'docs', 'registries.md'), 'utf8');
  const lines = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, text = '']) =>
    text.split('\n').filter((line) => line !== ''),
  );
  const outputs: string[] = [];
  for (const line of lines) {
    const options = { env: { XDG_CONFIG_HOME: home.path }, cwd: home.path };
    const { code, stdout, stderr } = await shell(line.replaceAll('7946', port), options);
    assert.equal(code, 0, `${line}\n${stdout}${stderr}`);
    outputs.push(stdout);
  }
  assert.equal(outputs.length, 3);
  for (const output of outputs.slice(1)) assert.match(output, /old-1/);
  const [found] = await ring.getService('go.micro.srv.old');
  assert.equal(found?.nodes[0]?.address, '127.0.0.1:9000');
  assert.deepEqual(ring.members(), []);
});
