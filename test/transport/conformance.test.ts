/** The transport suite on the transports that need no server: local, tcp, and the memory broker. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { transportConformance } from '../../src/conformance/transport/index.ts';
import type { Ability } from '../../src/conformance/transport/suite.ts';
import type { ServiceNode } from '../../src/registry/registry.ts';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { LocalTransport } from '../../src/transport/local/local.ts';
import { MucpTransport } from '../../src/transport/mucp/mucp.ts';
import { TcpTransport, type TransportSetup } from '../../src/transport/tcp/tcp.ts';
import type { TlsOptions } from '../../src/transport/tls.ts';
import type { Transport } from '../../src/transport/transport.ts';
import { UdpTransport } from '../../src/transport/udp/udp.ts';
import { WebSocketTransport } from '../../src/transport/websocket.ts';
import { memoryFixture } from '../conformance/embedded-fixture.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { brokerFixture, pair, WINDOW } from './broker-fixture.ts';

const setup = {
  runner: { describe, test, before, after },
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
};
const nowhere: ServiceNode = {
  id: 'nobody',
  address: '127.0.0.1:1',
  metadata: { 'rivulet.tcp': '127.0.0.1:1' },
};

transportConformance({
  ...setup,
  name: 'local',
  factory: async () => ({
    listen: pair(new LocalTransport(), new LocalTransport()),
    dialNowhere: () => new LocalTransport().dial(nowhere),
    bound: { messages: 2 * 64 },
    [Symbol.asyncDispose]: async () => {},
  }),
});

interface Carrier {
  readonly name: string;
  readonly open: (setup?: TransportSetup) => Transport;
  readonly cannot?: readonly Ability[];
  /** What a sender may hold. */
  readonly bytes: number;
  readonly manyCalls?: number;
}

const CARRIERS: readonly Carrier[] = [
  { name: 'tcp', open: (given) => new TcpTransport(given), bytes: WINDOW },
  // A window on the way, as much in the reader's queue, and what Node's streams buffer.
  { name: 'grpc', open: (given) => new GrpcTransport(given), bytes: 3 * WINDOW },
  // As tcp's, and what the WebSocket buffers at each end.
  { name: 'ws', open: (given) => new WebSocketTransport(given), bytes: 2 * WINDOW },
  {
    name: 'http',
    open: (given) => new MucpTransport(given),
    cannot: ['streams', 'clientStreams'],
    bytes: 0,
    // One call at a time on a connection, and a hundred connections to a node.
    manyCalls: 100,
  },
];

const directory = mkdtempSync(join(tmpdir(), 'rivulet-conformance-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const tls = missingOpenssl ? undefined : mutualTls(directory);

transportConformance({
  ...setup,
  name: 'udp',
  factory: async () => ({
    listen: pair(new UdpTransport(), new UdpTransport()),
    // Nobody says that a caller gave up, and a datagram to nowhere is only not answered.
    cannot: ['streams', 'clientStreams', 'cancel'],
    maxBody: 50 * 1024,
    bound: { bytes: 0 },
    // What the system's buffer of one socket holds; more datagrams at once would be lost.
    manyCalls: 100,
    [Symbol.asyncDispose]: async () => {},
  }),
});

for (const { name, open, cannot = [], bytes, manyCalls = 10_000 } of CARRIERS) {
  transportConformance({
    ...setup,
    name,
    factory: async () => ({
      listen: pair(open(), open()),
      dialNowhere: () => open().dial(nowhere),
      cannot,
      bound: { bytes },
      manyCalls,
      [Symbol.asyncDispose]: async () => {},
    }),
  });
  if (tls === undefined) continue;
  transportConformance({
    ...setup,
    name: `${name} with TLS`,
    factory: async () => ({
      listen: pair(open(), open({ tls }), tls),
      dialNowhere: () => open({ tls }).dial(nowhere),
      cannot,
      bound: { bytes },
      // A handshake and its ciphers for each of them: fewer show the same.
      manyCalls: Math.min(manyCalls, 1000),
      [Symbol.asyncDispose]: async () => {},
    }),
  });
}

transportConformance({
  ...setup,
  name: 'broker over memory',
  factory: () => brokerFixture(memoryFixture()),
});

/** Certificates with which both sides prove themselves. */
function mutualTls(where: string): TlsOptions {
  const made = makeCertificates(where);
  const [cert, key] = [readFileSync(made.cert), readFileSync(made.key)];
  return { cert, key, ca: made.caText, requireClientCertificate: true };
}
