/**
 * A real `micro server` for the suite: killed and restarted on the same port and data, and spoken to
 * through a proxy that misbehaves.
 */

import { openBroker } from '../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../src/broker/options/options.ts';
import { connect } from '../../src/client/client.ts';
import type { Reply } from '../../src/client/reply.ts';
import { FaultyProxy, type Fixture } from '../../src/conformance/index.ts';
import { freePort } from '../helpers/free-port.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

/** `scheme` decides which broker speaks to it: ours, or the redis adapter. */
export async function remoteFixture(scheme: 'rivulet' | 'redis' = 'rivulet'): Promise<Fixture> {
  const directory = temporaryDirectory('remote');
  const port = await freePort();
  const start = () => startRivulet({ args: ['--port', `${port}`], directory: directory.path });
  let server: RivuletServer | null = await start();
  const url = `${scheme}://127.0.0.1:${port}`;
  const ask = async (...command: [string, ...string[]]): Promise<Reply> => {
    await using client = await connect({ port });
    return client.call(...command);
  };
  return {
    url,
    open: (options) => openBroker(url, options),
    async behindProxy() {
      const proxy = await FaultyProxy.start(port);
      const open = (options?: Partial<BrokerOptions>) =>
        openBroker(`${scheme}://127.0.0.1:${proxy.port}`, options);
      return { proxy, open };
    },
    async kill() {
      await server?.stop('SIGKILL');
      server = null;
    },
    async start() {
      server = await start();
    },
    async flush() {
      await ask('FLUSHALL');
    },
    async occupy(topic) {
      await ask('SET', topic, 'no topic');
      return async () => {
        await ask('DEL', topic);
      };
    },
    async connections() {
      const list = String(await ask('CLIENT', 'LIST'));
      // The asking connection is one of them.
      return list.split('\n').filter((line) => line !== '').length - 1;
    },
    async [Symbol.asyncDispose]() {
      await server?.stop('SIGKILL');
      await directory[Symbol.asyncDispose]();
    },
  };
}
