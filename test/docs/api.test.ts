/** Every command of docs/api.md runs, and prints what the page says. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startGateway } from '../../src/gateway/gateway.ts';
import { startProxy } from '../../src/proxy/proxy.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { shell } from '../cli/micro.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { repositoryRoot } from '../house/source-file.ts';

const Greeter = contract('go.micro.api.greeter', {
  Say: {
    Hello: unary<{ name: string }, { msg: string }>(),
    Count: serverStream<{ to: number }, { number: number }>(),
  },
});

test('the commands of docs/api.md print what the page says', async (t) => {
  if (spawnSync('curl', ['--version']).status !== 0) return t.skip('curl is not installed');
  await using server = await startRivulet({ args: ['--appendfsync', 'no'] });
  const broker = `rivulet://127.0.0.1:${server.port}`;
  const outside = { environment: false, args: false } as const;
  await using service = createService({ broker, ...outside });
  service.handle(Greeter, {
    Say: {
      Hello: ({ name }) => ({ msg: `Hello ${name}` }),
      async *Count({ to }) {
        for (let number = 1; number <= to; number++) yield { number };
      },
    },
  });
  await service.start();
  await using calls = await startGateway({ address: ':0', broker, topics: ['news.>'] });
  await using events = await startGateway({ address: ':0', broker, handler: 'event', type: 'evt' });
  await using proxy = await startProxy({ address: ':0', broker });
  const page = readFileSync(join(repositoryRoot, 'docs', 'api.md'), 'utf8');
  const blocks = [...page.matchAll(/```sh\n([\s\S]*?)```(?:\n\n```text\n([\s\S]*?)```)?/g)];
  assert.ok(blocks.length >= 9);
  for (const [, commands = '', expected] of blocks) {
    const line = commands
      .replaceAll('127.0.0.1:8080', calls.address)
      .replaceAll('127.0.0.1:8090', events.address)
      .replaceAll('127.0.0.1:8081', proxy.address);
    const { code, stdout, stderr } = await shell(`set -e\n${line}`, {
      env: { MICRO_BROKER: broker },
    });
    assert.equal(code, 0, `${commands}\n${stdout}${stderr}`);
    assert.notEqual(stdout, '', commands);
    if (expected === undefined) continue;
    const parts = expected
      .trim()
      .split('...')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    assert.match(
      stdout.replace(/^ok\n/, '').trim(),
      new RegExp(`^${parts.join('[^"\\n]+')}$`),
      commands,
    );
  }
});
