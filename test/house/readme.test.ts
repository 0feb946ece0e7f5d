/**
 * The README cannot lie about commands: its table is compared with the server's rows.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { allCommands } from '../../src/server/commands/index.ts';
import { repositoryRoot } from './source-file.ts';

test('the table of commands in README names every command and subcommand, and no other', () => {
  const readme = readFileSync(`${repositoryRoot}/README.md`, 'utf8');
  const table = /<!-- commands:.*?-->\n(.*?)\n<!-- \/commands -->/s.exec(readme)?.[1] ?? '';
  assert.deepEqual(table.split('\n'), expectedRows());
});

function expectedRows(): string[] {
  const families = new Map<string, string[]>();
  for (const command of allCommands) {
    const names = families.get(command.group) ?? [];
    families.set(command.group, names);
    const subcommands = (command.subcommands ?? [])
      .map((sub) => sub.name.slice(command.name.length + 1).toUpperCase())
      .filter((name) => name !== 'HELP');
    const name = command.name.toUpperCase();
    names.push(subcommands.length > 0 ? `${name} (${subcommands.join(' ')})` : name);
  }
  return [...families].map(([family, names]) => `| ${family} | ${names.sort().join(', ')} |`);
}
