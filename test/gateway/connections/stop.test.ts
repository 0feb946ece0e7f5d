/** The stop of a gateway whose registry or client does not answer, on a clock that the test moves. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import { startGateway } from '../../../src/gateway/gateway.ts';
import { MemoryRegistry } from '../../../src/registry/memory.ts';
import { contract, unary } from '../../../src/rpc/contract.ts';
import { createService } from '../../../src/service/service.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { makeCertificates, missingOpenssl } from '../../helpers/certificates.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { until } from '../../helpers/until.ts';

const Greeter = contract('go.micro.api.greeter', { Say: { Hello: unary<unknown, unknown>() } });
const DRAIN_MS = 5000;
const LEAVE_MS = 2000;

/** A registry whose watch does not end, as one over a broker that is away. */
class WithoutAnswer extends MemoryRegistry {
  override async *watch(): ReturnType<MemoryRegistry['watch']> {
    await new Promise<never>(() => {});
  }
}

test('a stop ends within its limit, and closes the port, where the registry does not answer', async () => {
  const scheduler = new VirtualScheduler();
  const gateway = await startGateway({
    address: ':0',
    registry: new WithoutAnswer(),
    drainTimeoutMs: DRAIN_MS,
    scheduler,
  });
  const { url } = gateway;
  let isStopped = false;
  const stopped = gateway.stop().then(() => {
    isStopped = true;
  });
  const isClosed = () =>
    fetch(url).then(
      () => false,
      () => true,
    );
  await until(isClosed, 'the port is closed');
  await scheduler.advance(DRAIN_MS + LEAVE_MS - 1);
  assert.equal(isStopped, false, 'it waits for the registry until its limit');
  await scheduler.advance(1);
  await until(() => isStopped, 'the stop ends');
  await stopped;
});

test('a stop that reaches its limit leaves no connection to a service open', async () => {
  const sockets: Socket[] = [];
  const note = (message: unknown) => sockets.push((message as { socket: Socket }).socket);
  const registry = new WithoutAnswer();
  const own = { registry, transport: 'tcp', environment: false, args: false } as const;
  const service = createService(own).handle(Greeter, { Say: { Hello: () => ({ said: 'hello' }) } });
  await service.start();
  const scheduler = new VirtualScheduler();
  const gateway = await startGateway({ address: ':0', registry, drainTimeoutMs: 0, scheduler });
  subscribe('net.client.socket', note);
  const { url } = gateway;
  const answer = await fetch(`${url}/greeter/say/hello`, { method: 'POST', body: '{}' });
  unsubscribe('net.client.socket', note);
  assert.equal(answer.status, 200);
  await answer.arrayBuffer();
  const { port } = new URL(url);
  const calls = sockets.filter((socket) => String(socket.remotePort) !== port);
  assert.ok(calls.length > 0, 'the gateway has called the service');
  const stopped = gateway.stop();
  await scheduler.advance(LEAVE_MS);
  await stopped;
  await until(() => calls.every((socket) => socket.destroyed), 'its connections end');
  await service.stop();
});

test('a TLS handshake that does not end is cut', { skip: missingOpenssl }, async () => {
  await using home = temporaryDirectory('handshakes');
  const { cert, key } = makeCertificates(home.path);
  const common = { address: ':0', registry: new MemoryRegistry(), tls: { cert, key } };
  const open = (address: string) => {
    const [, port] = address.split(':');
    return connect(Number(port), '127.0.0.1').on('error', () => {});
  };
  // In a running gateway by the limit for headers.
  await using running = await startGateway({ ...common, headersTimeoutMs: 100 });
  const late = open(running.address).resume();
  await until(() => late.closed, 'the gateway ends it');
  // In one that stops by the limit for requests, and the stop waits no longer.
  const scheduler = new VirtualScheduler();
  const longest = 2 ** 30;
  const limits = { drainTimeoutMs: DRAIN_MS, headersTimeoutMs: longest };
  const stopping = await startGateway({ ...common, ...limits, scheduler });
  const accepted = new Promise<void>((resolve) => {
    const take = () => {
      unsubscribe('net.server.socket', take);
      resolve();
    };
    subscribe('net.server.socket', take);
  });
  const silent = open(stopping.address).resume();
  await accepted;
  let isStopped = false;
  const stopped = stopping.stop().then(() => {
    isStopped = true;
  });
  await scheduler.advance(DRAIN_MS);
  await until(() => isStopped, 'the stop ends');
  await stopped;
  await until(() => silent.closed, 'the stop ends the connection');
});

test('a certificate that cannot be used is an error in the option', {
  skip: missingOpenssl,
}, async () => {
  await using home = temporaryDirectory('certificates');
  const { cert, key, elsewhere } = makeCertificates(home.path);
  for (const tls of [
    { cert: key, key: cert },
    { cert, key: elsewhere.key },
    { cert, key: cert },
    // Node takes it, and refuses every client then.
    { cert, key, clientCa: key },
  ]) {
    const starting = startGateway({ address: ':0', registry: new MemoryRegistry(), tls });
    await assert.rejects(starting, {
      code: 'INVALID_ARGUMENT',
      message: /^tls(: the certificate|\.clientCa cannot be used)/,
    });
  }
});
