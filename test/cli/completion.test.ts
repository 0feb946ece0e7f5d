/** Completion in the shells themselves: bash, zsh and fish, each with its own terminal. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type TemporaryDirectory, temporaryDirectory } from '../helpers/temporary-directory.ts';
import { micro } from './micro.ts';
import { openTerminal } from './pty.ts';

interface Shell {
  readonly name: string;
  /** The shell without the files of the person who runs the tests. */
  readonly line: (home: string) => string;
  /** Reads the script, and lets `micro` print its arguments. */
  readonly setUp: (file: string) => string;
}

const SHELLS: readonly Shell[] = [
  {
    name: 'bash',
    line: () => 'bash --norc --noprofile -i',
    setUp: (file) => `micro() { echo "<$*>"; }; source ${file}; echo set"-"up`,
  },
  {
    name: 'zsh',
    line: () => 'zsh -f -i',
    setUp: (file) =>
      `autoload -Uz compinit && compinit -u -D; micro() { print -r -- "<$*>" }; source ${file}; echo set"-"up`,
  },
  {
    name: 'fish',
    line: () => 'fish --no-config -i',
    setUp: (file) => `function micro; echo "<$argv>"; end; source ${file}; echo set"-"up`,
  },
];

/** What is typed, and what `micro` is then called with. */
const TYPED: readonly [keys: string, args: string][] = [
  ['micro top\tinfo orders', 'topic info orders'],
  ['micro topic rep\torders', 'topic replay orders'],
  ['micro topic tail orders --fol\t', 'topic tail orders --follow'],
  ['micro dead --json redr\tpayments', 'dead --json redrive payments'],
  ['micro compl\tzs\t', 'completion zsh'],
  ['micro help mirr\t', 'help mirror'],
];

async function scriptFor(shell: string, home: TemporaryDirectory): Promise<string> {
  const { code, stdout, stderr } = await micro(['completion', shell]);
  assert.equal(code, 0, stderr);
  const file = join(home.path, `micro.${shell}`);
  writeFileSync(file, stdout);
  return file;
}

for (const shell of SHELLS) {
  const { name, line, setUp } = shell;
  const absent = [name, 'script'].filter(
    (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status !== 0,
  );
  const skip = absent.length > 0 && `needs ${absent.join(', ')}, which this machine does not have`;

  test(`${name} completes commands, subcommands and options as they are typed`, {
    skip,
  }, async () => {
    await using home = temporaryDirectory(`completion-${name}`);
    const file = await scriptFor(name, home);
    await using terminal = openTerminal(line(home.path), home.path);
    await terminal.until(/[$%>#]/);
    terminal.type(`${setUp(file)}\r`);
    await terminal.until(/set-up/);
    for (const [keys, args] of TYPED) {
      terminal.type(`${keys}\r`);
      await terminal.until(new RegExp(`<${args}>`));
    }
  });
}
