/**
 * The command line: `micro <command>`.
 *
 * Commands are loaded when they are called, so that `micro server` starts without the others.
 */

import { RIVULET_VERSION } from '../server/version.ts';
import { fail } from './fail.ts';

interface CliCommand {
  readonly name: string;
  readonly usage: string;
  readonly summary: string;
  run(args: string[]): Promise<void>;
}

const COMMANDS: readonly CliCommand[] = [
  {
    name: 'server',
    usage: 'server [file] [--name value ...]',
    summary: 'run the stream server',
    run: async (args) => (await import('./server-command.ts')).serverCommand(args),
  },
  {
    name: 'repair',
    usage: 'repair <dir> [--apply] [--json]',
    summary: 'show, and with --apply salvage, a damaged data directory',
    run: async (args) => (await import('./repair-command.ts')).repairCommand(args),
  },
  {
    name: 'call',
    usage: "call SERVICE ENDPOINT ['JSON']",
    summary: 'call an endpoint of a service and print its reply',
    run: async (args) => (await import('./call-command.ts')).callCommand(args),
  },
  {
    name: 'generate',
    usage: 'generate FILE.proto [--out PATH]',
    summary: 'write the TypeScript of a .proto: types and structs for contracts',
    run: async (args) => (await import('./generate-command.ts')).generateCommand(args),
  },
];

/** Runs one command line (without node and script); sets process.exitCode. */
export async function main(args: readonly string[]): Promise<void> {
  const [name, ...rest] = args;
  if (name === '--version' || name === '-v' || name === 'version') {
    console.log(RIVULET_VERSION);
    return;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(helpText());
    return;
  }
  const command = COMMANDS.find((each) => each.name === name);
  if (command === undefined) {
    const { nearest } = await import('../server/config.ts');
    const near = nearest(
      name,
      COMMANDS.map((each) => each.name),
    );
    const hint = near === null ? 'micro --help lists the commands' : `did you mean '${near}'?`;
    fail(`unknown command '${name}'; ${hint}`);
    return;
  }
  try {
    await command.run(rest);
  } catch (error) {
    fail((error as Error).message);
  }
}

function helpText(): string {
  const width = Math.max(...COMMANDS.map(({ usage }) => usage.length));
  const lines = COMMANDS.map(({ usage, summary }) => `  micro ${usage.padEnd(width)}  ${summary}`);
  return `Rivulet ${RIVULET_VERSION}\n\n${lines.join('\n')}\n  micro --version\n\nmicro <command> --help tells more.`;
}
