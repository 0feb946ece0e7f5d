/** OpenAPI, AsyncAPI and tools for agents: valid by their standards, and true. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv } from 'ajv';
import { contract, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';
import { ask, gatewayFixture, post } from './fixture.ts';

const require = createRequire(import.meta.url);

test('OpenAPI 3.1 is valid and each of its paths is answered by its endpoint', async () => {
  await using fixture = await gatewayFixture();
  const { json } = await ask(`${fixture.url}/_/openapi.json`);
  const { valid, errors } = await new Validator().validate(json);
  assert.ok(valid, JSON.stringify(errors));
  assert.equal(json.openapi, '3.1.0');
  const paths = Object.keys(json.paths);
  for (const path of [
    '/learning/learning/hi',
    '/learning/greeter/hi',
    '/v2/learning/learning/hi',
    '/orders/{id}',
  ]) {
    assert.ok(paths.includes(path), `${path} is not in ${paths}`);
  }
  assert.ok(json.paths['/orders/{id}'].put.requestBody);
  assert.deepEqual(
    json.paths['/orders/{id}/lines/{line.number}'].get.parameters[1].name,
    'line.number',
  );
  assert.ok(
    json.paths['/learning/learning/count'].post.responses['200'].content['text/event-stream'],
  );
  const hi = await ask(`${fixture.url}/v2/learning/learning/hi`, post({}));
  assert.equal(hi.json.msg, 'hi from v2');
});

test('AsyncAPI 3 is valid and names the topics of subscribers and of clients', async () => {
  await using fixture = await gatewayFixture({ topics: ['news.>'] });
  const { registry, broker } = fixture;
  const outside = { environment: false, args: false } as const;
  const Empty = contract('go.micro.api.reader', { R: { Ping: unary() } });
  await using reader = createService({ registry, broker, transport: 'tcp', ...outside });
  reader.handle(Empty, { R: { Ping: () => undefined } });
  reader.subscribe('orders.created', () => {}, { queue: 'reader' });
  await reader.start();
  let json: { channels: Record<string, { address: string; description: string }> } = {
    channels: {},
  };
  await until(async () => {
    ({ json } = await ask(`${fixture.url}/_/asyncapi.json`));
    return Object.keys(json.channels).length >= 2;
  });
  const schema = require('@asyncapi/specs/schemas/3.0.0-without-$id.json');
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  const validate = ajv.compile(schema);
  assert.ok(validate(json), JSON.stringify(validate.errors?.slice(0, 5)));
  const addresses = Object.values(json.channels).map(({ address }) => address);
  assert.deepEqual(addresses.sort(), ['news.>', 'orders.created']);
  assert.equal(json.channels.orders_created?.description, 'Read by go.micro.api.reader');
});

test('an agent lists the endpoints as tools and calls them, under the rules of their paths', async () => {
  await using fixture = await gatewayFixture({
    mcp: true,
    auth: { keys: [{ name: 'agent', key: 'agent-key' }] },
    rules: [
      { path: '/learning/greeter', scopes: ['admin'] },
      { path: '/learning/learning/hi', rateLimit: { perSecond: 0.1, burst: 2 } },
    ],
  });
  const transport = new StreamableHTTPClientTransport(new URL(`${fixture.url}/_/mcp`), {
    requestInit: { headers: { 'x-api-key': 'agent-key' } },
  });
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
  const { tools } = await client.listTools();
  const names = tools.map(({ name }) => name);
  assert.ok(
    names.includes('learning_Learning_Hi') && names.includes('v2_learning_Learning_Hi'),
    `${names}`,
  );
  assert.ok(!names.some((name) => name.endsWith('Chat')), 'streams are no tools');
  const call = (name: string, args = {}) => client.callTool({ name, arguments: args });
  const textOf = ({ content }: Awaited<ReturnType<typeof call>>) =>
    (content as { text: string }[])[0]!.text;
  const hi = await call('learning_Learning_Hi', { name: 'ann' });
  assert.deepEqual(JSON.parse(textOf(hi)).request, { name: 'ann' });
  const failed = await call('learning_Learning_Fails');
  assert.equal(failed.isError, true);
  assert.equal(JSON.parse(textOf(failed)).code, 404);
  const refused = await call('learning_Greeter_Hi');
  assert.equal(JSON.parse(textOf(refused)).code, 403);
  await call('learning_Learning_Hi');
  assert.equal(JSON.parse(textOf(await call('learning_Learning_Hi'))).code, 429);
  await client.close();
});
