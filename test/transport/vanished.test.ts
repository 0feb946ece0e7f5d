/**
 * Peers that vanish without a word: no FIN, no RST, no answer. Each end notices it within the time that it
 * is set to, whichever end it is.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { MucpTransport } from '../../src/transport/mucp/mucp.ts';
import { TcpTransport, type TransportSetup } from '../../src/transport/tcp/tcp.ts';
import type { MethodKind, Transport } from '../../src/transport/transport.ts';
import { WebSocketTransport } from '../../src/transport/websocket.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { until } from '../helpers/until.ts';
import { outgoing } from './wires.ts';

/** A proxy that swallows from a moment on: it passes neither bytes nor ends. */
async function swallower(address: string) {
  const sockets = new Set<Socket>();
  let swallows = false;
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const node = connect({
      port: Number(address.split(':')[1]),
      host: '127.0.0.1',
      allowHalfOpen: true,
    });
    for (const [from, to] of [
      [client, node],
      [node, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => {});
      from.on('data', (chunk) => {
        if (!swallows) to.write(chunk);
      });
      from.on('close', () => {
        if (!swallows) to.destroy();
      });
    }
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    swallow() {
      swallows = true;
    },
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

interface Carrier {
  readonly name: string;
  readonly make: (setup: TransportSetup) => Transport;
  readonly kinds: readonly MethodKind[];
  /** Seconds within which the caller notices, and its error. */
  readonly caller: readonly [number, string];
  /** Seconds within which the node notices; null: it knows the deadline of the call instead. */
  readonly node: number | null;
}

const DEADLINE_S = 20;
const CARRIERS: readonly Carrier[] = [
  {
    name: 'tcp',
    make: (setup) => new TcpTransport(setup),
    kinds: ['unary', 'bidi'],
    caller: [4, 'RESPONDER_LOST'],
    node: 4,
  },
  {
    name: 'ws',
    make: (setup) => new WebSocketTransport(setup),
    kinds: ['unary', 'bidi'],
    caller: [4, 'RESPONDER_LOST'],
    node: 4,
  },
  {
    name: 'grpc',
    make: (setup) => new GrpcTransport(setup),
    kinds: ['unary', 'bidi'],
    caller: [11, 'RESPONDER_LOST'],
    node: 60,
  },
  {
    name: 'http',
    make: (setup) => new MucpTransport(setup),
    kinds: ['unary'],
    caller: [DEADLINE_S, 'TIMEOUT'],
    node: null,
  },
];

for (const { name, make, kinds, caller, node } of CARRIERS) {
  for (const kind of kinds) {
    test(`${name}: a peer that vanished in a ${kind} call is noticed in time at both ends`, async () => {
      const scheduler = new VirtualScheduler();
      let lost: string | null = null;
      let timeoutMs: number | null = null;
      let isCalled = false;
      const listener = await make({ scheduler }).listen({
        address: '127.0.0.1:0',
        nodeId: 'node',
        methods: () => ({ kind, isProto: false }),
        handler(call) {
          isCalled = true;
          timeoutMs = call.timeoutMs;
          call.onCancel((reason) => {
            lost = reason.code;
          });
        },
      });
      const between = await swallower(listener.address);
      const metadata: Record<string, string> = { ...listener.metadata };
      for (const [key, value] of Object.entries(metadata)) {
        if (value === listener.address) metadata[key] = between.address;
      }
      const channel = await make({ scheduler }).dial({
        id: 'node',
        address: between.address,
        metadata,
      });
      const more = { kind, timeoutMs: name === 'http' ? DEADLINE_S * 1000 : null };
      const body = kind === 'unary' ? 'x' : null;
      let error: (Error & { code?: string }) | null = null;
      const reading =
        kind === 'unary'
          ? channel.request(outgoing('Test.Hang', body, more))
          : channel.call(outgoing('Test.Chat', body, more)).messages.next();
      reading.catch((cause) => {
        error = cause;
      });
      await until(() => isCalled);
      between.swallow();
      const noticed: { caller?: number; node?: number } = {};
      for (let second = 1; second <= 70; second++) {
        await scheduler.advance(1000);
        for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
        if (error !== null) noticed.caller ??= second;
        if (lost !== null) noticed.node ??= second;
      }
      const code = (error as { code?: string } | null)?.code;
      assert.equal(code, caller[1]);
      assert.ok((noticed.caller ?? Infinity) <= caller[0] + 1, `the caller: ${noticed.caller} s`);
      if (node === null) assert.equal(timeoutMs, DEADLINE_S * 1000);
      else {
        assert.equal(lost, 'ABORTED');
        assert.ok((noticed.node ?? Infinity) <= node + 1, `the node: ${noticed.node} s`);
      }
      await channel.close();
      between.close();
      await listener.close();
    });
  }
}

const table = '/proc/net/tcp';
const hasTable = (() => {
  try {
    return readFileSync(table, 'utf8') !== '';
  } catch {
    return false;
  }
})();

test('the system asks an idle connection whether its peer is there', {
  skip: hasTable ? false : `${table} is not there`,
}, async () => {
  const listener = await new TcpTransport().listen({
    address: '127.0.0.1:0',
    nodeId: 'node',
    handler: () => {},
  });
  const { address, metadata } = listener;
  const channel = await new TcpTransport().dial({ id: 'node', address, metadata });
  const port = Number(address.split(':')[1]).toString(16).toUpperCase().padStart(4, '0');
  // sl local_address rem_address st tx_queue:rx_queue tr:tm->when; 01 = established, 02 = keep-alive.
  const timers = () =>
    readFileSync(table, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((row) => row[1]?.endsWith(`:${port}`) && row[3] === '01')
      .map((row) => row[5]?.slice(0, 2));
  await until(() => timers().length === 1 && timers()[0] === '02');
  await channel.close();
  await listener.close();
});
