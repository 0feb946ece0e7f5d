/** The rpc and api handlers and the routes of endpoint metadata, over real HTTP and TCP. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { RivuletError } from '../../src/errors.ts';
import { until } from '../helpers/until.ts';
import { ask, type GatewayFixture, gatewayFixture, post } from './fixture.ts';

let fixture: GatewayFixture;
before(async () => {
  fixture = await gatewayFixture({ enableRpc: true, maxBodyBytes: 100_000, bodyTimeoutMs: 2000 });
});
after(() => fixture[Symbol.asyncDispose]());

const at = (path: string) => `${fixture.url}${path}`;

test('the tutorial’s paths reach their services', async () => {
  const hi = await ask(at('/learning/hi'), post({ name: 'ann' }));
  assert.equal(hi.status, 200);
  assert.equal(hi.headers.get('content-type'), 'application/json');
  assert.deepEqual(hi.json.request, { name: 'ann' });
  assert.equal((await ask(at('/learning/greeter/hi'))).json.msg, 'hi from Greeter');
  assert.equal((await ask(at('/v2/learning/hi'))).json.msg, 'hi from v2');
  assert.deepEqual(Object.keys((await ask(at('/'))).json), ['version']);
});

test('query and path fields are merged into the body, and no digit is lost', async () => {
  const query = await ask(
    at('/learning/hi?name=ann&age=7&a.b=x&c[d]=true&big=12345678901234567890'),
  );
  assert.deepEqual(query.json.request, {
    name: 'ann',
    age: 7,
    a: { b: 'x' },
    c: { d: true },
    big: '12345678901234567890',
  });
  const big = '{"id":12345678901234567890,"keep":{"a":1}}';
  const merged = await ask(at('/learning/hi?keep.b=2'), post(big));
  assert.match(merged.text, /"a":1/);
  assert.match(merged.text, /"b":2/);
  const form = await ask(at('/learning/hi'), {
    method: 'POST',
    body: new URLSearchParams([
      ['a', '1'],
      ['a', '2'],
    ]),
  });
  assert.deepEqual(form.json.request, { a: '1,2' });
});

test('a name that no registry can look up is 503, with a time to try again', async () => {
  await using own = await gatewayFixture();
  const isDown = () => Promise.reject(new RivuletError('REGISTRY_UNAVAILABLE', 'it is down'));
  Object.assign(own.registry, { getService: isDown });
  const answer = await fetch(`${own.url}/unknown/hi`, { method: 'POST', body: '{}' });
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get('retry-after'), '1');
  assert.match(await answer.text(), /it is down/);
});

test('an empty reply is 204, an error has the status of its code and go-micro’s form', async () => {
  assert.equal((await ask(at('/learning/nothing'), post({}))).status, 204);
  const failed = await ask(at('/learning/fails'), post({}));
  assert.deepEqual(failed.json, {
    id: 'go.micro.api.learning',
    code: 404,
    detail: 'there is no such order',
    status: 'Not Found',
  });
  const thrown = await ask(at('/learning/throws'), post({}));
  assert.deepEqual([thrown.status, thrown.json.detail], [500, 'out of paper']);
  assert.equal((await ask(at('/learning/none'), post({}))).status, 404);
  assert.equal((await ask(at('/nobody/hi'), post({}))).status, 404);
  const malformed = await ask(at('/learning/hi'), post('{"a":'));
  assert.equal(malformed.status, 400);
  assert.match(malformed.json.detail, /not JSON/);
});

test('headers reach the service, but not those that services take from each other', async () => {
  const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const headers = { 'X-Tenant': 'blue', 'Micro-From-Service': 'admin', traceparent: trace };
  const { json, headers: answered } = await ask(at('/learning/hi'), post({}, headers));
  assert.equal(json.tenant, 'blue');
  assert.equal(json.spoof, 'go.micro.api');
  assert.equal(json.trace, trace);
  assert.equal(answered.get('x-request-id'), trace.slice(3, 35));
  assert.equal(json.host, fixture.gateway.address);
});

test('routes of endpoint metadata win, the longest match first, whatever their order', async () => {
  assert.equal((await ask(at('/orders/latest'))).json.by, 'Latest');
  assert.deepEqual((await ask(at('/orders/17'))).json, { by: 'Get', request: { id: '17' } });
  const nested = await ask(at('/orders/17/lines/2?color=red'));
  assert.deepEqual(nested.json.request, { id: '17', line: { number: '2' }, color: 'red' });
  const put = await ask(at('/orders/9'), { ...post({ total: 5 }), method: 'PUT' });
  assert.deepEqual(put.json, { by: 'Put', request: { id: '9', order: { total: 5 } } });
  assert.equal((await ask(at('/orders/9'), { method: 'DELETE' })).status, 404);
  const escaped = await ask(at('/orders/a%20b'));
  assert.deepEqual(escaped.json.request, { id: 'a b' });
});

test('the api handler gives the whole request and takes the whole answer', async () => {
  const socket = connect(Number(fixture.gateway.address.split(':')[1]), '127.0.0.1');
  socket.write(
    'POST /raw/abc?x=1&x=2 HTTP/1.1\r\nHost: raw.example.com\r\nConnection: close\r\n' +
      'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=1&b=2',
  );
  const [head, body] = (await allOf(socket)).split('\r\n\r\n');
  assert.match(head!, /^HTTP\/1\.1 201 /);
  assert.match(head!, /x-seen: yes/i);
  const request = JSON.parse(body!);
  assert.deepEqual(
    [request.method, request.path, request.url],
    ['POST', '/raw/abc', '/raw/abc?x=1&x=2'],
  );
  assert.deepEqual(request.get.x, { key: 'x', values: ['1', '2'] });
  assert.deepEqual(request.post.b, { key: 'b', values: ['2'] });
  assert.deepEqual(request.header.Host.values, ['raw.example.com']);
  assert.equal((await ask(at('/raw/abc'), post({}))).status, 404, 'another host has no such route');
});

test('/rpc calls by name, with JSON or a form, and takes no address from a client', async () => {
  const call = { service: 'go.micro.api.learning', endpoint: 'Greeter.Hi', request: {} };
  assert.equal((await ask(at('/rpc'), post(call))).json.msg, 'hi from Greeter');
  const form = new URLSearchParams({
    service: call.service,
    method: 'Learning.Hi',
    request: '{"a":1}',
  });
  const answered = await ask(at('/rpc'), { method: 'POST', body: form });
  assert.deepEqual(answered.json.request, { a: 1 });
  assert.equal((await ask(at('/rpc'), post({ ...call, address: '127.0.0.1:1' }))).status, 403);
  assert.equal((await ask(at('/rpc'), post({ service: '' }))).status, 400);
  assert.equal((await ask(at('/rpc'))).status, 405);
});

test('a stream answers with events or with lines, and says when it breaks in the middle', async () => {
  const lines = await ask(at('/learning/count?to=3'));
  assert.equal(lines.headers.get('content-type'), 'application/x-ndjson');
  assert.equal(lines.text, '{"number":1}\n{"number":2}\n{"number":3}\n');
  const events = await ask(at('/learning/count?to=2'), {
    headers: { accept: 'text/event-stream' },
  });
  assert.match(
    events.text,
    /id: 1\ndata: {"number":1}\n\nid: 2\ndata: {"number":2}\n\nevent: end\n/,
  );
  const broken = await ask(at('/learning/breaks'), { headers: { accept: 'text/event-stream' } });
  assert.match(broken.text, /event: error\ndata: .*broken in the middle/);
  const brokenLines = await ask(at('/learning/breaks'));
  assert.match(brokenLines.text, /^{"number":1}\n{"error":{.*broken in the middle/);
});

test('a stream in both directions runs over a WebSocket', async () => {
  const socket = new WebSocket(`ws://${fixture.gateway.address}/learning/chat`);
  await once(socket, 'open');
  const received: string[] = [];
  socket.on('message', (data) => received.push(String(data)));
  const closed = once(socket, 'close');
  for (let i = 0; i < 50; i++) socket.send(JSON.stringify({ i }));
  socket.send('{"end":true}');
  assert.equal((await closed)[0], 1000);
  assert.equal(received.length, 50);
  assert.equal(received[49], '{"echo":{"i":49}}');
  const refused = new WebSocket(`ws://${fixture.gateway.address}/learning/hi`);
  const [error] = await once(refused, 'error');
  assert.match(String(error), /400/);
});

test('a client that leaves cancels its call', async () => {
  const leaving = new AbortController();
  const call = fetch(at('/learning/slow'), {
    ...post({}, { 'x-name': 'left' }),
    signal: leaving.signal,
  });
  call.catch(() => {});
  await until(() => fixture.gateway.running > 0);
  setTimeout(() => leaving.abort(), 200);
  await assert.rejects(call);
  await until(() => fixture.cancelled.includes('left'));
});

test('what two servers could read differently is refused', async () => {
  const port = Number(fixture.gateway.address.split(':')[1]);
  const head = 'POST /learning/hi HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
  const smuggled = 'GET /learning/nothing HTTP/1.1\r\nHost: x\r\n\r\n';
  for (const bad of [
    `${head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    `${head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}${smuggled}`,
    `${head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
    `${head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    `${head}Content-Length: +2\r\n\r\n{}`,
    `GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n`,
    `PROPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    `GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET /learning/../learning/hi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET /learning%2fhi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET /${'a'.repeat(17_000)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  ]) {
    const socket = connect(port, '127.0.0.1');
    socket.end(bad);
    const answer = await allOf(socket);
    const statuses = [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status);
    assert.equal(statuses.length, 1, `${bad.slice(0, 120)}\n${answer}`);
    assert.match(statuses[0]!, /^4\d\d$/, `${bad.slice(0, 120)}\n${answer}`);
  }
});

test('a body that is too long, or that does not come, is refused and its connection closed', async () => {
  const port = Number(fixture.gateway.address.split(':')[1]);
  assert.equal((await ask(at('/learning/hi'), post(`"${'x'.repeat(200_000)}"`))).status, 413);
  const chunked = connect(port, '127.0.0.1');
  chunked.write('POST /learning/hi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  chunked.write(`1d4c0\r\n${'x'.repeat(120_000)}\r\n`);
  assert.match(await allOf(chunked), /^HTTP\/1\.1 413 /);
  const slow = connect(port, '127.0.0.1');
  slow.write('POST /learning/hi HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{');
  assert.match(await allOf(slow), /^HTTP\/1\.1 408 /);
});

async function allOf(socket: AsyncIterable<Buffer> & { on: unknown }): Promise<string> {
  let text = '';
  try {
    for await (const chunk of socket) text += chunk.toString('latin1');
  } catch {
    // Cut while it was sending: what came is what counts.
  }
  return text;
}
