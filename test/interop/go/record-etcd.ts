/** What a service has in etcd. */
import { EtcdClient } from '../../../src/registry/etcd/etcd-client.ts';
import type { EtcdNode } from '../../helpers/etcd-server.ts';
import type { EtcdEntry } from './fixtures.ts';

/** The key of a service in etcd as it is, with what is left of its lease. */
export async function entryOf({ port }: EtcdNode, service: string): Promise<EtcdEntry> {
  const client = new EtcdClient({ endpoints: [`127.0.0.1:${port}`] });
  try {
    const from = `/micro/registry/${service}/`;
    const { kvs } = await client.call('KV/Range', {
      key: Buffer.from(from),
      range_end: Buffer.from(`${from.slice(0, -1)}0`),
    });
    const [found] = kvs;
    if (found === undefined) throw new Error(`etcd has no ${service}`);
    const ttlSeconds = await client.keepAlive(String(found.lease));
    return { key: found.key.toString(), value: found.value.toString(), ttlSeconds };
  } finally {
    client.close();
  }
}
