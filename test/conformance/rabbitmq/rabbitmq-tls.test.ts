/** RabbitMQ over TLS: with the right authority it works, with a wrong certificate it refuses. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { collect, message } from '../../../src/conformance/case-context.ts';
import { freePort } from '../../helpers/free-port.ts';
import { startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';

const noOpenssl = spawnSync('openssl', ['version']).status !== 0 && 'needs openssl';

function certificate(folder: string, name: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const out = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const args = ['req', '-x509', ...key, ...out, ...names, '-days', '2'];
  execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });
  // The server runs as another user.
  chmodSync(join(folder, `${name}.key`), 0o644);
}

test('amqps:// works with a trusted certificate and fails clearly with any other', {
  skip: missing('rabbitmq-server') || noOpenssl,
}, async () => {
  await using place = temporaryDirectory('rabbitmq-tls');
  chmodSync(place.path, 0o755);
  certificate(place.path, 'server');
  certificate(place.path, 'stranger');
  const file = (name: string) => join(place.path, name);
  const port = await freePort();
  await using _server = await startRabbitMq(1, [
    `listeners.ssl.1 = 127.0.0.1:${port}`,
    `ssl_options.cacertfile = ${file('server.crt')}`,
    `ssl_options.certfile = ${file('server.crt')}`,
    `ssl_options.keyfile = ${file('server.key')}`,
    'ssl_options.verify = verify_none',
  ]);
  const url = `amqps://guest:guest@localhost:${port}`;
  const trusting = (name: string) => ({
    connectTimeoutMs: 2500,
    client: { ca: [readFileSync(file(`${name}.crt`))] },
  });
  await using broker = await openBroker(url, { ...trusting('server'), connectTimeoutMs: 10_000 });
  const { seen } = await collect(broker, 't', { group: 'g' });
  await broker.publish('t', message('over TLS'));
  assert.deepEqual([...(await seen.count(1))], ['over TLS']);
  const failed = { code: 'CONNECTION_FAILED' };
  await assert.rejects(openBroker(url, trusting('stranger')), failed);
  // Without an authority of its own, the client asks the system's, which do not know the server.
  await assert.rejects(openBroker(url, { connectTimeoutMs: 2500 }), failed);
});
