/** Bytes that are no request, at each moment of a connection: what a client then takes for an answer. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import test from 'node:test';
import { until } from '../../helpers/until.ts';
import { gatewayFixture } from '../fixture.ts';

const GET = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
const POST = 'POST /learning/hi HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n';
const BAD = 'no request\r\n\r\n';

/** Sends each part when the answer holds the text before it; returns the answer once the connection has ended. */
async function talk(port: number, parts: readonly (readonly [after: string, part: string])[]) {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  for (const [after, part] of parts) {
    await until(
      () => text.includes(after),
      () => text,
    );
    socket.write(part);
  }
  await until(
    () => socket.closed,
    () => `it is open: ${text}`,
  );
  return text;
}

test('bytes that are no request never pass for an answer, or for a part of one', async () => {
  await using own = await gatewayFixture({ topics: ['news.>'], bodyTimeoutMs: 500 });
  const port = Number(own.gateway.address.split(':')[1]);
  const first = await talk(port, [['', GET('/learning/slow') + BAD]]);
  assert.equal(first, '', 'the answer to the request before them');
  const stream = await talk(port, [
    ['', GET('/_/topics/news.a')],
    ['retry: ', BAD],
  ]);
  assert.equal(stream.split('HTTP/1.1').length, 2, stream);
  const next = await talk(port, [
    ['', GET('/learning/hi')],
    ['"hi"', BAD],
  ]);
  assert.match(next, /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 400 [\s\S]*"code":400/);
});

test('a request that is broken or late is an error in the form of all errors', async () => {
  const limits = { headersTimeoutMs: 200, bodyTimeoutMs: 200 };
  await using own = await gatewayFixture({ ...limits });
  const port = Number(own.gateway.address.split(':')[1]);
  const chunked = `${POST}Transfer-Encoding: chunked\r\n\r\n`;
  const cases: [text: string, status: number][] = [
    [BAD, 400],
    [`${POST}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    [`${chunked}zz\r\n`, 400],
    [`${chunked}2;${'a'.repeat(100_000)}\r\n{}\r\n0\r\n\r\n`, 413],
    [`GET / HTTP/1.1\r\nX: ${'a'.repeat(100_000)}\r\n\r\n`, 431],
    ['GET / HTTP/1.1\r\nHo', 408],
    [`${POST}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`, 501],
    [`${POST}Connection: close\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`, 200],
  ];
  for (const [text, status] of cases) {
    const answer = await talk(port, [['', text]]);
    const said = `${text.slice(0, 120)}: ${answer}`;
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), said);
    if (status === 200) continue;
    const body = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4));
    assert.deepEqual(Object.keys(body), ['id', 'code', 'detail', 'status'], said);
    assert.equal(body.code, status, said);
  }
});

test('an answer of a server behind is cut, not filled up, where its client breaks HTTP', async () => {
  const behind = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('ten bytes.');
  });
  await new Promise<void>((resolve) => behind.listen(0, '127.0.0.1', resolve));
  await using own = await gatewayFixture({ handler: 'http' });
  const { port } = behind.address() as AddressInfo;
  const nodes = [{ id: 'files-1', address: `127.0.0.1:${port}`, metadata: {} }];
  const record = { name: 'go.micro.api.files', version: '1', metadata: {}, endpoints: [], nodes };
  await own.registry.register(record, { ttlMs: 600_000 });
  const answer = await talk(Number(own.gateway.address.split(':')[1]), [
    ['', GET('/files/one')],
    ['ten bytes.', BAD],
  ]);
  assert.ok(answer.endsWith('\r\n\r\nten bytes.'), answer);
  behind.closeAllConnections();
  behind.close();
});
