/**
 * The real binaries `micro api` and `micro proxy` over HTTP, beside plain fastify that answers itself,
 * moleculer-web, and for events fastify with ioredis by hand. Services and servers behind a gateway are
 * separate processes, on both sides.
 */
import { join } from 'node:path';
import { startChild } from '../../test/helpers/children.ts';
import { freePort } from '../../test/helpers/free-port.ts';
import { repositoryRoot } from '../../test/house/source-file.ts';
import { type Benchmark, type Row, rowOf, type Scale } from '../row.ts';
import { startSide } from '../side.ts';
import { type HttpLoad, httpLoad } from './http-load.ts';
import { type HttpSide, startHttpSide } from './http-side.ts';

const MICRO = join(repositoryRoot, 'bin', 'micro.js');
const BODY = JSON.stringify({ body: 'x'.repeat(117) });
const CONNECTIONS = 50;
const RUN_MS = 5000;

type Asked = Omit<HttpLoad, 'connections' | 'ms'>;

export const gateway: Benchmark = {
  name: 'gateway',
  about: 'HTTP through micro api and micro proxy; requests a second, and p99',
  async run(scale, emit) {
    await using server = await startSide('rivulet', 'always');
    await using redis = await startSide('redis', 'always');
    const broker = `rivulet://127.0.0.1:${server.port}`;
    using _service = await startHttpSide('service', broker);
    using _shop = await startHttpSide('behind', broker);
    using plain = await startHttpSide('plain');
    using hand = await startHttpSide('ioredis', String(redis.port));
    const ports = `${await freePort()},${await freePort()}`;
    using _actions = await startHttpSide('moleculer', ports);
    using moleculer = await startHttpSide('moleculer-web', ports);
    using calls = await startMicro('api', '--broker', broker);
    using events = await startMicro(
      'api',
      '--broker',
      broker,
      '--handler',
      'event',
      '--type',
      'evt',
    );
    using passed = await startMicro('api', '--broker', broker, '--handler', 'http');
    using proxy = await startMicro('proxy', '--broker', broker);
    const call = { path: '/echo/srv/echo', body: BODY, answer: BODY };
    const event = { path: '/user/login', body: BODY, answer: '' };
    const named = { 'Micro-Service': 'go.micro.api.echo', 'Micro-Endpoint': 'Srv.Echo' };
    const compare = async (
      name: string,
      ours: Asked,
      other: Asked,
      budget: number | null,
      durability = 'none',
    ) => {
      if (scale.wants(name))
        for (const row of await inTurn(scale, name, ours, other)) {
          emit({ ...row, durability, budget: row.unit === 'ms' ? null : budget });
        }
    };
    const rpc = { ...call, port: calls.port };
    await compare('rpc : moleculer-web', rpc, { ...call, port: moleculer.port }, 1.5);
    await compare('rpc : fastify', rpc, { ...call, port: plain.port }, 0.6);
    await compare(
      'event : fastify with ioredis',
      { ...event, port: events.port },
      { ...event, port: hand.port },
      1,
      'always',
    );
    await compare(
      'http handler : fastify',
      { path: '/shop', body: BODY, answer: BODY, port: passed.port },
      { ...call, port: plain.port },
      null,
    );
    await compare(
      'proxy, mucp : fastify',
      { path: '/', headers: named, body: BODY, answer: BODY, port: proxy.port },
      { ...call, port: plain.port },
      null,
    );
  },
};

/** The real binary; its port is in its ready line. */
async function startMicro(...args: readonly string[]): Promise<HttpSide> {
  const child = startChild(process.execPath, [MICRO, ...args, '--address', '127.0.0.1:0']);
  const port = await new Promise<number>((resolve, reject) => {
    let said = '';
    const read = (text: Buffer) => {
      said += text;
      const [, found] = /ready on \S*:(\d+)/.exec(said) ?? [];
      if (found !== undefined) resolve(Number(found));
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('exit', (code) => reject(new Error(`micro ${args[0]} ended with ${code}: ${said}`)));
  });
  return { port, [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

/** Both sides in turn; the first pair warms up. Two rows: the rate, and the time of the slowest hundredth. */
async function inTurn(scale: Scale, name: string, ours: Asked, other: Asked): Promise<Row[]> {
  const rates = { rivulet: [] as number[], redis: [] as number[] };
  const slowest = { rivulet: [] as number[], redis: [] as number[] };
  const options = scale.smoke
    ? { connections: 2, ms: 50 }
    : { connections: CONNECTIONS, ms: RUN_MS };
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    for (const [side, asked] of [
      ['rivulet', ours],
      ['redis', other],
    ] as const) {
      const { perSecond, p99 } = await httpLoad({ ...asked, ...options });
      if (run === 0) continue;
      rates[side].push(perSecond);
      slowest[side].push(p99);
    }
  }
  const facts = {
    benchmark: 'gateway',
    budget: null,
    durability: 'none',
    payload: `${BODY.length}-byte body, ${options.connections} connections`,
  };
  return [
    rowOf({ ...facts, name, unit: 'requests/s', better: 'higher' }, rates),
    rowOf({ ...facts, name: `${name}, p99`, unit: 'ms', better: 'lower' }, slowest),
  ];
}
