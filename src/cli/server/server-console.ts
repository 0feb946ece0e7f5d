/**
 * The console on the server's own HTTP port: the engine as its source, the server's users as its users.
 *
 * Invariant: `console no` loads none of it.
 */
import { Console } from '../../console/console.ts';
import { ProtoTypes } from '../../console/messages/proto-types.ts';
import { Services } from '../../console/services/services.ts';
import { serverHome } from '../../console/sources/engine-home.ts';
import { EngineSource } from '../../console/sources/engine-source.ts';
import { EngineUsers } from '../../console/sources/engine-users.ts';
import type { Config } from '../../server/config/config.ts';
import type { RivuletServer } from '../../server/rivulet-server.ts';
import { RIVULET_VERSION } from '../../server/version.ts';
import { ownAddress } from './server-api.ts';

export async function startConsole(server: RivuletServer, config: Config): Promise<Console> {
  const { http, state } = server;
  if (http === null) throw new Error("the console needs 'http-port'");
  const address = server.addresses[0]?.text ?? '';
  const folder = config.get('console-proto') && config.path('console-proto');
  const types = listed(config.get('console-proto-types'));
  const services = servicesOf(server);
  const console = new Console({
    source: new EngineSource(
      serverHome(state, () => http.unready),
      address,
      {},
    ),
    services,
    users: new EngineUsers(state),
    version: RIVULET_VERSION,
    host: http.host,
    port: http.port,
    consoleHost: listed(config.get('console-host')),
    mask: listed(config.get('console-mask')),
    protos: folder === '' ? null : await ProtoTypes.read(folder, types),
    report: (text) => state.log.write('warning', text),
    traceUrl: config.get('console-trace-url') || null,
  });
  http.mount((request, response) => console.handle(request, response));
  return console;
}

/** Services of the registry in this broker; null without a TCP port, over which they are reached. */
function servicesOf(server: RivuletServer): Services | null {
  if (!server.addresses.some(({ port }) => port > 0)) return null;
  const broker = ownAddress(server, server.state.acl.ownLogin());
  return new Services({ broker, registry: 'broker' }, 'broker');
}

function listed(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean);
}
