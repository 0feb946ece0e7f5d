/**
 * Calls of services between two processes: directly, over our server, chosen by `auto`, over grpc and
 * within one process, beside Moleculer 0.15, nats.js and grpc-js.
 *
 * Rates are closed loops of 1 and 100 in flight; `open loop` is the median time of a call while 1000
 * begin each second, because rates of one at a time swing with whether the cores sleep.
 */
import { freePort } from '../../test/helpers/free-port.ts';
import { NatsNode } from '../../test/helpers/nats-server.ts';
import { temporaryDirectory } from '../../test/helpers/temporary-directory.ts';
import { type Caller, startEcho } from '../brokers/echo.ts';
import { type Benchmark, median, type Row, type RowFacts, rowOf, type Scale } from '../row.ts';
import { residentBytes, startSide } from '../side.ts';
import { startGrpc, startLocal, startService } from './rpc-echo.ts';

const SMALL = Buffer.alloc(128, 'x');
const LARGE = Buffer.alloc(16 * 1024, 'x');
const RUN_MS = 1500;
const OPEN_LOOP_MS = 2000;
const STREAMED = 20_000;

export const rpc: Benchmark = {
  name: 'rpc',
  about: 'calls of services (first) beside Moleculer, nats.js and grpc-js (second)',
  async run(scale, emit) {
    await using server = await startSide('rivulet', 'always');
    const url = `rivulet://127.0.0.1:${server.port}`;
    await using directory = temporaryDirectory('nats');
    const ports = { client: await freePort(), route: await freePort(), monitor: await freePort() };
    const nats = new NatsNode('bench', directory.path, ports, []);
    await nats.start();
    try {
      await using tcp = await startService('tcp');
      await using auto = await startService('auto', url);
      await using broker = await startService('broker', url);
      await using grpc = await startService('grpc');
      await using local = await startLocal();
      await using bareGrpc = await startGrpc();
      await using bareBroker = await startEcho('ours', url);
      await using natsJs = await startEcho('nats', nats.url);
      await using moleculerNats = await startEcho('moleculer', nats.url);
      await using moleculer = await startEcho(
        'moleculer',
        `${await freePort()},${await freePort()}`,
      );
      const rate = async (
        name: string,
        ours: Caller,
        other: Caller | null,
        inFlight: number,
        budget: number | null,
        body = SMALL,
      ): Promise<void> => {
        const measured = await inTurn(scale, ours, other, (caller) =>
          rateOf(scale, caller, inFlight, body),
        );
        emit(row(`${inFlight} in flight, ${name}`, 'calls/s', 'higher', budget, body, measured));
      };
      await rate('tcp : moleculer, TCP', tcp, moleculer, 1, 1.5);
      await rate('tcp : moleculer, TCP', tcp, moleculer, 100, 2);
      await rate('tcp : moleculer, TCP, 16 KiB', tcp, moleculer, 100, 2, LARGE);
      await rate('auto : moleculer, TCP', auto, moleculer, 1, 1.5);
      await rate('auto : moleculer, TCP', auto, moleculer, 100, 2);
      await rate('rivulet : moleculer, TCP', broker, moleculer, 1, 0.7);
      await rate('rivulet : moleculer, TCP', broker, moleculer, 100, 1);
      await rate('rivulet : moleculer, NATS', broker, moleculerNats, 100, 1.2);
      await rate('rivulet : nats.js', broker, natsJs, 100, 1.2);
      await rate('rivulet : broker.request', broker, bareBroker, 100, 0.85);
      await rate('grpc : grpc-js', grpc, bareGrpc, 100, 0.9);
      await rate('local', local, null, 100, null);
      const streams = await inTurn(scale, tcp, bareGrpc, (caller) => streamRate(scale, caller));
      emit(row('server stream of 1 KiB, tcp : grpc-js', 'messages/s', 'higher', 3, LARGE, streams));
      const late = await inTurn(scale, auto, moleculer, (caller) => openLoop(scale, caller));
      emit(row('open loop p50, auto : moleculer, TCP', 'ms', 'lower', 0.8, SMALL, late));
      const idle = { rivulet: [residentBytes(tcp.pid)], redis: [] };
      emit(row('resident memory of a service, no peer', 'bytes', 'lower', null, SMALL, idle));
    } finally {
      await nats.kill();
    }
  },
};

type Measured = { rivulet: number[]; redis: number[] };

function row(
  name: string,
  unit: string,
  better: RowFacts['better'],
  budget: number | null,
  body: Buffer,
  measured: Measured,
): Row {
  const payload = `${body.length}-byte body`;
  const facts = { benchmark: 'rpc', name, unit, better, budget, durability: 'none', payload };
  return rowOf(facts, measured);
}

/** Both sides in turn; the first pair warms up. */
async function inTurn<C extends Caller>(
  scale: Scale,
  ours: C,
  other: C | null,
  measure: (caller: C) => Promise<number>,
): Promise<Measured> {
  const measured: Measured = { rivulet: [], redis: [] };
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    const first = await measure(ours);
    const second = other === null ? null : await measure(other);
    if (run === 0) continue;
    measured.rivulet.push(first);
    if (second !== null) measured.redis.push(second);
  }
  return measured;
}

async function rateOf(
  scale: Scale,
  caller: Caller,
  inFlight: number,
  body: Buffer,
): Promise<number> {
  const ms = scale.smoke ? 50 : RUN_MS;
  const began = performance.now();
  let replies = 0;
  const one = async () => {
    while (performance.now() - began < ms) {
      await caller.ask(body);
      replies++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return (replies / (performance.now() - began)) * 1000;
}

async function streamRate(
  scale: Scale,
  caller: { readMany(count: number): Promise<void> },
): Promise<number> {
  const count = scale.smoke ? 200 : STREAMED;
  const began = performance.now();
  await caller.readMany(count);
  return (count / (performance.now() - began)) * 1000;
}

/** The median time of a call while one begins each millisecond, whatever came of those before. */
async function openLoop(scale: Scale, caller: Caller): Promise<number> {
  const ms = scale.smoke ? 50 : OPEN_LOOP_MS;
  const times: number[] = [];
  const calls: Promise<void>[] = [];
  const began = performance.now();
  for (let sent = 0; ; ) {
    const now = performance.now() - began;
    if (now >= ms) break;
    for (; sent <= now; sent++) {
      const at = performance.now();
      calls.push(
        Promise.resolve(caller.ask(SMALL)).then(() => {
          times.push(performance.now() - at);
        }),
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(calls);
  return median(times);
}
