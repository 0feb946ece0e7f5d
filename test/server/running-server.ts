/**
 * A whole server inside the test's own process: fast to start, easy to look into.
 */
import { Config } from '../../src/server/config/config.ts';
import type { Logger, LogLevel } from '../../src/server/observability/logger.ts';
import { RivuletServer } from '../../src/server/rivulet-server.ts';
import { RespSession } from '../helpers/resp-session.ts';

export interface RunningServer extends AsyncDisposable {
  readonly server: RivuletServer;
  readonly config: Config;
  readonly port: number;
  /** What it has logged. */
  readonly lines: { level: LogLevel; message: string }[];
  connect(protocol?: 2 | 3): Promise<RespSession>;
}

/** Parameters as in a file; memory only, no HTTP, a free port, unless told otherwise. */
export async function runServer(
  parameters: Readonly<Record<string, string>> = {},
  users: readonly string[][] = [],
): Promise<RunningServer> {
  const config = new Config();
  const given = { port: '0', 'http-port': '0', appendonly: 'no', ...parameters };
  for (const [name, value] of Object.entries(given)) config.assign(name, [value]);
  config.users.push(...users.map((words) => [...words]));
  const lines: RunningServer['lines'] = [];
  const log: Logger = { write: (level, message) => void lines.push({ level, message }) };
  const server = await RivuletServer.start({ config, log });
  const port = server.addresses[0]?.port ?? 0;
  return {
    server,
    config,
    port,
    lines,
    connect: (protocol = 2) => RespSession.open(port, { protocol }),
    async [Symbol.asyncDispose]() {
      await server.stop(false);
    },
  };
}
