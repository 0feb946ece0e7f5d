/**
 * One side of calls of services, ours or grpc-js's: the caller, and, when run as a program, the service,
 * in a separate process.
 *
 *     node rpc-echo.js service <transport> [broker URL]
 *     node rpc-echo.js grpc
 *
 * The answering process sends its address over IPC: a service its registry record, grpc its port.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Client as GrpcClient,
  Server as GrpcServer,
  ServerCredentials,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import { contract, createService, MemoryRegistry, serverStream, unary } from '../../src/index.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import type { Caller } from '../brokers/echo.ts';

const NAME = 'bench.echo';
const CHUNK = 'x'.repeat(1000);

export const Echo = contract(NAME, {
  Srv: {
    Echo: unary<{ body: string }, { body: string }>(),
    /** So many messages of 1 KiB. */
    Many: serverStream<{ count: number }, { body: string }>(),
  },
});

export interface RpcCaller extends Caller {
  /** Reads a stream of `count` messages of 1 KiB. */
  readMany(count: number): Promise<void>;
  /** Resident memory of the answering process. */
  readonly pid: number;
}

interface Handlers {
  readonly Srv: {
    Echo(request: { body: string }): { body: string };
    Many(request: { count: number }): AsyncGenerator<{ body: string }>;
  };
}

const handlers: Handlers = {
  Srv: {
    Echo: (request) => request,
    async *Many({ count }) {
      for (let n = 0; n < count; n++) yield { body: CHUNK };
    },
  },
};

/** Within this process: no bytes, values copied or shared. */
export async function startLocal(): Promise<RpcCaller> {
  const registry = new MemoryRegistry();
  const server = createService({ name: NAME, registry, transport: 'local' });
  server.handle(Echo, handlers);
  await server.start();
  return callerOf(registry, 'local', undefined, process.pid, () => server.stop());
}

/** Starts a service in another process and a client here. */
export async function startService(transport: string, broker?: string): Promise<RpcCaller> {
  const { told, pid, stop } = await startOther<ServiceRecord>(
    'service',
    transport,
    ...(broker === undefined ? [] : [broker]),
  );
  const registry = new MemoryRegistry();
  await registry.register(told, { ttlMs: 3_600_000 });
  return callerOf(registry, transport, broker, pid, stop);
}

async function callerOf(
  registry: MemoryRegistry,
  transport: string,
  broker: string | undefined,
  pid: number,
  stop: () => unknown,
): Promise<RpcCaller> {
  const client = createService({
    name: 'bench.caller',
    registry,
    transport,
    ...(broker === undefined ? {} : { broker }),
  });
  await client.start();
  const { Srv } = client.client(Echo);
  return {
    pid,
    ask: (body) => Srv.Echo({ body: body.toString('latin1') }),
    async readMany(count) {
      let read = 0;
      for await (const _ of Srv.Many({ count }, { timeoutMs: 60_000 })) read++;
      if (read !== count) throw new Error(`${read} of ${count} messages came`);
    },
    async [Symbol.asyncDispose]() {
      await client.stop();
      await stop();
    },
  };
}

const bytes = (value: Buffer) => value;
const GRPC = {
  Echo: {
    path: '/bench.echo.Srv/Echo',
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
  Many: {
    path: '/bench.echo.Srv/Many',
    requestStream: false,
    responseStream: true,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
} satisfies ServiceDefinition;

/** A bare pair of grpc-js, with the same JSON that a service of ours sends. */
export async function startGrpc(): Promise<RpcCaller> {
  const { told: port, pid, stop } = await startOther<number>('grpc');
  const client = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure());
  return {
    pid,
    ask: (body) =>
      new Promise((resolve, reject) => {
        const request = Buffer.from(JSON.stringify({ body: body.toString('latin1') }));
        const call: ClientUnaryCall = client.makeUnaryRequest(
          GRPC.Echo.path,
          bytes,
          bytes,
          request,
          (error, reply) => {
            if (error !== null || reply === undefined) reject(error);
            else resolve(JSON.parse(reply.toString()));
          },
        );
        void call;
      }),
    readMany: (count) =>
      new Promise((resolve, reject) => {
        const request = Buffer.from(JSON.stringify({ count }));
        const stream: ClientReadableStream<Buffer> = client.makeServerStreamRequest(
          GRPC.Many.path,
          bytes,
          bytes,
          request,
        );
        let read = 0;
        stream.on('data', (chunk: Buffer) => {
          JSON.parse(chunk.toString());
          read++;
        });
        stream.on('error', reject);
        stream.on('end', () =>
          read === count ? resolve() : reject(new Error(`${read} of ${count} messages came`)),
        );
      }),
    async [Symbol.asyncDispose]() {
      client.close();
      stop();
    },
  };
}

async function startOther<Told>(...args: readonly string[]) {
  const child = fork(fileURLToPath(import.meta.url), args);
  const told = await new Promise<Told>((resolve, reject) => {
    child.once('message', (message) => resolve(message as Told));
    child.once('exit', (code) => reject(new Error(`the answering process ended with ${code}`)));
  });
  return { told, pid: child.pid as number, stop: () => void child.kill('SIGKILL') };
}

async function answer(kind: string, transport: string, broker: string | undefined): Promise<void> {
  if (kind === 'grpc') {
    const server = new GrpcServer();
    server.addService(GRPC, {
      Echo: (call: { request: Buffer }, done: (error: null, reply: Buffer) => void) =>
        done(null, Buffer.from(JSON.stringify(JSON.parse(call.request.toString())))),
      async Many(
        call: { request: Buffer; write(chunk: Buffer): boolean; end(): void } & NodeJS.EventEmitter,
      ) {
        const { count } = JSON.parse(call.request.toString());
        for (let n = 0; n < count; n++) {
          if (call.write(Buffer.from(JSON.stringify({ body: CHUNK })))) continue;
          await new Promise<void>((resolve) => call.once('drain', resolve));
        }
        call.end();
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    process.send?.(port);
    return;
  }
  const registry = new MemoryRegistry();
  const service = createService({
    name: NAME,
    registry,
    transport,
    ...(broker === undefined ? {} : { broker }),
  });
  service.handle(Echo, handlers);
  await service.start();
  const [record] = await registry.getService(NAME);
  process.send?.(record as ServiceRecord);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await answer(process.argv[2] ?? '', process.argv[3] ?? '', process.argv[4]);
}
