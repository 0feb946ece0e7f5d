/** `micro proxy`: calls of any protocol to services by their names, until SIGINT or SIGTERM. */
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { PROXY_LIMITS } from '../../gateway/limits.ts';
import type { ProxyOptions } from '../../proxy/options.ts';
import { namedBroker, namedRegistry, type RegistryFlags, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { aborted, interrupted } from '../interrupt.ts';
import { addLimits, limitsFrom } from '../limit-flags.ts';
import { commandLog } from '../log.ts';

interface Flags extends RegistryFlags {
  readonly address?: string;
  readonly protocol?: string;
  readonly endpoint?: string;
  readonly allow?: string;
  readonly config?: string;
  readonly router?: string;
  readonly routerAddress?: string;
}

export function proxyCommand(): Command {
  const command = new Command('proxy').description('pass calls of any protocol on to services');
  const option = (flags: string, text: string, variable?: string) => {
    const made = new Option(flags, text);
    command.addOption(variable === undefined ? made : made.env(variable));
  };
  option(
    '--address <host:port>',
    'where to listen (default 127.0.0.1:8081)',
    'MICRO_PROXY_ADDRESS',
  );
  option('--protocol <name>', 'auto (default: all), grpc, mucp, http', 'MICRO_PROXY_PROTOCOL');
  option(
    '--endpoint <place>',
    'where every call goes: host:port, another proxy, or one service',
    'MICRO_PROXY_ENDPOINT',
  );
  option('--allow <list>', "services that may be called: 'go.micro.srv.*,go.micro.api.users'");
  option('--config <file>', 'JSON with further options: auth');
  addLimits(command, PROXY_LIMITS);
  command.addOption(new Option('--router <name>').hideHelp());
  command.addOption(new Option('--router-address <address>').hideHelp());
  withRegistry(command).action(proxy);
  return withExamples(command, [
    {
      line: 'micro proxy --address :8081 --registry broker --broker "$MICRO_BROKER"',
      says: 'then any client: curl -H "Micro-Service: ..." -H "Micro-Endpoint: ..." 127.0.0.1:8081',
      untilStopped: true,
    },
  ]);
}

async function proxy(flags: Flags): Promise<void> {
  if (flags.router !== undefined || flags.routerAddress !== undefined) {
    throw usage('--router is not here: --endpoint names another proxy, the registry all else');
  }
  const interrupt = interrupted();
  const { startProxy } = await import('../../proxy/proxy.ts');
  const { log: _, ...given } = flags.config === undefined ? {} : readConfig(flags.config);
  const { address, protocol, endpoint, allow } = flags;
  const broker = namedBroker(flags);
  const registry = namedRegistry(flags);
  const running = await startProxy({
    ...given,
    ...(address === undefined ? {} : { address }),
    ...(protocol === undefined ? {} : { protocol: protocol as 'auto' }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(allow === undefined ? {} : { allow: allow.split(',').map((each) => each.trim()) }),
    ...(broker === undefined ? {} : { broker }),
    ...(registry === undefined ? {} : { registry }),
    ...limitsFrom(flags, PROXY_LIMITS),
    log: commandLog(),
  });
  process.stdout.write(`micro proxy ready on ${running.address} (pid ${process.pid})\n`);
  await aborted(interrupt);
  await running.stop();
}

function readConfig(file: string): ProxyOptions {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
    throw new Error('it must be a JSON object');
  } catch (error) {
    throw usage(`--config ${file}: ${(error as Error).message}`);
  }
}
