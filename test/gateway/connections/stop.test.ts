/** The stop of a gateway, proxy or bot whose registry or client does not answer, on a clock that the test moves. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import { startBot } from '../../../src/bot/bot.ts';
import { startGateway } from '../../../src/gateway/gateway.ts';
import { startProxy } from '../../../src/proxy/proxy.ts';
import { MemoryRegistry } from '../../../src/registry/memory.ts';
import { contract, unary } from '../../../src/rpc/contract.ts';
import { LEAVE_MS } from '../../../src/service/leave.ts';
import { createService } from '../../../src/service/service.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { makeCertificates, missingOpenssl } from '../../helpers/certificates.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { until } from '../../helpers/until.ts';

const Greeter = contract('go.micro.api.greeter', { Say: { Hello: unary<unknown, unknown>() } });
const DRAIN_MS = 5000;
const CHAT = { token: '12345:abcdefgh', apiUrl: 'http://127.0.0.1:1' };

/** A registry whose watch does not end, as one over a broker that is away. */
class WithoutAnswer extends MemoryRegistry {
  /** Whether the caller has given its watch up, as it does last. */
  isLeft = false;

  override async *watch(
    ...[, { signal } = {}]: Parameters<MemoryRegistry['watch']>
  ): ReturnType<MemoryRegistry['watch']> {
    signal?.addEventListener('abort', () => {
      this.isLeft = true;
    });
    await new Promise<never>(() => {});
  }
}

for (const [what, start] of [
  ['gateway', (options: object) => startGateway({ address: ':0', ...options })],
  ['proxy', (options: object) => startProxy({ address: ':0', ...options })],
  [
    'bot',
    // Its chat service cannot be reached.
    (options: object) => startBot({ inputs: ['telegram'], telegram: CHAT, ...options }),
  ],
] as const) {
  test(`the stop of a ${what} waits two seconds for a registry that does not answer`, async () => {
    const scheduler = new VirtualScheduler();
    const registry = new WithoutAnswer();
    const running = await start({ registry, scheduler });
    let isStopped = false;
    const stopped = running.stop().then(() => {
      isStopped = true;
    });
    await until(() => registry.isLeft, 'no request is left, and the watch is given up');
    if ('address' in running) {
      await assert.rejects(fetch(`http://${running.address}`), 'the port is closed');
    }
    await scheduler.advance(LEAVE_MS - 1);
    assert.equal(isStopped, false);
    await scheduler.advance(1);
    await until(() => isStopped, 'the stop ends');
    await stopped;
  });
}

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
  // Idle connections of clients end.
  await scheduler.advance(1);
  await until(() => registry.isLeft, 'no connection of a client is left');
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
