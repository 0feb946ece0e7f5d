/**
 * Request and reply between two processes, one at a time and 100 in flight: through our server beside
 * Moleculer (direct TCP, NATS, Redis) and nats.js, and through adapters beside others on the same
 * server.
 */
import { freePort } from '../../test/helpers/free-port.ts';
import { NatsNode } from '../../test/helpers/nats-server.ts';
import { temporaryDirectory } from '../../test/helpers/temporary-directory.ts';
import { type Benchmark, rowOf, type Scale } from '../row.ts';
import { startSide } from '../side.ts';
import { type Caller, startEcho } from './echo.ts';

const BODY = Buffer.alloc(100, 'x');
const RUN_MS = 1500;

export const requests: Benchmark = {
  name: 'requests',
  about: 'request/reply between two processes: through our server (first) beside others (second)',
  async run(scale, emit) {
    await using server = await startSide('rivulet', 'always');
    await using directory = temporaryDirectory('nats');
    const nats = new NatsNode(
      'bench',
      directory.path,
      { client: await freePort(), route: await freePort(), monitor: await freePort() },
      [],
    );
    await nats.start();
    await using redis = await startSide('redis', 'memory');
    const redisUrl = `redis://127.0.0.1:${redis.port}`;
    try {
      await using ours = await startEcho('ours', `rivulet://127.0.0.1:${server.port}`);
      await using oursOnNats = await startEcho('ours', nats.url);
      await using oursOnRedis = await startEcho('ours', redisUrl);
      await using direct = await startEcho('moleculer', `${await freePort()},${await freePort()}`);
      await using moleculerOnNats = await startEcho('moleculer', nats.url);
      await using moleculerOnRedis = await startEcho('moleculer', redisUrl);
      await using natsJs = await startEcho('nats', nats.url);
      for (const inFlight of [1, 100]) {
        for (const [name, broker, other, budget] of [
          ['rivulet : moleculer, TCP', ours, direct, 1],
          ['rivulet : moleculer, NATS', ours, moleculerOnNats, null],
          ['rivulet : moleculer, Redis', ours, moleculerOnRedis, null],
          ['rivulet : nats.js', ours, natsJs, null],
          ['nats adapter : nats.js', oursOnNats, natsJs, null],
          ['nats adapter : moleculer, NATS', oursOnNats, moleculerOnNats, null],
          ['redis adapter : moleculer, Redis', oursOnRedis, moleculerOnRedis, null],
        ] as const) {
          const measured = await inTurn(broker, other, inFlight, scale);
          const facts = {
            benchmark: 'requests',
            name: `${inFlight} in flight, ${name}`,
            unit: 'replies/s',
            better: 'higher' as const,
            budget,
            durability: 'none',
            payload: `${BODY.length}-byte body`,
          };
          emit(rowOf(facts, measured));
        }
      }
    } finally {
      await nats.kill();
    }
  },
};

async function inTurn(ours: Caller, other: Caller, inFlight: number, scale: Scale) {
  const measured = { rivulet: [] as number[], redis: [] as number[] };
  const ms = scale.smoke ? 50 : RUN_MS;
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    for (const [side, caller] of [
      ['rivulet', ours],
      ['redis', other],
    ] as const) {
      const rate = await askFor(ms, caller, inFlight);
      if (run > 0) measured[side].push(rate);
    }
  }
  return measured;
}

async function askFor(ms: number, caller: Caller, inFlight: number): Promise<number> {
  const began = performance.now();
  let replies = 0;
  const one = async () => {
    while (performance.now() - began < ms) {
      await caller.ask(BODY);
      replies++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return (replies / (performance.now() - began)) * 1000;
}
