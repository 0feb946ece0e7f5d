/**
 * The two sides of a comparison: Rivulet's real binary and a real redis-server, both on loopback,
 * both with the same durability, each with an empty directory on the same disk.
 */
import { readFileSync } from 'node:fs';
import { type Client, connect } from '../src/client/client.ts';
import { startRedis } from '../test/helpers/redis-server.ts';
import { startRivulet } from '../test/helpers/rivulet-server.ts';

/** `memory`: nothing on disk. `always`: a reply means that it is on disk. */
export type Durability = 'memory' | 'always';
export type SideName = 'rivulet' | 'redis';

export interface Side extends AsyncDisposable {
  readonly name: SideName;
  readonly port: number;
  readonly pid: number;
  readonly client: Client;
}

const ARGS: Record<Durability, readonly string[]> = {
  memory: ['--appendonly', 'no'],
  always: ['--appendonly', 'yes', '--appendfsync', 'always'],
};

export async function startSide(name: SideName, durability: Durability): Promise<Side> {
  const args = ARGS[durability];
  const server =
    name === 'rivulet'
      ? await startRivulet({ args, longTurns: 'what is measured is not watched' })
      : await startRedis({ args });
  const client = await connect({ port: server.port, timeoutMs: 600_000 });
  return {
    name,
    port: server.port,
    pid: server.pid,
    client,
    async [Symbol.asyncDispose]() {
      client.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Bytes of memory that the process holds now, as the kernel counts them. */
export function residentBytes(pid: number): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) * 1024;
}

/** As `residentBytes`, once it has stopped moving (within 1 %, looked at five times a second, 10 s at most). */
export async function settledResidentBytes(pid: number): Promise<number> {
  let last = residentBytes(pid);
  for (let i = 0, quiet = 0; i < 50 && quiet < 5; i++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const now = residentBytes(pid);
    quiet = Math.abs(now - last) < last * 0.01 ? quiet + 1 : 0;
    last = now;
  }
  return last;
}
