/**
 * Certificates for one test: an authority, a server certificate of it for this machine, and another
 * authority that has signed nothing.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** For `test(name, { skip: missingOpenssl }, ...)`. */
export const missingOpenssl =
  spawnSync('openssl', ['version']).status !== 0 &&
  'needs openssl, which this machine does not have';

export interface Certificates {
  /** Paths, as servers want them. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
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
  openssl(
    ...['req', ...newKey, '-keyout', file('server.key'), '-out', file('server.csr')],
    ...['-subj', '/CN=localhost'],
  );
  writeFileSync(file('names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost');
  openssl(
    ...['x509', '-req', '-in', file('server.csr'), '-CA', file('ca.crt'), '-CAkey', file('ca.key')],
    ...['-CAcreateserial', '-days', '2', '-out', file('server.crt'), '-extfile', file('names')],
  );
  return {
    ca: file('ca.crt'),
    cert: file('server.crt'),
    key: file('server.key'),
    caText: readFileSync(file('ca.crt'), 'utf8'),
    otherCaText: readFileSync(file('other.crt'), 'utf8'),
  };
}
