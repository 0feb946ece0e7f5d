/** The remote broker over TLS: with the right authority it works, with a wrong certificate it refuses. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { Seen, text } from '../../src/conformance/case-context.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const skip = spawnSync('openssl', ['version']).status !== 0 && 'needs openssl';

function certificate(folder: string, name: string, subject: string): void {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const out = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
  const names = ['-subj', `/CN=${subject}`, '-addext', `subjectAltName=DNS:${subject}`];
  const args = ['req', '-x509', ...key, ...out, ...names, '-days', '2'];
  execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });
}

test('rivulets:// works with a trusted certificate and fails clearly with any other', {
  skip,
}, async () => {
  await using place = temporaryDirectory('broker-tls');
  certificate(place.path, 'server', 'localhost');
  certificate(place.path, 'stranger', 'localhost');
  certificate(place.path, 'elsewhere', 'elsewhere.test');
  const file = (name: string) => join(place.path, name);
  const tlsPort = await freePort();
  const serve = (name: string) =>
    startRivulet({
      args: [
        ...['--tls-port', `${tlsPort}`, '--tls-cert-file', file(`${name}.crt`)],
        ...['--tls-key-file', file(`${name}.key`), '--tls-auth-clients', 'no'],
      ],
    });
  const url = `rivulets://localhost:${tlsPort}`;
  const trusting = (name: string) => ({
    connectTimeoutMs: 1500,
    client: { tls: { ca: readFileSync(file(`${name}.crt`)) } },
  });
  {
    await using _server = await serve('server');
    await using broker = await openBroker(url, trusting('server'));
    const seen = new Seen<string>();
    await broker.subscribe('t', (each) => seen.add(text(each)), { group: 'g' });
    await broker.publish('t', { headers: {}, body: Buffer.from('over TLS') });
    assert.deepEqual([...(await seen.count(1))], ['over TLS']);
    const failed = { code: 'CONNECTION_FAILED' };
    await assert.rejects(openBroker(url, trusting('stranger')), failed);
    // Without an authority of one's own the system's are asked, which do not know it.
    await assert.rejects(openBroker(url, { connectTimeoutMs: 1500 }), failed);
  }
  await using _server = await serve('elsewhere');
  await assert.rejects(openBroker(url, trusting('elsewhere')), { code: 'CONNECTION_FAILED' });
});
