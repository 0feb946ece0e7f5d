/** The commands of docs/go-micro.md run as they are written, beside a service that is in etcd. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openRegistry } from '../../src/registry/open-registry.ts';
import { shell } from '../cli/micro.ts';
import { runTool } from '../helpers/children.ts';
import { startEtcd } from '../helpers/etcd-server.ts';
import { missing } from '../helpers/requirements.ts';
import { repositoryRoot } from '../house/source-file.ts';
import { startOrders } from '../interop/go/go-orders.ts';
import { missingGo, startGo } from '../interop/go/go-programs.ts';

const SERVICE = 'go.micro.go.orders';
const page = readFileSync(join(repositoryRoot, 'docs', 'go-micro.md'), 'utf8');
const lines = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, text = '']) =>
  text.split('\n').filter((line) => line !== ''),
);

for (const version of ['v2', 'v5'] as const) {
  test(`the Go program of ${version} builds as docs/go-micro.md says`, {
    skip: missingGo(version) || (version === 'v2' && missingGo('v2-plugins')),
  }, async () => {
    const line = lines.find((each) => each.startsWith(`cd interop/go/${version} `));
    const env = { ...process.env, GOPROXY: 'off', GOFLAGS: '-mod=readonly -buildvcs=false' };
    const options = { cwd: repositoryRoot, env, timeoutMs: 480_000 };
    const { code, stderr } = await runTool('/bin/sh', ['-c', String(line)], options);
    assert.equal(code, 0, stderr);
  });
}

test('the commands of micro in docs/go-micro.md see and call the service', {
  skip: missing('etcd'),
}, async () => {
  await using etcd = await startEtcd();
  await using registry = await openRegistry(etcd.url);
  // In Go where it can be had.
  await using _service =
    missingGo('v2') === false
      ? await startGo('v2', 'serve', 'mucp', etcd.url, SERVICE, '')
      : await startOrders(SERVICE, registry, 'http', '');
  const outputs: string[] = [];
  for (const line of lines.filter((each) => each.startsWith('micro '))) {
    const { code, stdout, stderr } = await shell(line.replaceAll('2379', String(etcd.port)));
    assert.equal(code, 0, `${line}\n${stdout}${stderr}`);
    outputs.push(stdout);
  }
  assert.equal(outputs.length, 3);
  assert.equal(outputs[0]?.trim(), SERVICE);
  assert.match(outputs[1] ?? '', /Endpoint: OrderSrv\.GetOrder/);
  assert.equal(JSON.parse(outputs[2] ?? '').id, 7);
});

test('each test that docs/go-micro.md names is there', () => {
  const named = [...page.matchAll(/\| ([a-z-]+\.test\.ts) \|/g)].map(([, name = '']) => name);
  assert.ok(named.length > 10);
  for (const name of named) {
    const folder = name.startsWith('go-') ? 'go' : '.';
    assert.ok(existsSync(join(repositoryRoot, 'test', 'interop', folder, name)), name);
  }
});
