/**
 * One side of request and reply, of each kind: the requester, and, when run as a program, the responder, in
 * a separate process.
 *
 *     node echo.js ours|nats|moleculer <address>
 */
import { fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect as connectNats } from '@nats-io/transport-node';
import { openBroker } from '../../src/index.ts';
import { repositoryRoot } from '../../test/house/source-file.ts';

export type EchoKind = 'ours' | 'nats' | 'moleculer';

export interface Caller extends AsyncDisposable {
  ask(body: Buffer): Promise<unknown>;
}

const TOPIC = 'bench.echo';
/** Found among the benchmarks' own modules, and only when it is measured. */
const requirePeer = createRequire(join(repositoryRoot, 'bench', 'package.json'));

/**
 * For moleculer the address is a server's URL, or `callerPort,responderPort` for direct TCP, where its
 * nodes know each other by a list.
 */
function moleculer(address: string, own: 'caller' | 'responder') {
  const { ServiceBroker } = requirePeer('moleculer');
  if (address.includes('://')) {
    return new ServiceBroker({ nodeID: own, logger: false, transporter: address });
  }
  const [caller, responder] = address.split(',');
  const urls = [`127.0.0.1:${caller}/caller`, `127.0.0.1:${responder}/responder`];
  const port = Number(own === 'caller' ? caller : responder);
  return new ServiceBroker({
    nodeID: own,
    logger: false,
    transporter: { type: 'TCP', options: { udpDiscovery: false, port, urls } },
  });
}

/** Starts the responder and connects to it. */
export async function startEcho(kind: EchoKind, address: string): Promise<Caller> {
  const child = fork(fileURLToPath(import.meta.url), [kind, address]);
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('exit', (code) => reject(new Error(`the responder ended with ${code}`)));
  });
  const caller = await connectCaller(kind, address);
  return {
    ask: caller.ask,
    async [Symbol.asyncDispose]() {
      await caller.close();
      child.kill('SIGKILL');
    },
  };
}

async function connectCaller(kind: EchoKind, address: string) {
  if (kind === 'ours') {
    const broker = await openBroker(address);
    return {
      ask: (body: Buffer) => broker.request(TOPIC, { headers: {}, body }),
      close: () => broker.disconnect(),
    };
  }
  if (kind === 'nats') {
    const client = await connectNats({ servers: address });
    return {
      ask: (body: Buffer) => client.request(TOPIC, body, { timeout: 10_000 }),
      close: () => client.close(),
    };
  }
  const broker = moleculer(address, 'caller');
  await broker.start();
  await broker.waitForServices('bench', 20_000);
  return {
    // Its packets are JSON, which has no bytes.
    ask: (body: Buffer) => broker.call('bench.echo', { body: body.toString('latin1') }),
    close: () => broker.stop(),
  };
}

async function respond(kind: EchoKind, address: string): Promise<void> {
  if (kind === 'ours') {
    const broker = await openBroker(address);
    await broker.respond(TOPIC, (request) => request, { concurrency: 1000 });
  } else if (kind === 'nats') {
    const client = await connectNats({ servers: address });
    client.subscribe(TOPIC, { callback: (_, message) => void message.respond(message.data) });
    await client.flush();
  } else {
    const broker = moleculer(address, 'responder');
    broker.createService({
      name: 'bench',
      actions: { echo: ({ params }: { params: unknown }) => params },
    });
    await broker.start();
  }
  process.send?.('ready');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await respond(process.argv[2] as EchoKind, process.argv[3] as string);
}
