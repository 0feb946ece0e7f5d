/** docs/services.md names every option of a service and of a method, with its default and bound. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SETTINGS, type SettingRow } from '../../src/service/options/options.ts';
import { repositoryRoot } from '../house/source-file.ts';

const page = readFileSync(join(repositoryRoot, 'docs', 'services.md'), 'utf8');

test('the table of options is that of the code', () => {
  const missing = Object.entries(SETTINGS as Record<string, SettingRow>)
    .map(([name, row]) => rowOf(name, row))
    .filter((row) => !page.includes(`${row}\n`));
  assert.deepEqual(missing, []);
  const shown = [...page.matchAll(/^\| `(\w+)` \|.*\| (?:`MICRO_\w+`|-) \|/gm)];
  assert.equal(shown.length, Object.keys(SETTINGS).length, 'the page has no row without an option');
});

/** `| name | default | bound | variable | flag |` */
function rowOf(name: string, { row, fallback, outside }: SettingRow): string {
  const variable = outside === undefined ? '-' : `\`${outside.variable}\``;
  const flag = outside === undefined ? '-' : `\`--${outside.flag}\``;
  return `| \`${name}\` | ${shownDefault(fallback)} | ${boundOf(row)} | ${variable} | ${flag} |`;
}

function shownDefault(value: unknown): string {
  if (value === undefined) return '-';
  if (typeof value === 'string') return `\`${value}\``;
  return typeof value === 'object' ? '`{}`' : String(value);
}

function boundOf(row: SettingRow['row']): string {
  if (row.kind === 'number') return `${row.min} to ${row.max}`;
  if (row.kind === 'one of') return row.values.map((each) => `\`${each}\``).join(', ');
  return row.kind === 'boolean' ? 'true, false' : '-';
}
