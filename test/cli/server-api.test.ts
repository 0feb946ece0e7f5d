/** `micro server --api`: one process, events over HTTP into its own streams, an orderly end. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { micro } from './micro.ts';

test('server and api in one process: an event is in the stream before its answer', async () => {
  await using home = temporaryDirectory('api');
  const file = join(home.path, 'api.json');
  writeFileSync(file, JSON.stringify({ handler: 'event', type: 'evt' }));
  await using server = await startRivulet({
    args: ['--requirepass', 'pass word@1', '--api', '127.0.0.1:0', '--api-config', file],
  });
  const url = /(http:\/\/[\d.:]+) \(api\)/.exec(server.output())?.[1];
  assert.ok(url, server.output());
  const answer = await fetch(`${url}/user/login`, { method: 'POST', body: '{"name":"ann"}' });
  assert.equal(answer.status, 200);
  const id = answer.headers.get('micro-message-id');
  await using client = await connect({ port: server.port, password: 'pass word@1' });
  const [[first]] = (await client.call('XRANGE', 'go.micro.evt.user', '-', '+')) as [[Buffer]];
  assert.equal(first.toString(), id);
  await client.close();
  assert.equal(await server.stop(), 0);
});

test('a gateway that cannot start is said in one line', async () => {
  const failures: [string[], RegExp][] = [
    [['--api', 'nowhere'], /host:port/],
    [['--api-config', '/nonexistent/api.json'], /--config .*ENOENT/],
    [['--api-config'], /needs a file/],
  ];
  for (const [flags, text] of failures) {
    await using data = temporaryDirectory('data');
    const { code, stderr } = await micro(
      ['server', '--port', '0', '--http-port', '0', '--dir', data.path, ...flags],
      {},
    );
    assert.notEqual(code, 0);
    assert.match(stderr.trim().split('\n').at(-1) ?? '', text);
  }
});
