/**
 * TLS listeners: their options from the configuration, and the certificates of clients.
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { faultOfAuthorities } from '../../client/authorities.ts';
import type { Config } from '../config/config.ts';

/** How long a TLS handshake may take, ms. */
const HANDSHAKE_MS = 5000;

/** Parameters that CONFIG SET may change, for connections made afterwards. */
export const TLS_CONTEXT = [
  'tls-cert-file',
  'tls-key-file',
  'tls-key-file-pass',
  'tls-ca-cert-file',
  'tls-ciphers',
  'tls-ciphersuites',
  'tls-protocols',
  'tls-prefer-server-ciphers',
];

/**
 * Whether the client presented a certificate that no configured authority has signed. With
 * `tls-auth-clients optional` a client without a certificate is served, and such a client is not. Node itself
 * refuses it only when every client must present one.
 */
export function showsUnknownCertificate(socket: TLSSocket): boolean {
  return !socket.authorized && Object.keys(socket.getPeerCertificate()).length > 0;
}

/** The options of a TLS listener. Throws a sentence. */
export function tlsOptionsOf(config: Config): TlsOptions {
  const file = (name: string): Buffer => {
    try {
      return readFileSync(config.path(name));
    } catch (error) {
      throw new Error(`can't read ${name} '${config.path(name)}': ${(error as Error).message}`);
    }
  };
  if (config.get('tls-cert-file') === '' || config.get('tls-key-file') === '') {
    throw new Error('tls-port needs tls-cert-file and tls-key-file');
  }
  const auth = config.get('tls-auth-clients');
  const authorities = config.get('tls-ca-cert-file');
  if (auth !== 'no' && authorities === '') {
    throw new Error(
      'tls-port needs tls-ca-cert-file to check client certificates, or tls-auth-clients no',
    );
  }
  const options: TlsOptions & { allowHalfOpen: true } = {
    cert: file('tls-cert-file'),
    key: file('tls-key-file'),
    requestCert: auth !== 'no',
    rejectUnauthorized: auth === 'yes',
    allowHalfOpen: true,
    handshakeTimeout: HANDSHAKE_MS,
    honorCipherOrder: config.yes('tls-prefer-server-ciphers'),
  };
  if (authorities !== '') {
    options.ca = file('tls-ca-cert-file');
    const fault = faultOfAuthorities(options.ca);
    if (fault !== null) {
      throw new Error(`can't use tls-ca-cert-file '${config.path('tls-ca-cert-file')}': ${fault}`);
    }
  }
  if (config.get('tls-key-file-pass') !== '') {
    options.passphrase = config.get('tls-key-file-pass');
  }
  const ciphers = [config.get('tls-ciphersuites'), config.get('tls-ciphers')].filter(Boolean);
  if (ciphers.length > 0) options.ciphers = ciphers.join(':');
  const protocols = config.get('tls-protocols').split(/\s+/).filter(Boolean).sort();
  if (protocols.length > 0) {
    options.minVersion = protocols[0] as TlsOptions['minVersion'] & string;
    options.maxVersion = protocols.at(-1) as TlsOptions['maxVersion'] & string;
  }
  return options;
}

/** The socket that a TLS socket was made of. */
export function beneath(socket: Socket): object {
  return (socket as unknown as { _parent?: Socket })._parent ?? socket;
}
