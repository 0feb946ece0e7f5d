/**
 * Where a member listens: an IP address and a port, as text, and as the bytes of the wire.
 *
 * Invariant: an IPv4 address that was written as IPv6 (`::ffff:a.b.c.d`) is IPv4. Cost: constant.
 */
import { isIPv4, isIPv6 } from 'node:net';

export interface Endpoint {
  /** An IP address; IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
}

export function textOf({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1';
}

/** 0.0.0.0 and ::, which mean every interface. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** The 4 or 16 bytes of an address; empty where the text is none. */
export function bytesOfHost(host: string): Uint8Array {
  if (isIPv4(host)) return Uint8Array.from(host.split('.'), Number);
  if (!isIPv6(host)) return new Uint8Array(0);
  const [plain = ''] = host.split('%');
  // The last 32 bits may be written as IPv4.
  const text = plain.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)]
      .map((part) => part.toString(16))
      .join(':'),
  );
  const [head = '', tail] = text.split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0');
  const groups = tail === undefined ? first : [...first, ...zeros, ...last];
  return Uint8Array.from(
    groups.flatMap((group) => {
      const value = Number.parseInt(group, 16);
      return [value >> 8, value & 0xff];
    }),
  );
}

/** The text of 4 or 16 bytes; null where they are no address. */
export function hostOfBytes(bytes: Uint8Array): string | null {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return null;
  const isMapped = bytes.subarray(0, 10).every((each) => each === 0) && bytes[10] === 0xff;
  if (isMapped && bytes[11] === 0xff) return bytes.subarray(12).join('.');
  const groups = Array.from({ length: 8 }, (_, at) =>
    (((bytes[2 * at] as number) << 8) | (bytes[2 * at + 1] as number)).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}
