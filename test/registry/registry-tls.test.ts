/**
 * Registries over TLS: the right authority, a wrong one, a certificate of another host, and servers
 * that ask for the certificate of the client. A TLS server of the test stands in front of each registry.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { createServer, type TlsOptions } from 'node:tls';
import { consulRegistryFrom } from '../../src/registry/consul/consul.ts';
import { etcdRegistryFrom } from '../../src/registry/etcd/etcd.ts';
import { eurekaRegistryFrom } from '../../src/registry/eureka/eureka.ts';
import type { Registry, ServiceRecord } from '../../src/registry/registry.ts';
import { zookeeperRegistryFrom } from '../../src/registry/zookeeper/zookeeper.ts';
import {
  type Certificates,
  makeCertificates,
  missingOpenssl,
  type Pair,
} from '../helpers/certificates.ts';
import { startEtcd } from '../helpers/etcd-server.ts';
import { missing } from '../helpers/requirements.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { startZookeeper } from '../helpers/zookeeper-server.ts';
import { ConsulModel } from './models/consul-model.ts';
import { EurekaModel } from './models/eureka-model.ts';

interface Tls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

interface Kind {
  readonly name: string;
  readonly skip: string | false;
  start(): Promise<{ readonly port: number } & AsyncDisposable>;
  open(address: string, tls: Tls): Registry;
}

const own = { onWarning: () => {}, timeoutMs: 2000 };

const kinds: readonly Kind[] = [
  {
    name: 'etcd',
    skip: missing('etcd'),
    start: startEtcd,
    open: (address, tls) => etcdRegistryFrom(address, { ...own, tls }),
  },
  {
    name: 'consul',
    skip: false,
    start: () => started(new ConsulModel()),
    open: (address, tls) => consulRegistryFrom(address, { ...own, tls }),
  },
  {
    name: 'eureka',
    skip: false,
    start: () => started(new EurekaModel()),
    open: (address, tls) => eurekaRegistryFrom(address, { ...own, pollMs: 50, tls }),
  },
  {
    name: 'zookeeper',
    skip: missing('zookeeper'),
    start: startZookeeper,
    open: (address, tls) => zookeeperRegistryFrom(address, { ...own, tls }),
  },
];

const place = temporaryDirectory('registry-tls');

for (const { name, skip, start, open } of kinds) {
  describe(`${name} over TLS`, { skip: missingOpenssl || skip }, () => {
    let files: Certificates;
    let server: Awaited<ReturnType<typeof start>>;
    before(async () => {
      files = makeCertificates(place.path);
      server = await start();
    });
    after(() => server?.[Symbol.asyncDispose]());

    const record: ServiceRecord = {
      name: 'secured',
      version: 'latest',
      metadata: {},
      endpoints: [],
      nodes: [{ id: 'secured-1', address: '127.0.0.1:40001', metadata: {} }],
    };
    const ca = () => Buffer.from(files.caText);
    const pair = ({ cert, key }: Pair) => ({ cert: readFileSync(cert), key: readFileSync(key) });
    const works = async (registry: Registry) => {
      await registry.register(record, { ttlMs: 60_000 });
      const [found] = await registry.getService('secured');
      assert.equal(found?.nodes[0]?.id, 'secured-1');
    };
    const fails = async (registry: Registry, why: RegExp) => {
      for (const attempt of [
        registry.getService('secured'),
        registry.register(record, { ttlMs: 60_000 }),
      ]) {
        await assert.rejects(attempt, (error: Error & { code?: string }) => {
          assert.equal(error.code, 'REGISTRY_UNAVAILABLE');
          assert.match(error.message, why);
          return true;
        });
      }
    };

    test('with the authority of its certificate a registry works, with another or none it fails', async () => {
      await using front = await startFront(server.port, pair(files));
      await using right = open(front.address, { ca: ca() });
      await works(right);
      await using wrong = open(front.address, { ca: Buffer.from(files.otherCaText) });
      await fails(wrong, /certificate|self.signed/i);
      await using none = open(front.address, {});
      await fails(none, /certificate|self.signed/i);
    });

    test('the certificate of another host is refused, and the error names the host', async () => {
      await using front = await startFront(server.port, pair(files.elsewhere));
      await using registry = open(front.address, { ca: ca() });
      await fails(registry, /127\.0\.0\.1|altnames/i);
    });

    test('a server that asks for a certificate of the client takes that of its authority only', async () => {
      const asks = { ...pair(files), ca: ca(), requestCert: true, rejectUnauthorized: true };
      await using front = await startFront(server.port, asks);
      await using right = open(front.address, { ca: ca(), ...pair(files.client) });
      await works(right);
      await using none = open(front.address, { ca: ca() });
      await fails(none, /cannot be reached|no answer/);
    });
  });
}

async function started<Model extends { start(): Promise<void> }>(model: Model): Promise<Model> {
  await model.start();
  return model;
}

/** A TLS server that hands the bytes of its connections to a port of this machine. */
async function startFront(
  port: number,
  options: TlsOptions,
): Promise<{ readonly address: string } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const front = createServer({ ALPNProtocols: ['h2', 'http/1.1'], ...options }, (outer) => {
    const inner = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [outer, inner],
      [inner, outer],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  front.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${(front.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => front.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
