/** grpc-java, Debian's, against one port of ours. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { runTool } from '../helpers/children.ts';
import { missing } from '../helpers/requirements.ts';
import { repositoryRoot } from '../house/source-file.ts';
import { openShop } from './shop.ts';

test('grpc-java calls four kinds, lists the services, and sees metadata, errors and deadlines', {
  skip: missing('grpc-java'),
}, async () => {
  await using shop = await openShop();
  const program = join(repositoryRoot, 'interop', 'java', 'Client.java');
  const args = ['-Xmx256m', '-cp', '/usr/share/java/*', program, shop.address];
  const { code, stdout, stderr } = await runTool('java', args, { timeoutMs: 120_000 });
  assert.equal(code, 0, stderr);
  const seen = JSON.parse(stdout);
  assert.deepEqual([seen.id, seen.user, seen.head, seen.compressed], [7, 'Micro', 'java', 8]);
  assert.equal(seen.failure[0], 'ALREADY_EXISTS');
  assert.deepEqual(JSON.parse(seen.failure[1]), {
    id: 'shop.orders',
    code: 409,
    detail: 'Schon da: ü %',
    status: 'Conflict',
  });
  assert.equal(seen.late[0], 'DEADLINE_EXCEEDED');
  assert.equal(seen.unknown[0], 'UNIMPLEMENTED');
  assert.deepEqual([seen.watched, seen.imported], [499_500, 499_500]);
  assert.deepEqual(seen.doubled, [2, 4, 6]);
  assert.ok(seen.services.includes('shop.OrderSrv'));
});
