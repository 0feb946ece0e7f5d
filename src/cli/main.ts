/**
 * The command line: `micro <command>`.
 *
 * Invariants: a command is loaded when it is called; whatever it throws becomes one line on standard
 * error and an exit code of exit-code.ts; a reader that goes away ends it quietly.
 */
import type { Command } from 'commander';
import { RIVULET_VERSION } from '../server/version.ts';
import type { CommandGroup, CommandRow } from './command-row.ts';
import { COMMANDS, GROUP_TITLES } from './command-table.ts';

/** Runs one command line (without node and script); sets process.exitCode. */
export async function main(args: readonly string[]): Promise<void> {
  const [name, ...rest] = args;
  if (name === '--version' || name === '-v' || name === 'version') {
    console.log(RIVULET_VERSION);
    return;
  }
  if (name === undefined || name === '--help' || name === '-h') {
    console.log(helpText());
    return;
  }
  if (name === 'help') return help(rest);
  const row = COMMANDS.find((each) => each.name === name);
  if (row === undefined) return unknown(name);
  await run(row, rest);
}

async function run(row: CommandRow, args: string[]): Promise<void> {
  const { endWithReader } = await import('./printing/output.ts');
  endWithReader(row.withoutReader ?? 'end');
  try {
    if (row.load === undefined) {
      await row.run?.(args);
      if (args.includes('--help') || args.includes('-h')) console.log(examplesText(row));
    } else await runParsed(await row.load(), args);
  } catch (error) {
    const { outcomeOf } = await import('./exit-code.ts');
    const { printable } = await import('../util/printable.ts');
    const { code, text } = outcomeOf(error);
    process.stderr.write(`micro: ${printable(text)}\n`);
    process.exitCode = code;
  }
}

/** Commander prints its own errors of usage and the help; its exit codes become ours. */
async function runParsed(command: Command, args: string[]): Promise<void> {
  const { CommanderError } = await import('commander');
  const { printable } = await import('../util/printable.ts');
  prepare(command, 'micro', printable);
  try {
    await command.parseAsync(args.map(dashed), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 || error.code === 'commander.help' ? 0 : 2;
  }
}

/** go-micro's flags have underscores: `--enable_rpc` is `--enable-rpc`. */
function dashed(arg: string): string {
  return arg.replace(/^--[a-z_]+(?==|$)/, (name) => name.replaceAll('_', '-'));
}

/** The same manners for a command and all below it. */
function prepare(command: Command, parent: string, printable: (text: string) => string): void {
  const path = `${parent} ${command.name()}`;
  command.exitOverride();
  command.configureOutput({
    // One line, as every other error.
    outputError: (text, write) => {
      const line = text
        .trim()
        .replace(/^error: /, '')
        .replace(/\s*\n\s*/g, ' ');
      write(`micro: ${printable(line)}; ${path} --help shows options and examples\n`);
    },
  });
  command.configureHelp({ commandUsage: (each) => `${pathOf(each)} ${each.usage()}` });
  for (const each of command.commands) prepare(each, path, printable);
}

function pathOf(command: Command): string {
  return command.parent === null
    ? `micro ${command.name()}`
    : `${pathOf(command.parent)} ${command.name()}`;
}

/** `micro help`, `micro help topic`, `micro help topic tail`. */
async function help(words: readonly string[]): Promise<void> {
  const [name, ...rest] = words;
  if (name === undefined) {
    console.log(helpText());
    return;
  }
  const row = COMMANDS.find((each) => each.name === name);
  if (row === undefined) return unknown(name);
  await run(row, [...rest, '--help']);
}

async function unknown(name: string): Promise<void> {
  const { nearestName } = await import('../util/nearest-name.ts');
  const { printable } = await import('../util/printable.ts');
  const near = nearestName(
    name,
    COMMANDS.map((each) => each.name),
  );
  const hint = near === null ? 'micro --help lists the commands' : `did you mean '${near}'?`;
  process.stderr.write(`micro: unknown command '${printable(name)}'; ${hint}\n`);
  process.exitCode = 2;
}

function examplesText({ examples = [] }: CommandRow): string {
  const lines = examples.map(({ line, says }) => `  # ${says}\n  ${line}`);
  return `\nExamples:\n${lines.join('\n\n')}`;
}

function helpText(): string {
  const width = Math.max(...COMMANDS.map(({ name, usage }) => name.length + usage.length)) + 1;
  const groups = Object.entries(GROUP_TITLES) as [CommandGroup, string][];
  const parts = groups.map(([group, title]) => {
    const lines = COMMANDS.filter((row) => row.group === group).map(
      ({ name, usage, summary }) => `  micro ${`${name} ${usage}`.padEnd(width)}  ${summary}`,
    );
    return [`${title}:`, ...lines].join('\n');
  });
  return `Rivulet ${RIVULET_VERSION}\n\n${parts.join('\n\n')}\n\n  micro help <command>  options and examples of a command\n  micro --version\n\nExit codes: 0 done, 1 failed, 2 wrong command line, 3 not there, 4 unreachable, 5 out of time, 6 not allowed.`;
}
