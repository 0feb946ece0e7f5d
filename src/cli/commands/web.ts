/** `micro web`: the console of any broker and registry at go-micro's address, until SIGINT or SIGTERM. */
import { Command, Option } from 'commander';
import type { Broker } from '../../broker/broker.ts';
import type { ServeConsoleOptions } from '../../console/serve.ts';
import { listenAddress } from '../../gateway/options.ts';
import {
  brokerAddress,
  isFoundByRegistry,
  onBroker,
  type RegistryFlags,
  registryAddress,
  withRegistry,
} from '../connect.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { aborted, interrupted } from '../interrupt.ts';
import { commandLog } from '../log.ts';

interface Flags extends RegistryFlags {
  readonly address: string;
  readonly namespace?: string;
  readonly apps?: 'subdomain' | 'path';
  readonly consoleHost?: string;
  readonly mask?: string;
  readonly proto?: string;
  readonly protoTypes?: string;
  readonly traceUrl?: string;
  readonly rabbitmqApi?: string;
  readonly natsMonitor?: string;
  readonly resolver?: string;
  readonly authLoginUrl?: string;
}

export function webCommand(): Command {
  const command = new Command('web').description('run the console for any broker');
  command.addOption(
    new Option('--address <host:port>', 'where to listen')
      .env('MICRO_WEB_ADDRESS')
      .default('127.0.0.1:8082'),
  );
  command.addOption(
    new Option(
      '--apps <how>',
      'pass requests on to web apps, the services go.micro.web.NAME: of NAME.localhost, or of /NAME/',
    )
      .choices(['subdomain', 'path'])
      .env('MICRO_WEB_APPS'),
  );
  command.addOption(
    new Option('--namespace <name>', 'the beginning of their names (default go.micro.web)').env(
      'MICRO_WEB_NAMESPACE',
    ),
  );
  command
    .option('--console-host <names>', 'further host names by which the console is opened')
    .option('--mask <paths>', 'what only admins see: json.card,header.authorization')
    .option('--proto <directory>', '.proto files of the bodies of messages')
    .option('--proto-types <list>', 'which topic has which type: orders=shop.Order')
    .option('--trace-url <url>', 'where traces are, with {traceId} in it');
  command.addOption(
    new Option('--rabbitmq-api <url>', "RabbitMQ's management API: rates, bytes, nodes").env(
      'MICRO_WEB_RABBITMQ_API',
    ),
  );
  command.addOption(
    new Option('--nats-monitor <url>', "NATS's monitoring page: its facts and clients").env(
      'MICRO_WEB_NATS_MONITOR',
    ),
  );
  command.addOption(new Option('--resolver <name>').env('MICRO_WEB_RESOLVER').hideHelp());
  command.addOption(new Option('--auth-login-url <url>').hideHelp());
  withRegistry(command).action(web);
  return withExamples(command, [
    {
      line: 'micro web --address :8082 --broker "$MICRO_BROKER"',
      says: 'the console of a broker and its registry',
      untilStopped: true,
    },
    {
      line: 'micro web --apps subdomain --broker "$MICRO_BROKER"',
      says: 'beside it shop.localhost:8082 is the service go.micro.web.shop',
      untilStopped: true,
    },
  ]);
}

async function web(flags: Flags): Promise<void> {
  const options = webOptions(flags);
  const interrupt = interrupted();
  const { serveConsole } = await import('../../console/serve.ts');
  const log = commandLog();
  const serve = async (broker: string | Broker) => {
    const all = { ...options, broker, report: (text: string) => log.warn(text) };
    const running = await serveConsole(all);
    process.stdout.write(`micro web ready on ${running.url}/console/ (pid ${process.pid})\n`);
    await aborted(interrupt);
    await running.close();
  };
  const address = brokerAddress(flags);
  if (isFoundByRegistry(address)) await onBroker(flags, serve);
  else await serve(address);
}

function webOptions(flags: Flags): Omit<ServeConsoleOptions, 'broker'> {
  if (flags.resolver !== undefined) {
    throw usage('--resolver is not here: --apps subdomain or --apps path names web apps');
  }
  if (flags.authLoginUrl !== undefined) {
    throw usage('--auth-login-url is not here: the console has the login of the broker’s users');
  }
  if ((flags.proto === undefined) !== (flags.protoTypes === undefined)) {
    throw usage('--proto and --proto-types need each other');
  }
  const texts = (value: string) =>
    value
      .split(',')
      .map((each) => each.trim())
      .filter((each) => each !== '');
  const { namespace, apps, consoleHost, mask, proto, protoTypes = '', traceUrl } = flags;
  const { rabbitmqApi, natsMonitor } = flags;
  return {
    ...listenAddress(flags.address),
    registry: registryAddress(flags),
    ...(namespace === undefined ? {} : { namespace }),
    ...(apps === undefined ? {} : { apps }),
    ...(consoleHost === undefined ? {} : { consoleHost: texts(consoleHost) }),
    ...(mask === undefined ? {} : { mask: texts(mask) }),
    ...(proto === undefined ? {} : { proto: { folder: proto, topics: texts(protoTypes) } }),
    ...(traceUrl === undefined ? {} : { traceUrl }),
    ...(rabbitmqApi === undefined ? {} : { rabbitMqApi: rabbitmqApi }),
    ...(natsMonitor === undefined ? {} : { natsMonitor }),
  };
}
