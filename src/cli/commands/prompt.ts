/**
 * `micro cli`: a prompt that takes the same commands, with history and completion of their names.
 *
 * Invariants: a command runs in a separate process, so that Ctrl-C ends it and not the prompt, and no
 * failure of it reaches the next one; a line is split as a shell splits quotes, and nothing in it is run by a shell.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import type { CommandRow } from '../command-row.ts';
import { withExamples } from '../examples.ts';

export function promptCommand(rows: readonly CommandRow[]): Command {
  const command = new Command('cli')
    .description('a prompt for commands: list topics, topic tail orders, ...')
    .action(() => prompt(rows));
  return withExamples(command, [
    {
      line: `printf 'list topics\\nquit\\n' | micro cli`,
      says: 'commands without "micro" before them',
    },
  ]);
}

async function prompt(rows: readonly CommandRow[]): Promise<void> {
  const isTerminal = process.stdin.isTTY === true;
  const names = [...rows.map(({ name }) => name), 'help', 'quit', 'exit'];
  const lines = createInterface({
    input: process.stdin,
    ...(isTerminal ? { output: process.stdout } : {}),
    prompt: isTerminal ? 'micro> ' : '',
    completer: (line: string) => [names.filter((name) => name.startsWith(line)), line],
  });
  // Ctrl-C at the prompt clears the line; in a command it reaches the command, which shares the terminal.
  lines.on('SIGINT', () => {
    for (const name of ['e', 'u']) lines.write(null as unknown as string, { ctrl: true, name });
    process.stdout.write('\n');
    lines.prompt();
  });
  process.on('SIGINT', () => {});
  lines.prompt();
  for await (const line of lines) {
    const args = splitLine(line);
    if (args === null) process.stderr.write('micro: a quote is not closed\n');
    else if (args[0] === 'quit' || args[0] === 'exit') break;
    else if (args.length > 0 && args[0] !== 'cli') {
      // The command has the terminal alone: what is typed, and Ctrl-C, is the command's.
      lines.pause();
      if (isTerminal) process.stdin.setRawMode(false);
      await run(args[0] === 'micro' ? args.slice(1) : args);
      if (isTerminal) process.stdin.setRawMode(true);
    }
    lines.prompt();
  }
  lines.close();
}

function run(args: readonly string[]): Promise<void> {
  const [, script = ''] = process.argv;
  return new Promise((resolve) => {
    const input = process.stdin.isTTY ? 'inherit' : 'ignore';
    const child = spawn(process.execPath, [script, ...args], {
      stdio: [input, 'inherit', 'inherit'],
    });
    child.once('error', (error) => {
      process.stderr.write(`micro: ${error.message}\n`);
      resolve();
    });
    child.once('close', () => resolve());
  });
}

/** Words separated by spaces; quotes keep them together. Null where a quote is not closed. */
export function splitLine(line: string): string[] | null {
  const words: string[] = [];
  let word: string | null = null;
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const character = line[at] as string;
    if (quote !== '') {
      if (character === quote) quote = '';
      else if (character === '\\' && quote === '"' && /["\\]/.test(line[at + 1] ?? '')) {
        word = (word ?? '') + line[++at];
      } else word = (word ?? '') + character;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= '';
    } else if (/\s/.test(character)) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? '') + character;
  }
  if (quote !== '') return null;
  if (word !== null) words.push(word);
  return words;
}
