/**
 * The certificate of a TLS client.
 */
import type { TLSSocket } from 'node:tls';

/**
 * Whether the client showed a certificate that none of our authorities signed. With `tls-auth-clients
 * optional` a client without a certificate is served, and this one is not. Node itself turns it away
 * only where every client must show one.
 */
export function showsUnknownCertificate(socket: TLSSocket): boolean {
  return !socket.authorized && Object.keys(socket.getPeerCertificate()).length > 0;
}
