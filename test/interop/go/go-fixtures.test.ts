/**
 * What go-micro's programs sent, fed to our code, and our bytes compared with theirs: without Go.
 * record-fixtures.ts made the recordings.
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import makeMdns, { type ResponsePacket } from 'multicast-dns';
import { LocalRegistry } from '../../../src/broker/http/http-registry.ts';
import type { ReceivedMessage } from '../../../src/broker/message/received-message.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { Seen } from '../../../src/conformance/case-context.ts';
import {
  directoryOf,
  directoryPacket,
  type MdnsPacket,
  nodesOf,
  packetOf,
} from '../../../src/registry/mdns/mdns-record.ts';
import { MemoryRegistry } from '../../../src/registry/memory.ts';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { decodeRecord, encodeRecord } from '../../../src/registry/record.ts';
import type { ServiceRecord } from '../../../src/registry/registry.ts';
import { createService } from '../../../src/service/service.ts';
import { ConsulModel } from '../../registry/models/consul-model.ts';
import { readFixtures } from './fixtures.ts';
import { ordersOf, startOrders } from './go-orders.ts';
import { GO_MICRO_VERSIONS } from './go-programs.ts';
import { MucpRecorder, replyOfGrpc, replyOfMucp } from './record-calls.ts';

const OURS = 'recorder';
const THEIRS = 'go.micro.go.orders';
const outside = { args: false, environment: false } as const;

for (const version of GO_MICRO_VERSIONS) {
  const { mucp, grpc, etcd, mdns, events, consul } = readFixtures(version);
  const caller = `go-micro ${version}`;

  test(`requests of mucp as a go-micro ${version} client sent them are answered as its server does`, async () => {
    const registry = new MemoryRegistry();
    await using _service = await startOrders(OURS, registry, 'http', THEIRS);
    const address = await addressOf(registry, OURS);
    for (const [name, call] of Object.entries(mucp)) {
      const [ours, theirs] = [await replyOfMucp(address, call.request), call.reply].map(partsOf);
      assert.ok(ours && theirs);
      assert.equal(ours.status, theirs.status, name);
      assert.equal(ours.headers['content-type'], theirs.headers['content-type'], name);
      assert.equal(ours.headers['micro-id'], theirs.headers['micro-id'], name);
      assert.equal('micro-error' in ours.headers, 'micro-error' in theirs.headers, name);
    }
    const replies = Object.fromEntries(
      await Promise.all(
        Object.entries(mucp).map(async ([name, { request }]) => [
          name,
          partsOf(await replyOfMucp(address, request)),
        ]),
      ),
    );
    assert.deepEqual(JSON.parse(replies.order.body), { id: 7, user: 'TypeScript', caller });
    assert.equal(replies.name.body, partsOf(mucp.name?.reply ?? '').body);
    const ours = JSON.parse(latin1(replies.fail.headers['micro-error']));
    const theirs = JSON.parse(latin1(partsOf(mucp.fail?.reply ?? '').headers['micro-error']));
    assert.deepEqual(ours, { ...theirs, id: 'ts.orders' });
  });

  test(`replies of mucp as a go-micro ${version} server sent them are read by our client`, async () => {
    const queue = ['order', 'name', 'fail', 'none'].map((name) => mucp[name]?.reply ?? '');
    await using server = await MucpRecorder.start(() => queue.shift() ?? '');
    const registry = await registryWith(THEIRS, server.address, 'mucp');
    await using service = createService({ name: 'caller', registry, retries: 0, ...outside });
    const orders = service.client(await ordersOf(THEIRS)).OrderSrv;
    assert.deepEqual(await orders.GetOrder({ id: 7 }), { id: 7, user: 'Go', caller });
    assert.deepEqual(await orders.Name({ value: 5n }), { value: 'order 5' });
    const conflict = {
      id: 'go.orders',
      status: 409,
      code: 'CONFLICT',
      detail: 'already there: ü %',
    };
    await assert.rejects(orders.GetOrder({ what: 'fail' }), conflict);
    await assert.rejects(orders.GetOrder({ what: 'none' }), { code: 'METHOD_NOT_FOUND' });
    assert.deepEqual(queue, []);
  });

  test(`our requests of mucp have the headers of a go-micro ${version} client`, async () => {
    await using server = await MucpRecorder.start();
    const registry = await registryWith(THEIRS, server.address, 'mucp');
    await using service = createService({ name: 'caller', registry, ...outside });
    await service
      .client(await ordersOf(THEIRS))
      .OrderSrv.GetOrder({ id: 7 }, { metadata: { 'X-Caller': 'us' } });
    const ours = partsOf(server.requests[0] ?? '');
    const theirs = partsOf(mucp.order?.request ?? '');
    assert.equal(ours.status, theirs.status);
    const optional = new Set(['user-agent', 'accept-encoding', 'connection']);
    for (const name of Object.keys(theirs.headers)) {
      if (optional.has(name) || name.startsWith('x-micro-')) continue;
      assert.ok(name in ours.headers, `${name} is in ${Object.keys(ours.headers)}`);
    }
    for (const name of ['micro-endpoint', 'micro-method', 'content-type', 'accept']) {
      assert.equal(ours.headers[name], theirs.headers[name]);
    }
    assert.match(ours.headers.timeout ?? '', /^\d+$/);
  });

  test(`calls of gRPC as a go-micro ${version} client sent them are answered as its server does`, async () => {
    const registry = new MemoryRegistry();
    await using _service = await startOrders(OURS, registry, 'grpc', THEIRS);
    const address = await addressOf(registry, OURS);
    for (const [name, { request, reply }] of Object.entries(grpc)) {
      const ours = await replyOfGrpc(address, request);
      assert.equal(statusOf(ours), statusOf(reply), name);
      assert.equal(ours.headers['content-type'], reply.headers['content-type'], name);
      if (name === 'name' || name === 'watch') assert.equal(ours.body, reply.body, name);
      if (name === 'order') {
        assert.deepEqual(JSON.parse(ours.body.slice(5)), { id: 7, user: 'TypeScript', caller });
      }
      if (name !== 'fail') continue;
      const detail = JSON.parse(decodeURIComponent(messageOf(ours)));
      const other = JSON.parse(decodeURIComponent(messageOf(reply)));
      assert.deepEqual(detail, { ...other, id: 'ts.orders' });
    }
  });

  test(`replies of gRPC as a go-micro ${version} server sent them are read by our client`, async () => {
    const replies = new Map(Object.entries(grpc).map(([name, { reply }]) => [name, reply]));
    let next = '';
    const server = http2.createServer();
    server.on('stream', (stream) => {
      const reply = replies.get(next);
      if (reply === undefined) throw new Error(`no reply ${next}`);
      stream.resume();
      stream.once('end', () => {
        stream.respond(reply.headers, { waitForTrailers: true });
        stream.on('wantTrailers', () => stream.sendTrailers(reply.trailers));
        stream.end(Buffer.from(reply.body, 'latin1'));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const registry = await registryWith(THEIRS, `127.0.0.1:${port}`, 'grpc');
    const service = createService({ name: 'caller', registry, retries: 0, ...outside });
    const orders = service.client(await ordersOf(THEIRS)).OrderSrv;
    next = 'order';
    assert.deepEqual(await orders.GetOrder({ id: 7 }), { id: 7, user: 'Go', caller });
    next = 'name';
    assert.deepEqual(await orders.Name({ value: 5n }), { value: 'order 5' });
    next = 'fail';
    const conflict = {
      id: 'go.orders',
      status: 409,
      code: 'CONFLICT',
      detail: 'already there: ü %',
    };
    await assert.rejects(orders.GetOrder({ what: 'fail' }), conflict);
    next = 'none';
    await assert.rejects(orders.GetOrder({ what: 'none' }), { code: 'METHOD_NOT_FOUND' });
    next = 'watch';
    const watched: unknown[] = [];
    for await (const each of orders.Watch({ value: 3n })) watched.push(each);
    assert.deepEqual(watched, [{ value: 'order 0' }, { value: 'order 1' }, { value: 'order 2' }]);
    await service.stop();
    await new Promise((resolve) => server.close(resolve));
  });

  test(`records in etcd of go-micro ${version} are read whole, and ours have the same form`, () => {
    for (const [name, { key, value, ttlSeconds }] of Object.entries(etcd)) {
      const record = decodeRecord(value);
      const [node] = record.nodes;
      assert.equal(key, `/micro/registry/${record.name}/${node?.id}`);
      assert.ok(ttlSeconds > 0, name);
      assert.deepEqual(JSON.parse(encodeRecord(record)), withoutNull(JSON.parse(value)), name);
      assert.deepEqual(
        Object.keys(JSON.parse(encodeRecord(record))),
        Object.keys(JSON.parse(value)),
        name,
      );
      if (name === 'http') continue;
      assert.equal(node?.metadata.protocol, name);
      const names = record.endpoints.map((each) => each.name);
      assert.ok(names.includes('OrderSrv.GetOrder') && names.includes('OrderSrv.Watch'));
    }
  });

  test(`packets of mDNS of go-micro ${version} are read whole, and ours have the same form`, async () => {
    const packets = await parsed(mdns);
    const fail = (instance: string, error: unknown) => assert.fail(`${instance}: ${error}`);
    const nodes = packets.flatMap((packet) => nodesOf(packet, 'micro', fail));
    assert.ok(nodes.some(({ ttlMs }) => ttlMs === 120_000));
    assert.ok(packets.some((packet) => directoryOf(packet, 'micro').includes(THEIRS)));
    for (const packet of packets) {
      // What Go sends unasked has no question and no PTR.
      if (packet.questions?.length === 0) continue;
      const [found] = nodesOf(packet, 'micro', fail);
      const [directory] = directoryOf(packet, 'micro');
      if (found !== undefined) {
        const { record, ttlMs } = found;
        assert.ok(record.endpoints.length >= 6);
        sameForm(packet, packetOf(record, record.nodes[0] as never, ttlMs, 'micro'));
      } else if (directory !== undefined) {
        sameForm(packet, directoryPacket(directory, 120_000, 'micro'));
      }
    }
  });

  test(`events of go-micro ${version}'s http broker arrive whole, and ours have its form`, async () => {
    const registry = new LocalRegistry();
    await using broker = await openBroker('http://127.0.0.1:0', { client: { registry } });
    const seen = new Seen<ReceivedMessage>();
    await broker.subscribe('go.to.us', ({ message }) => seen.add(message));
    const [record] = await registry.getService('micro.http.broker');
    const [node] = record?.nodes ?? [];
    for (const event of events.http) {
      const request = event.replace(/^POST \/\?id=\S+/, `POST /?id=${node?.id}`);
      const reply = await replyOfMucp(node?.address ?? '', request);
      assert.match(reply, /^HTTP\/1\.1 200 /);
    }
    const [json, proto] = await seen.count(2);
    assert.deepEqual(JSON.parse(String(json?.body)), { id: 7, what: 'ü %' });
    assert.equal(json?.headers['X-Caller'], caller);
    assert.equal(Buffer.from(proto?.body ?? []).toString('latin1'), '\n\u0004\u00c3\u00bc %');

    await using other = await MucpRecorder.start();
    const { metadata } = decodeRecord(etcd.http?.value ?? '').nodes[0] as ServiceRecord['nodes'][0];
    const theirs = { id: 'go.to.us-go', address: other.address, metadata };
    await registry.register({
      name: 'micro.http.broker',
      version: 'ff.http.broadcast',
      nodes: [theirs],
    });
    await broker.publish('go.to.us', {
      headers: { 'X-Caller': 'us' },
      body: json?.body ?? Buffer.alloc(0),
    });
    const [ours, go] = [other.requests[0] ?? '', events.http[0] ?? ''].map(partsOf);
    assert.deepEqual(
      Object.keys(JSON.parse(ours?.body ?? '')),
      Object.keys(JSON.parse(go?.body ?? '')),
    );
    assert.equal(JSON.parse(ours?.body ?? '').Header['Micro-Topic'], 'go.to.us');
    assert.equal(JSON.parse(ours?.body ?? '').Body, JSON.parse(go?.body ?? '').Body);
  });

  if (consul.length === 0) continue;
  test(`what go-micro ${version} sent to Consul makes a service that we find, and ours has its form`, async () => {
    await using model = new ConsulModel();
    await model.start();
    const at = `http://127.0.0.1:${model.port}`;
    const [register, ...others] = consul;
    await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
    assert.equal(register?.path, '/v1/agent/service/register');
    await fetch(at + register.path, { method: 'PUT', body: register.body });
    for (const { path, body } of others.filter(({ path }) => path.includes('/check/'))) {
      await fetch(at + path, { method: 'PUT', ...(body === '' ? {} : { body }) });
    }
    const [found] = await registry.getService(THEIRS);
    assert.equal(found?.nodes[0]?.metadata.protocol, 'mucp');
    assert.ok(found.endpoints.some(({ name }) => name === 'OrderSrv.GetOrder'));
    const leave = others.find(({ path }) => path.includes('/deregister/'));
    await fetch(at + leave?.path, { method: 'PUT' });
    assert.deepEqual(await registry.getService(THEIRS), []);
  });
}

/** The parts of a message of HTTP/1.1: its first line, headers with small names, and body. */
function partsOf(message: string) {
  const [head = '', body = ''] = splitOnce(message, '\r\n\r\n');
  const [status = '', ...lines] = head.split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => {
      const [name = '', value = ''] = splitOnce(line, ': ');
      return [name.toLowerCase(), value];
    }),
  );
  return { status, headers, body };
}

function splitOnce(text: string, by: string): [string, string] {
  const at = text.indexOf(by);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + by.length)];
}

function latin1(text: string | undefined): string {
  return Buffer.from(text ?? '', 'latin1').toString();
}

/** Trailers alone are the headers of a reply without a body. */
function statusOf({ headers, trailers }: { headers: object; trailers: object }): string {
  return ({ ...headers, ...trailers } as Record<string, string>)['grpc-status'] ?? '';
}

function messageOf({ headers, trailers }: { headers: object; trailers: object }): string {
  return ({ ...headers, ...trailers } as Record<string, string>)['grpc-message'] ?? '';
}

/** Packets of mDNS, as our library reads them from a socket. */
async function parsed(packets: readonly string[]): Promise<ResponsePacket[]> {
  const sender = createSocket('udp4');
  await new Promise<void>((resolve) => sender.bind(0, '127.0.0.1', resolve));
  const { port } = sender.address();
  await new Promise<void>((resolve) => sender.close(resolve));
  const socket = makeMdns({ multicast: false, bind: '127.0.0.1', port });
  await new Promise<void>((resolve) => socket.once('ready', resolve));
  const from = createSocket('udp4');
  const found: ResponsePacket[] = [];
  for (const packet of packets) {
    const read = new Promise<ResponsePacket>((resolve) => socket.once('response', resolve));
    from.send(Buffer.from(packet, 'base64'), port, '127.0.0.1');
    found.push(await read);
  }
  await new Promise<void>((resolve) => from.close(resolve));
  await new Promise<void>((resolve) => socket.destroy(() => resolve()));
  return found;
}

/** Types and names of the records, and the question. */
function sameForm(theirs: ResponsePacket, ours: MdnsPacket): void {
  const form = (answers: MdnsPacket['answers']) =>
    answers
      .map((each) => [each.type, each.type === 'A' ? '' : each.name.replace(/\.$/, '')])
      .sort();
  assert.deepEqual(
    ours.questions?.map(({ name, type }) => [name, type]),
    theirs.questions?.map(({ name, type }) => [name, type]),
  );
  assert.deepEqual(
    form(ours.answers),
    form([...(theirs.answers ?? []), ...(theirs.additionals ?? [])]),
  );
}

function withoutNull(value: unknown, name = ''): unknown {
  if (value === null)
    return name === 'request' || name === 'response' ? null : name === 'metadata' ? {} : [];
  if (Array.isArray(value)) return value.map((each) => withoutNull(each));
  if (typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value as object).map(([each, of]) => [each, withoutNull(of, each)]),
  );
}

async function addressOf(registry: MemoryRegistry, name: string): Promise<string> {
  return (await registry.getService(name))[0]?.nodes[0]?.address ?? '';
}

async function registryWith(name: string, address: string, protocol: string) {
  const registry = new MemoryRegistry();
  const node = { id: `${name}-1`, address, metadata: { protocol } };
  const record = { name, version: 'latest', metadata: {}, endpoints: [], nodes: [node] };
  await registry.register(record, { ttlMs: 120_000 });
  return registry;
}
