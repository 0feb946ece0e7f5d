/**
 * What HTTP is measured against, each in a separate process that sends its port over IPC:
 *
 *     node http-side.js plain                        fastify that answers itself
 *     node http-side.js behind                       node:http, the server behind a proxy
 *     node http-side.js service <broker URL>         the service behind our gateway and proxy
 *     node http-side.js moleculer-web <tcp ports>    moleculer-web; its service is another process
 *     node http-side.js moleculer <tcp ports>        that service
 *     node http-side.js ioredis <redis port>         fastify that publishes with ioredis by hand
 */
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Fastify from 'fastify';
import { contract, createService, unary } from '../../src/index.ts';
import { webService } from '../../src/service/web-service.ts';
import { repositoryRoot } from '../../test/house/source-file.ts';

export type HttpSideName =
  | 'plain'
  | 'behind'
  | 'service'
  | 'moleculer-web'
  | 'moleculer'
  | 'ioredis';

export interface HttpSide extends Disposable {
  readonly port: number;
}

/** Found among the benchmarks' own modules, and only when it is measured. */
const requirePeer = createRequire(join(repositoryRoot, 'bench', 'package.json'));

export async function startHttpSide(name: HttpSideName, argument = ''): Promise<HttpSide> {
  const child = fork(fileURLToPath(import.meta.url), [name, argument]);
  const port = await new Promise<number>((resolve, reject) => {
    child.once('message', (message) => resolve(message as number));
    child.once('exit', (code) => reject(new Error(`${name} ended with ${code}`)));
  });
  return {
    port,
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

const SIDES: Readonly<Record<HttpSideName, (argument: string) => Promise<number>>> = {
  plain,
  behind,
  service,
  ioredis,
  'moleculer-web': (ports) => moleculer(ports, 'web'),
  moleculer: (ports) => moleculer(ports, 'service'),
};

async function plain(): Promise<number> {
  const app = Fastify();
  app.post('/echo/srv/echo', async (request) => request.body);
  await app.listen({ host: '127.0.0.1', port: 0 });
  return (app.server.address() as AddressInfo).port;
}

async function behind(broker: string): Promise<number> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      response.writeHead(200, {
        'content-type': 'application/json',
        'content-length': body.length,
      });
      response.end(body);
    });
  });
  const shop = webService({ name: 'go.micro.api.shop', server, broker });
  await shop.start();
  return (server.address() as AddressInfo).port;
}

const Echo = contract('go.micro.api.echo', {
  Srv: { Echo: unary<{ body: string }, { body: string }>() },
});

async function service(broker: string): Promise<number> {
  const running = createService({ broker, transport: 'tcp' });
  running.handle(Echo, { Srv: { Echo: (request) => request } });
  await running.start();
  return 1;
}

/** Gateway and service find each other by a list of ports, as in the benchmark of requests. */
async function moleculer(ports: string, own: 'web' | 'service'): Promise<number> {
  const { ServiceBroker } = requirePeer('moleculer');
  const [web, other] = ports.split(',').map(Number);
  const broker = new ServiceBroker({
    nodeID: own,
    logger: false,
    transporter: {
      type: 'TCP',
      options: {
        udpDiscovery: false,
        port: own === 'web' ? web : other,
        urls: [`127.0.0.1:${web}/web`, `127.0.0.1:${other}/service`],
      },
    },
  });
  if (own === 'service') {
    broker.createService({
      name: 'echo',
      actions: { echo: ({ params }: { params: unknown }) => params },
    });
    await broker.start();
    return 1;
  }
  const gateway = broker.createService({
    mixins: [requirePeer('moleculer-web')],
    settings: {
      ip: '127.0.0.1',
      port: 0,
      routes: [
        {
          path: '/',
          aliases: { 'POST echo/srv/echo': 'echo.echo' },
          bodyParsers: { json: true },
          mappingPolicy: 'restrict',
        },
      ],
    },
  });
  await broker.start();
  await broker.waitForServices('echo', 20_000);
  return (gateway.server.address() as AddressInfo).port;
}

/** The same event as ours, written to a stream by hand; the answer leaves when Redis has it on disk. */
async function ioredis(redisPort: string): Promise<number> {
  const Redis = requirePeer('ioredis');
  const redis = new Redis({ port: Number(redisPort), host: '127.0.0.1' });
  const app = Fastify();
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  app.post('/user/login', async (request, reply) => {
    const topic = 'go.micro.evt.user';
    const event = {
      id: `${topic}-login-${randomUUID()}`,
      name: 'login',
      timestamp: Math.floor(Date.now() / 1000),
      header: request.headers,
      data: request.body,
    };
    await redis.xadd(topic, '*', 'body', JSON.stringify(event));
    reply.code(200).send('');
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  return (app.server.address() as AddressInfo).port;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , name, argument = ''] = process.argv;
  process.send?.(await SIDES[name as HttpSideName](argument));
}
