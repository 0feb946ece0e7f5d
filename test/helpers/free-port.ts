/**
 * A TCP port of the loopback without a listener.
 *
 * It lies below the ports that kernels give to outgoing connections (32768 on Linux, 49152 elsewhere): a
 * server that is killed and started again finds its port as it left it, whatever connects meanwhile. No
 * process gets one twice. Between the answer and its use another process may take it; servers that can are
 * started on port 0 instead.
 */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Above the ports of servers that a machine may run. */
const LOWEST = 16_000;
const BELOW = 32_768;
const MOST_TRIES = 1000;

const given = new Set<number>();

/** `second`: the server also listens on the port that is this much above. */
export async function freePort(second = 0): Promise<number> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const port = randomInt(LOWEST, BELOW - second);
    const ports = second === 0 ? [port] : [port, port + second];
    if (ports.some((each) => given.has(each))) continue;
    for (const each of ports) given.add(each);
    if (await areFree(ports)) return port;
  }
  throw new Error(`no free port was found in ${MOST_TRIES} tries`);
}

async function areFree(ports: readonly number[]): Promise<boolean> {
  for (const port of ports) if (!(await isFree(port))) return false;
  return true;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
