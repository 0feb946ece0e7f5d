/**
 * Records what the Go programs send, for go-fixtures.test.ts, which runs without Go:
 *
 *   npm run build && node dist/test/interop/go/record-fixtures.js
 *
 * Writes one file of JSON for each version of go-micro into test/interop/go/fixtures. Ids and ports differ
 * from one recording to the next. Needs Go with the modules, etcd, nats-server, RabbitMQ, unshare, ip.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { runTool } from '../../helpers/children.ts';
import { type EtcdNode, startEtcd } from '../../helpers/etcd-server.ts';
import { startNats } from '../../helpers/nats-server.ts';
import { ConsulModel } from '../../registry/models/consul-model.ts';
import type { ModelRequest } from '../../registry/models/http-model.ts';
import { type ConsulRequest, type EtcdEntry, fixturePath, type GoFixtures } from './fixtures.ts';
import { GO_MICRO_VERSIONS, type GoMicro, missingGo, runGo, startGo } from './go-programs.ts';
import { GrpcRecorder, MucpRecorder, replyOfGrpc, replyOfMucp } from './record-calls.ts';
import { entryOf } from './record-etcd.ts';
import { recordEvents } from './record-events.ts';
import { ownNetwork, recordPackets } from './record-mdns.ts';

const SERVICE = 'go.micro.go.orders';
/** The calls of the Go client, in their order. */
const CALLS = ['order', 'name', 'fail', 'panic', 'slow', 'none', 'watch', 'chat'];
const KEPT = ['order', 'name', 'fail', 'none'];

if (process.argv[2] === 'mdns') {
  const packets = await recordPackets(process.argv[3] as GoMicro, SERVICE);
  process.stdout.write(`${JSON.stringify(packets)}\n`);
} else {
  for (const version of GO_MICRO_VERSIONS) {
    const reason = missingGo(version);
    if (reason !== false) throw new Error(reason);
    const file = fixturePath(version);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${JSON.stringify(await record(version), null, 2)}\n`);
    process.stdout.write(`${file}\n`);
  }
}

async function record(version: GoMicro): Promise<GoFixtures> {
  await using etcd = await startEtcd();
  const mucp = await recordMucp(version, etcd);
  const grpc = await recordGrpc(version, etcd);
  const { events, subscriber } = await recordEvents(version, etcd);
  const args = ['-rn', 'sh', '-c', ownNetwork('"$0" "$@"')];
  const itself = [process.execPath, process.argv[1] as string, 'mdns', version];
  const packets = await runTool('unshare', [...args, ...itself]);
  if (packets.code !== 0) throw new Error(packets.stderr);
  return {
    goMicro: version,
    mucp: mucp.calls,
    grpc: grpc.calls,
    etcd: {
      mucp: mucp.entry,
      ...(grpc.entry === null ? {} : { grpc: grpc.entry }),
      http: subscriber,
    },
    mdns: JSON.parse(packets.stdout),
    events,
    consul: version === 'v5' ? await recordConsul() : [],
  };
}

async function recordMucp(version: GoMicro, etcd: EtcdNode) {
  await using recorder = await MucpRecorder.start();
  await announce(etcd, 'recorder', recorder.address, 'mucp');
  await runGo(version, 'call', 'mucp', etcd.url, 'recorder');
  await using _go = await startGo(version, 'serve', 'mucp', etcd.url, SERVICE, 'none');
  const entry = await entryOf(etcd, SERVICE);
  const calls: Record<string, { request: string; reply: string }> = {};
  for (const name of KEPT) {
    const request = recorder.requests[CALLS.indexOf(name)] as string;
    calls[name] = { request, reply: await replyOfMucp(addressIn(entry), request) };
  }
  return { calls, entry };
}

async function recordGrpc(version: GoMicro, etcd: EtcdNode) {
  await using recorder = await GrpcRecorder.start();
  await announce(etcd, 'recorder', recorder.address, 'grpc');
  await runGo(version, 'call', 'grpc', etcd.url, 'recorder');
  await using nats = version === 'v5' ? await startNats() : null;
  const url = nats?.nodes[0]?.url ?? etcd.url;
  const program = nats === null ? version : 'v5-grpc';
  await using _go = await startGo(program, 'serve', 'grpc', url, SERVICE, 'none');
  const entry = nats === null ? await entryOf(etcd, SERVICE) : null;
  await using registry = await openRegistry(url);
  const [found] = await registry.getService(SERVICE);
  const address = found?.nodes[0]?.address ?? '';
  const calls: Record<string, GoFixtures['grpc'][string]> = {};
  for (const name of [...KEPT, 'watch']) {
    const request = recorder.requests[CALLS.indexOf(name)];
    if (request === undefined) throw new Error(`the client made no call ${name}`);
    calls[name] = { request, reply: await replyOfGrpc(address, request) };
  }
  return { calls, entry };
}

/** Go's registry of Consul at the model: what it sent to register, and to leave. */
async function recordConsul(): Promise<ConsulRequest[]> {
  const seen: ConsulRequest[] = [];
  class Recorder extends ConsulModel {
    protected override answer(request: ModelRequest) {
      const { method, url, body } = request;
      if (method === 'PUT') seen.push({ method, path: url.pathname, body });
      return super.answer(request);
    }
  }
  await using model = new Recorder();
  await model.start();
  const go = await startGo('v5', 'serve', 'mucp', `consul://127.0.0.1:${model.port}`, SERVICE, '');
  await go[Symbol.asyncDispose]();
  return seen;
}

/** Registers an address as a node of a service, for the Go client to find. */
async function announce(
  { url }: EtcdNode,
  name: string,
  address: string,
  protocol: string,
): Promise<void> {
  await using registry = await openRegistry(url);
  const node = { id: `${name}-1`, address, metadata: { protocol } };
  const record = { name, version: 'latest', metadata: {}, endpoints: [], nodes: [node] };
  await registry.register(record, { ttlMs: 120_000 });
}

function addressIn({ value }: EtcdEntry): string {
  return JSON.parse(value).nodes[0].address;
}
