/**
 * A TCP port of the loopback without a listener.
 *
 * The kernel chooses it; between the answer and its use another process may take it, so servers that
 * can are started on port 0 instead, and the others are tried again.
 */
import { type AddressInfo, createServer } from 'node:net';

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
