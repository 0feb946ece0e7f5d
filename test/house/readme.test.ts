/**
 * README's table of commands is compared with the server's rows, and every file that a page names is
 * looked up.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { allCommands } from '../../src/server/commands/index.ts';
import { repositoryRoot } from './source-file.ts';

test('every file that the pages name is there', () => {
  const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'DEPENDENCIES.md'].concat(
    readdirSync(join(repositoryRoot, 'docs'))
      .filter((name) => name.endsWith('.md') && name !== 'api-report.md')
      .map((name) => `docs/${name}`),
  );
  assert.deepEqual(pages.flatMap(absentFiles), []);
});

test('README links each page of docs', () => {
  const readme = readFileSync(join(repositoryRoot, 'README.md'), 'utf8');
  const unlinked = readdirSync(join(repositoryRoot, 'docs')).filter(
    (name) =>
      name.endsWith('.md') && name !== 'api-report.md' && !readme.includes(`](docs/${name})`),
  );
  assert.deepEqual(unlinked, []);
});

/** Files in backquotes, by their path from the root or from src, and targets of links. */
function absentFiles(page: string): string[] {
  const text = readFileSync(join(repositoryRoot, page), 'utf8');
  const paths = [...text.matchAll(/`((?:[a-z0-9-]+\/)+[a-z0-9-]+\.ts)`/g)].map(([, path]) => path);
  const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, path]) => path);
  return [
    ...paths.filter((path) => !existsIn(['', 'src'], path as string)),
    ...links.filter((path) => !existsIn([dirname(page)], path as string)),
  ].map((path) => `${page} names ${path}`);
}

function existsIn(folders: readonly string[], path: string): boolean {
  return folders.some((folder) => existsSync(join(repositoryRoot, folder, path)));
}

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
