/**
 * The lock file must serve every machine: complete for all platforms, and naming no registry.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { repositoryRoot } from './source-file.ts';

interface LockEntry {
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const text = readFileSync(`${repositoryRoot}/package-lock.json`, 'utf8');
const packages: Record<string, LockEntry> = JSON.parse(text).packages;

test('every optional dependency has its entry, or npm ci refuses the lock file', () => {
  const missing = Object.entries(packages).flatMap(([path, entry]) =>
    Object.keys(entry.optionalDependencies ?? {}).filter(
      (name) =>
        !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
    ),
  );
  assert.deepEqual(missing, [], 'run node scripts/complete-lock.mjs');
});

test('the lock file names no registry', () => {
  const hosts = Object.values(packages)
    .map((entry) => entry.resolved ?? '')
    .filter((resolved) => /^[a-z+]+:\/\//.test(resolved));
  assert.deepEqual(hosts, []);
});
