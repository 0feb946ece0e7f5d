/**
 * What reads a broker's monitoring: an answer that never ends, one that is cut, an address written by hand,
 * settings that hold passwords.
 */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { MonitorPages } from '../../../src/console/sources/monitors/monitor.ts';
import { configRows } from '../../../src/console/sources/server-facts.ts';

async function pagesOf(answer: RequestListener) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    pages: new MonitorPages(`http://127.0.0.1:${port}`, '--nats-monitor', null),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('an answer without an end is given up at its limit, and says so', async () => {
  let sent = 0;
  await using monitor = await pagesOf((_, response) => {
    const block = Buffer.alloc(1024 * 1024, ' ');
    const more = () => {
      while (!response.destroyed && response.write(block)) sent += block.length;
    };
    response.on('drain', more);
    more();
  });
  await assert.rejects(monitor.pages.read('varz'), /varz: an answer has at most 16777216 bytes/);
  assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes were taken`);
});

test('an answer that is cut is an outage, and one that is no JSON asks for the address', async () => {
  await using monitor = await pagesOf(({ url }, response) => {
    if (url === '/cut') {
      response.writeHead(200, { 'content-length': 100 });
      response.write('{');
      setImmediate(() => response.destroy());
    } else response.end('<html>');
  });
  await assert.rejects(monitor.pages.read('cut'), { code: 'NOT_CONNECTED' });
  await assert.rejects(monitor.pages.read('page'), /no JSON for \/page: is it the right address/);
});

test('a percent sign that begins no byte is a part of the password', async () => {
  let given = '';
  await using monitor = await pagesOf((request, response) => {
    given = request.headers.authorization ?? '';
    response.end('{}');
  });
  const address = `http://ann:100%@127.0.0.1:${monitor.port}`;
  await new MonitorPages(address, '--rabbitmq-api', null).read('api/overview');
  assert.equal(Buffer.from(given.slice(6), 'base64').toString(), 'ann:100%');
});

test('passwords among the settings of a server are not shown, whatever they are called', () => {
  const settings = ['masterauth', 'geheim', 'requirepass', 'geheim', 'tls-auth-clients', 'no'];
  assert.deepEqual(
    configRows([...settings, 'masteruser', 'geheim', 'tls-key-file-pass', 'geheim']),
    [
      ['masterauth', '(set)'],
      ['masteruser', '(set)'],
      ['requirepass', '(set)'],
      ['tls-auth-clients', 'no'],
      ['tls-key-file-pass', '(set)'],
    ],
  );
});
