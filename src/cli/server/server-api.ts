/**
 * `micro server --api [HOST:PORT] [--api-config FILE]`: server and gateway in one process.
 *
 * The gateway reaches the server over its port, as one in a separate process would, and services
 * through the broker's registry. Invariants: these flags never reach the server's configuration; a start
 * without them loads nothing of the gateway.
 */
import type { Gateway } from '../../gateway/gateway.ts';
import type { GatewayOptions } from '../../gateway/options.ts';
import type { Config } from '../../server/config/config.ts';
import type { RivuletServer } from '../../server/rivulet-server.ts';

export interface ApiFlags {
  readonly address: string | null;
  readonly configFile: string | null;
}

/** Takes the flags of the gateway out of the server's. Throws where a flag lacks its value. */
export function splitApiFlags(args: readonly string[]): { api: ApiFlags | null; rest: string[] } {
  const rest: string[] = [];
  let isAsked = false;
  let address: string | null = null;
  let configFile: string | null = null;
  for (let at = 0; at < args.length; at++) {
    const [, name, given] = /^--(api|api-config)(?:=(.*))?$/.exec(args[at] as string) ?? [];
    if (name === undefined) {
      rest.push(args[at] as string);
      continue;
    }
    isAsked = true;
    const next = args[at + 1];
    const value = given ?? (next !== undefined && !next.startsWith('--') ? next : undefined);
    if (given === undefined && value !== undefined) at++;
    if (name === 'api') address = value ?? null;
    else if (value === undefined) throw new Error("'--api-config' needs a file");
    else configFile = value;
  }
  return { api: isAsked ? { address, configFile } : null, rest };
}

export async function startApi(
  { address, configFile }: ApiFlags,
  server: RivuletServer,
  config: Config,
): Promise<Gateway> {
  const { readConfig } = await import('../commands/api.ts');
  const { startGateway } = await import('../../gateway/gateway.ts');
  const options: GatewayOptions = configFile === null ? {} : readConfig(configFile);
  return startGateway({
    broker: gatewayAddress(server, config),
    registry: 'broker',
    ...options,
    ...(address === null ? {} : { address }),
  });
}

/**
 * How the gateway reaches its own server: with the rights of the user `default`, as a gateway in another
 * process would. If only the ACL knows that user's password, or the user is off, it has all rights.
 */
function gatewayAddress(server: RivuletServer, config: Config): string {
  const { acl } = server.state;
  if (acl.open) return ownAddress(server, null);
  const password = config.get('requirepass');
  const isRight = password !== '' && acl.authenticate('default', Buffer.from(password)) !== null;
  return ownAddress(server, isRight ? { name: 'default', password } : acl.ownLogin());
}

/** How this process reaches its own server, as a user of it; null = without a login. */
export function ownAddress(
  server: RivuletServer,
  login: { readonly name: string; readonly password: string } | null,
): string {
  const tcp = server.addresses.map(({ text }) => /^(?:\w+:\/\/)?(.+):(\d+)$/.exec(text));
  const found = tcp.find((each) => each !== null);
  if (!found) throw new Error("'--api' needs a TCP port: set 'port'");
  const host = /^(0\.0\.0\.0|\[?::\]?|\*)$/.test(found[1] as string) ? '127.0.0.1' : found[1];
  const credentials = login === null ? '' : `${login.name}:${encodeURIComponent(login.password)}@`;
  return `rivulet://${credentials}${host}:${found[2]}`;
}
