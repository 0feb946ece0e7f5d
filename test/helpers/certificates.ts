/**
 * Certificates for one test: an authority, its certificates for a server on this machine, for a server
 * of another host name and for a client, and another authority that has signed nothing.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** For `test(name, { skip: missingOpenssl }, ...)`. */
export const missingOpenssl =
  spawnSync('openssl', ['version']).status !== 0 &&
  'needs openssl, which this machine does not have';

/** Paths of a certificate and its key. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  /** Paths, as servers want them. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Of the host elsewhere.test. */
  readonly elsewhere: Pair;
  readonly client: Pair;
  /** Contents, as clients want them. */
  readonly caText: string;
  readonly otherCaText: string;
}

export function makeCertificates(directory: string): Certificates {
  const file = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  for (const name of ['ca', 'other']) {
    openssl(
      ...['req', '-x509', ...newKey, '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`)],
      ...['-subj', `/CN=test ${name}`, '-days', '2'],
    );
  }
  const signed = (name: string, alternative: string): Pair => {
    const [key, request] = [file(`${name}.key`), file(`${name}.csr`)];
    openssl(...['req', ...newKey, '-keyout', key, '-out', request, '-subj', `/CN=${name}`]);
    writeFileSync(file('names'), `subjectAltName=${alternative}`);
    openssl(
      ...['x509', '-req', '-in', request, '-CA', file('ca.crt'), '-CAkey', file('ca.key')],
      ...['-CAcreateserial', '-days', '2', '-out', file(`${name}.crt`), '-extfile', file('names')],
    );
    return { cert: file(`${name}.crt`), key };
  };
  const server = signed('server', 'IP:127.0.0.1,DNS:localhost');
  return {
    ca: file('ca.crt'),
    ...server,
    elsewhere: signed('elsewhere', 'DNS:elsewhere.test'),
    client: signed('client', 'DNS:client.test'),
    caText: readFileSync(file('ca.crt'), 'utf8'),
    otherCaText: readFileSync(file('other.crt'), 'utf8'),
  };
}
