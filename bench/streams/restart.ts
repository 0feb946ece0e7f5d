/**
 * From the start of the process until it is ready, after a clean stop, with five million entries (or
 * `--entries`): redis-server loads its rewritten append-only file.
 */
import { connect } from '../../src/client/client.ts';
import { startRedis } from '../../test/helpers/redis-server.ts';
import { type RivuletServerOptions, startRivulet } from '../../test/helpers/rivulet-server.ts';
import { temporaryDirectory } from '../../test/helpers/temporary-directory.ts';
import { fillStream } from '../load.ts';
import { alternate, type Benchmark, ENTRY } from '../row.ts';
import type { SideName } from '../side.ts';

const STARTERS = {
  rivulet: (options: RivuletServerOptions) =>
    startRivulet({ ...options, longTurns: 'what is measured is not watched' }),
  redis: startRedis,
};
const READY_MS = 900_000;

export function restart(entries = 5_000_000): Benchmark {
  return {
    name: 'restart',
    about: 'restart until ready after a clean stop',
    async run(scale, emit) {
      const count = scale.smoke ? 20_000 : entries;
      await using rivuletData = temporaryDirectory('bench');
      await using redisData = temporaryDirectory('bench');
      const directories = { rivulet: rivuletData.path, redis: redisData.path };
      for (const name of ['rivulet', 'redis'] as const) await fill(name, directories[name], count);
      const facts = {
        benchmark: 'restart',
        name: `${count} entries`,
        unit: 'ms',
        better: 'lower' as const,
        budget: 1.0,
        durability: 'always',
        payload: ENTRY,
      };
      emit(await alternate(facts, scale, (name) => restartOnce(name, directories[name], count)));
    },
  };
}

function start(name: SideName, directory: string) {
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  return STARTERS[name]({ directory, args, readyTimeoutMs: READY_MS });
}

async function fill(name: SideName, directory: string, count: number): Promise<void> {
  await using server = await start(name, directory);
  await using client = await connect({ port: server.port, timeoutMs: READY_MS });
  await fillStream(client, 's', count);
  if (name === 'redis') {
    await client.call('BGREWRITEAOF');
    while (
      !String(await client.call('INFO', 'persistence')).includes('aof_rewrite_in_progress:0')
    ) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  await server.stop();
}

async function restartOnce(name: SideName, directory: string, count: number): Promise<number> {
  const startedAt = performance.now();
  await using server = await start(name, directory);
  const elapsed = performance.now() - startedAt;
  const client = await connect({ port: server.port, timeoutMs: READY_MS });
  const length = await client.call('XLEN', 's');
  const [[last]] = (await client.call('XREVRANGE', 's', '+', '-', 'COUNT', 1)) as unknown[][];
  client.destroy();
  await server.stop();
  if (length !== count || String(last) !== `${count}-0`) {
    throw new Error(`${name} came back with ${length} entries up to ${last}`);
  }
  return elapsed;
}
