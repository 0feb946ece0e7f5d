/** Python's grpcio and its plain HTTP client against one port of ours. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { runTool } from '../helpers/children.ts';
import { missing, PYTHON } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';
import { repositoryRoot } from '../house/source-file.ts';
import { openShop } from './shop.ts';

/** Where `npm test` puts the modules that Debian does not have. */
const MODULES = join(repositoryRoot, 'node_modules', '.cache', 'python');

const env = { ...process.env, PYTHONPATH: MODULES };

const noReflection =
  spawnSync(PYTHON, ['-c', 'import grpc_reflection'], { env, stdio: 'ignore' }).status !== 0 &&
  'needs grpcio-reflection: pip install --target node_modules/.cache/python --no-deps grpcio-reflection==1.51.1';

async function run(script: string, ...args: string[]) {
  const path = join(repositoryRoot, 'test', 'interop', script);
  const { code, stdout, stderr } = await runTool(PYTHON, [path, ...args], { env });
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

test('grpcio lists the services by reflection, calls four kinds, and sees errors, deadlines and health', {
  skip: missing('grpcio'),
}, async () => {
  await using shop = await openShop();
  const seen = await run('grpc-client.py', shop.address);
  assert.deepEqual(seen.services, [
    'grpc.health.v1.Health',
    'grpc.reflection.v1.ServerReflection',
    'grpc.reflection.v1alpha.ServerReflection',
    'shop.OrderSrv',
  ]);
  assert.equal(seen.files.length, 2);
  assert.deepEqual(seen.order, {
    id: '7',
    userName: 'Micro',
    state: 'PAID',
    tags: ['a', 'ü'],
    price: { cents: '9007199254740993', currency: 'EUR' },
    counts: { apples: 3 },
  });
  assert.equal(seen.head, 'python');
  assert.equal(seen.compressed, 8);
  assert.equal(seen.failure[0], 'ALREADY_EXISTS');
  assert.equal(JSON.parse(seen.failure[1]).detail, 'Schon da: ü %');
  assert.equal(seen.late, 'DEADLINE_EXCEEDED');
  assert.equal(seen.large, 'RESOURCE_EXHAUSTED');
  assert.equal(seen.unknown, 'UNIMPLEMENTED');
  assert.equal(seen.watched, 499_500);
  assert.equal(seen.imported, 499_500);
  assert.deepEqual(seen.doubled, [0, 2, 4, 6, 8]);
  assert.equal(seen.json, '5');
  assert.deepEqual(seen.health, [1, 1]);
  assert.equal(seen.unhealthy, 'NOT_FOUND');
  await until(() => shop.service.server.running === 0);
});

test('grpcio-reflection lists the services and their methods, and calls without a .proto', {
  skip: missing('grpcio') || noReflection,
}, async () => {
  await using shop = await openShop();
  const seen = await run('reflection-client.py', shop.address);
  assert.deepEqual(seen.services, [
    'grpc.health.v1.Health',
    'grpc.reflection.v1.ServerReflection',
    'grpc.reflection.v1alpha.ServerReflection',
    'shop.OrderSrv',
  ]);
  assert.deepEqual(seen.methods['shop.OrderSrv'], ['GetOrder', 'Watch', 'Import', 'Chat']);
  assert.deepEqual(seen.methods['grpc.health.v1.Health'], ['Check', 'List', 'Watch']);
  assert.deepEqual(seen.health, {
    '': 'SERVING',
    'go.micro.shop': 'SERVING',
    'shop.OrderSrv': 'SERVING',
  });
  assert.equal(seen.order.price.cents, '9007199254740993');
  assert.equal(seen.unknown, 'KeyError');
});

test('a plain HTTP client calls by the headers of mucp and reads the errors of go-micro', {
  skip: missing('python3'),
}, async () => {
  await using shop = await openShop();
  const seen = await run('mucp-client.py', shop.address);
  for (const each of Object.values<{ status: number }>(seen)) assert.equal(each.status, 200);
  assert.equal(seen.order.body.user_name ?? seen.order.body.userName, 'Micro');
  assert.equal(seen.order.body.price.cents, '9007199254740993');
  assert.deepEqual([seen.order.id, seen.again.id, seen.old.id], ['41', '42', null]);
  assert.equal(seen.order.served, 'python');
  assert.equal(seen.old.body.id, '9');
  assert.deepEqual(seen.failed.error, {
    id: 'shop.orders',
    code: 409,
    detail: 'Schon da: ü %',
    status: 'Conflict',
  });
  assert.equal(seen.failed.body, null);
  assert.equal(seen.late.error.code, 408);
  assert.equal(seen.unknown.error.code, 404);
  assert.equal(seen.stream.error.code, 501);
  assert.equal(seen.garbage.error.code, 400);
  assert.equal(seen.strange.error.code, 501);
});
