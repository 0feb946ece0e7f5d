/**
 * TLS clients and their certificates, under each value of tls-auth-clients.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { freePort } from '../../helpers/free-port.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { runServer } from '../running-server.ts';

const skip = spawnSync('openssl', ['version']).status !== 0 && 'needs openssl';

/** An authority, and a certificate that it signed: `<folder>/ca.crt`, `peer.crt`, `peer.key`. */
function makeAuthority(folder: string, name: string, days: number): void {
  mkdirSync(folder);
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', `/CN=${name}`);
  openssl('req', ...key, '-keyout', 'peer.key', '-out', 'peer.csr', '-subj', '/CN=localhost');
  const authority = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'];
  openssl('x509', '-req', '-in', 'peer.csr', ...authority, '-out', 'peer.crt', '-days', `${days}`);
}

interface Peer {
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

async function answer(port: number, ca: Buffer, peer: Peer): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca, ...peer });
  const chunks: Buffer[] = [];
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write('PING\r\nQUIT\r\n');
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks).toString();
}

test('tls-auth-clients decides on a client by the certificate that it shows', {
  skip,
}, async () => {
  await using place = temporaryDirectory('tls');
  const ours = join(place.path, 'ours');
  const strange = join(place.path, 'strange');
  makeAuthority(ours, 'ours', 2);
  makeAuthority(strange, 'strange', 2);
  const read = (folder: string, name: string) => readFileSync(join(folder, name));
  const ca = read(ours, 'ca.crt');
  const peers: Record<string, Peer> = {
    nobody: {},
    known: { cert: read(ours, 'peer.crt'), key: read(ours, 'peer.key') },
    stranger: { cert: read(strange, 'peer.crt'), key: read(strange, 'peer.key') },
    selfSigned: { cert: read(strange, 'ca.crt'), key: read(strange, 'ca.key') },
  };
  const served = '+PONG\r\n+OK\r\n';
  const expected: Record<string, Record<string, string>> = {
    yes: { nobody: '', known: served, stranger: '', selfSigned: '' },
    optional: { nobody: served, known: served, stranger: '', selfSigned: '' },
    no: { nobody: served, known: served, stranger: served, selfSigned: served },
  };
  for (const [value, outcomes] of Object.entries(expected)) {
    const port = await freePort();
    await using _running = await runServer({
      'tls-port': String(port),
      'tls-cert-file': join(ours, 'peer.crt'),
      'tls-key-file': join(ours, 'peer.key'),
      'tls-ca-cert-file': join(ours, 'ca.crt'),
      'tls-auth-clients': value,
    });
    for (const [name, outcome] of Object.entries(outcomes)) {
      assert.equal(await answer(port, ca, peers[name]!), outcome, `${value}: ${name}`);
    }
  }
});

test('authorities that are none stop the start, and CONFIG SET leaves those before', {
  skip,
}, async () => {
  await using place = temporaryDirectory('tls');
  const ours = join(place.path, 'ours');
  makeAuthority(ours, 'ours', 2);
  const options = {
    'tls-cert-file': join(ours, 'peer.crt'),
    'tls-key-file': join(ours, 'peer.key'),
    'tls-port': String(await freePort()),
    port: String(await freePort()),
  };
  const start = runServer({ ...options, 'tls-ca-cert-file': join(ours, 'ca.key') });
  await assert.rejects(start, /can't use tls-ca-cert-file .*: it holds no certificate/);
  await using running = await runServer({ ...options, 'tls-ca-cert-file': join(ours, 'ca.crt') });
  const client = await running.connect();
  const set = client.call('CONFIG', 'SET', 'tls-ca-cert-file', join(ours, 'ca.key'));
  assert.match(String(await set), /it holds no certificate/);
});
