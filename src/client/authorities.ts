/**
 * Certificates of authorities, in PEM.
 *
 * Node takes any text as authorities and leaves out what it cannot read: a listener then refuses every client, and
 * a client every server, without a word about the cause. Invariant: every block of a text that is taken is a
 * certificate, and there is at least one. Cost: one parse of each certificate.
 */
import { X509Certificate } from 'node:crypto';

const BEGIN = /-----BEGIN [^-\r\n]*CERTIFICATE-----/g;
const WHOLE = /-----BEGIN ([^-\r\n]*CERTIFICATE)-----[^-]*-----END \1-----/g;

/** Why a text is no list of certificates; null for one. No part of the text is in the answer. */
export function faultOfAuthorities(pem: string | Uint8Array): string | null {
  const text = typeof pem === 'string' ? pem : Buffer.from(pem).toString('latin1');
  const begun = text.match(BEGIN)?.length ?? 0;
  if (begun === 0) return 'it holds no certificate in PEM';
  const blocks = text.match(WHOLE) ?? [];
  if (blocks.length < begun) return 'one of its certificates is cut';
  for (const [index, block] of blocks.entries()) {
    try {
      new X509Certificate(block);
    } catch {
      return `certificate ${index + 1} of ${blocks.length} cannot be read`;
    }
  }
  return null;
}
