/** Bodies of calls: JSON or not, as JSON.parse says, and without its cost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endOfJson } from '../../src/gateway/body/json-check.ts';
import { Random } from '../../src/util/random.ts';
import { ask, gatewayFixture, post } from './fixture.ts';

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const SEEDS: readonly string[] = [
  '{"a":[1,-0.5e+10,true,false,null,"\\u00e9\\n\\"\\\\"],"b":{"":{}},"c":[]}',
  '[[[]],{"x":[{"y":1e5}]},0,-0,10.01E-7,"é€😀"]',
  ' \n\t\r{ "a" : [ 1 , 2 ] } ',
  '"text"',
  '-12',
  'null',
];
const PIECES = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '\\',
  '\\u12',
  'e',
  '.',
  '-',
  '+',
  '0',
  '1',
  ' ',
];
const MORE = [
  '\n',
  '\t',
  '\u0001',
  '\u007f',
  'é',
  '\ufeff',
  'tru',
  'null',
  '{}',
  '[]',
  '""',
  '/',
  "'",
];

test('what is JSON is what JSON.parse takes', () => {
  const random = new Random(11);
  const pieces = [...PIECES, ...MORE];
  const below = (limit: number) => random.below(limit);
  for (const seed of SEEDS) {
    assert.equal(endOfJson(Buffer.from(seed)), -1, seed);
    for (let end = 0; end < seed.length; end++) check(seed.slice(0, end));
    for (let i = 0; i < 20_000; i++) {
      let text = seed;
      for (let changes = 1 + below(3); changes > 0; changes--) {
        const at = below(text.length + 1);
        const cut = below(3);
        const added = below(4) === 0 ? '' : (pieces[below(pieces.length)] as string);
        text = text.slice(0, at) + added + text.slice(at + cut);
      }
      check(text);
    }
  }
});

function check(text: string): void {
  // A cut pair of surrogates is no text that could come as UTF-8.
  const bytes = Buffer.from(text);
  assert.equal(endOfJson(bytes) < 0, isJson(bytes.toString()), JSON.stringify(text));
}

test('deep nesting and bytes that are not UTF-8 are judged as JSON.parse does', () => {
  const depth = 300_000;
  assert.equal(endOfJson(Buffer.from('['.repeat(depth) + ']'.repeat(depth))), -1);
  assert.ok(endOfJson(Buffer.from('['.repeat(depth) + ']'.repeat(depth - 1))) >= 0);
  assert.equal(endOfJson(Buffer.from([0x22, 0xff, 0xc0, 0x22])), -1);
  assert.equal(endOfJson(Buffer.from([0x20, 0xff])), 1);
});

test('a long body of small objects costs a call no objects', () => {
  const body = Buffer.from(`[${'{},'.repeat(4_000_000)}{}]`);
  const before = process.memoryUsage().heapUsed;
  assert.equal(endOfJson(body), -1);
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 20_000_000, `${grown} bytes`);
});

test('a body that no transport carries is refused before it is read', async () => {
  await using fixture = await gatewayFixture();
  const reply = await ask(`${fixture.url}/learning/hi`, post(`[${'{},'.repeat(6_000_000)}{}]`));
  assert.equal(reply.status, 413);
  assert.match(reply.json.detail, /more than 16777216 bytes/);
});

test('a body of very many members is not merged with a query', async () => {
  await using fixture = await gatewayFixture();
  const body = `{${Array.from({ length: 500_001 }, (_, i) => `"${i}":{}`).join(',')}}`;
  const reply = await ask(`${fixture.url}/learning/hi?q=1`, post(body));
  assert.equal(reply.status, 400);
  assert.match(reply.json.detail, /more than 500000 members/);
});

test('a body of very many values is read by no page of the gateway, and takes few objects', async () => {
  await using fixture = await gatewayFixture({ enableRpc: true, mcp: true, workflows: ['orders'] });
  const { url } = fixture;
  const many = `[${'0,'.repeat(500_000)}0]`;
  const status = async (path: string, body: string) =>
    (await ask(url + path, post(body, { accept: 'application/json, text/event-stream' }))).status;
  const call = (request: string) =>
    `{"service":"go.micro.api.learning","endpoint":"Learning.Hi","request":${request}}`;
  assert.equal(await status('/rpc', call(many)), 400);
  assert.equal(await status('/rpc', call(JSON.stringify(`["${',['.repeat(300_000)}"]`))), 200);
  assert.equal(await status('/rpc', call('"[1"')), 400);
  assert.equal(await status('/rpc', call(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)), 400);
  assert.equal(await status('/_/workflows/orders', many), 400);
  assert.equal(await status('/_/workflows/orders/1/signals/paid', many), 400);
  const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":${many}}}`;
  assert.equal(await status('/_/mcp', list), 400);
});
