/**
 * The examples of a command: shown by its help, and each of them run by a test.
 *
 * Invariant: an example is a whole command line that ends by itself, or says that it does not.
 */
import type { Command } from 'commander';

export interface Example {
  /** A command line for a shell, beginning with `micro` or with what is piped into it. */
  readonly line: string;
  readonly says: string;
  /** It runs until SIGINT, after a line that says "ready". */
  readonly untilStopped?: true;
}

const EXAMPLES = new WeakMap<Command, readonly Example[]>();

/** Adds examples to the help of a command. */
export function withExamples(command: Command, examples: readonly Example[]): Command {
  EXAMPLES.set(command, examples);
  const text = examples.map(({ line, says }) => `  # ${says}\n  ${line}`).join('\n\n');
  return command.addHelpText('after', `\nExamples:\n${text}`);
}

/** The examples of a command and of the commands below it. */
export function examplesOf(command: Command): Example[] {
  return [...(EXAMPLES.get(command) ?? []), ...command.commands.flatMap(examplesOf)];
}
