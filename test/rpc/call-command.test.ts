/** `micro call`: what it prints, what it sends, and how it fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { indentJson } from '../../src/util/indent-json.ts';
import { runTool, type ToolResult } from '../helpers/children.ts';

const command = fileURLToPath(new URL('../../../bin/micro.js', import.meta.url));
const NAME = 'go.micro.api.orderservice';
const Orders = contract(NAME, {
  OrderSrv: {
    GetOrder: unary<{ id: number }, unknown>(),
    Slow: unary<unknown, unknown>(),
  },
});

async function orders(registry: MemoryRegistry) {
  // The address that callers are given.
  const service = createService({ name: NAME, registry, transport: 'tcp' });
  service.handle(Orders, {
    OrderSrv: {
      GetOrder: ({ id }, { metadata }) => {
        if (id === 404) throw new Error('no order 404');
        return { id, tenant: metadata.get('x-tenant') ?? null, lines: [] };
      },
      Slow: () => new Promise(() => {}),
    },
  });
  await service.start();
  const [record] = await registry.getService(NAME);
  return { service, address: record!.nodes[0]!.address };
}

function micro(...args: string[]): Promise<ToolResult> {
  return runTool(process.execPath, [command, 'call', ...args], { timeoutMs: 60_000 });
}

test('it prints the reply, found by registry or address, and says why a call failed', async () => {
  const registry = new MemoryRegistry();
  const { service, address } = await orders(registry);
  try {
    const found = ['--address', address];
    const shown = '{\n\t"id": 1,\n\t"tenant": "a",\n\t"lines": []\n}\n';
    const one = await micro(
      NAME,
      'OrderSrv.GetOrder',
      '{"id":1}',
      ...found,
      '--metadata',
      'X-Tenant=a',
    );
    assert.deepEqual([one.code, one.stdout, one.stderr], [0, shown, '']);
    const raw = await micro(NAME, 'OrderSrv.GetOrder', '{"id":1}', ...found, '--output', 'raw');
    assert.equal(raw.stdout, '{"id":1,"tenant":null,"lines":[]}');
    const failures: [string[], number, RegExp][] = [
      [
        [NAME, 'OrderSrv.GetOrder', '{"id":404}', ...found],
        1,
        /no order 404 \(RESPONDER_FAILED, 500\)/,
      ],
      [[NAME, 'OrderSrv.Get', '{}', ...found], 3, /METHOD_NOT_FOUND, 404\); an endpoint is/],
      [[NAME, 'OrderSrv.Slow', '{}', ...found, '--timeout', '200ms'], 5, /--timeout gives it more/],
      [[NAME, 'OrderSrv.GetOrder', '{id:1}', ...found], 2, /not JSON/],
      [[NAME, 'GetOrder', '{}'], 2, /Struct\.Method/],
      [[NAME], 2, /endpoint/],
      [[NAME, 'A.B', '{}', '--colour'], 2, /colour/],
      [
        ['none', 'A.B', '{}', '--registry', 'static:x=127.0.0.1:1'],
        3,
        /SERVICE_NOT_FOUND.*--registry/,
      ],
    ];
    for (const [args, code, text] of failures) {
      const result = await micro(...args);
      assert.equal(result.code, code, `${args}: ${result.stdout}${result.stderr}`);
      assert.match(result.stderr, text);
      assert.equal(result.stdout, '');
      assert.equal(result.stderr.trimEnd().split('\n').length, 1, result.stderr);
    }
  } finally {
    await service.stop();
    await registry.close();
  }
});

test('JSON is indented as it came: no number loses a digit', () => {
  const text = '{"a":9007199254740993,"b":[1.10,{}],"c":"x,\\"{","d":[]}';
  const shown =
    '{\n\t"a": 9007199254740993,\n\t"b": [\n\t\t1.10,\n\t\t{}\n\t],\n\t"c": "x,\\"{",\n\t"d": []\n}';
  assert.equal(indentJson(text), shown);
  assert.equal(indentJson('null'), 'null');
});
