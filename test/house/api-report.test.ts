/** The API report is the API: what is exported, with its signature, changes only on purpose. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { repositoryRoot } from './source-file.ts';

interface Report {
  apiReport(): string;
  differenceFromPage(): string | null;
  exportedNames(): [entry: string, names: string[]][];
}

const script = pathToFileURL(join(repositoryRoot, 'scripts', 'api-report.mjs')).href;
const report: Report = await import(script);

test('docs/api-report.md is the API of the build; scripts/api-report.mjs renews it', () => {
  const difference = report.differenceFromPage();
  assert.ok(difference === null, difference ?? '');
});

test('every value that an entry point exports is in the report', async () => {
  const entries = report.exportedNames();
  const { exports } = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8'));
  const own = Object.keys(exports).filter((path) => path !== './package.json');
  assert.equal(entries.filter(([name]) => !name.startsWith('@')).length, own.length);
  for (const [entry, names] of entries) {
    const values = Object.keys(await import(entry));
    assert.deepEqual(
      values.filter((value) => !names.includes(value)),
      [],
      entry,
    );
  }
});

test('the report has types, overloads and what exported types are made of', () => {
  const text = report.apiReport();
  for (const part of [
    'subscribe(topic: string, handler: BatchHandler, options: BatchSubscribeOptions)',
    'subscribe(topic: string, options?: SubscribeOptions)',
    'interface CommonSubscribeOptions {',
    'export type ErrorCode = keyof typeof errorTable;',
    'export interface TestBroker extends AsyncDisposable {',
    'export declare function connect',
  ]) {
    assert.ok(text.includes(part.replace('declare ', '')), part);
  }
  assert.ok(!/#private|\/\*\*/.test(text));
});
