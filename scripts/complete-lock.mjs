/**
 * `node scripts/complete-lock.mjs`: run it after `npm install NAME`.
 *
 * Holds: the repair of a lock file that was written beside a registry which has the platform packages
 * of some platforms only. npm then leaves the others out, and `npm ci` refuses the file everywhere.
 * Adds an entry (version, os, cpu; no hash) for every optional dependency that has none.
 * Invariant: entries that are there stay as they are. test/house/lock-file.test.ts checks the result.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const file = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(file, 'utf8'));
const added = [];

for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const missing =
      !(`node_modules/${name}` in lock.packages) &&
      !(`${path}/node_modules/${name}` in lock.packages);
    if (!missing) continue;
    lock.packages[`node_modules/${name}`] = platformEntry(name, range, entry);
    added.push(name);
  }
}

lock.packages = Object.fromEntries(
  Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)),
);
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
console.log(added.length === 0 ? 'nothing was missing' : `added ${added.join(', ')}`);

function platformEntry(name, range, parent) {
  const os = ['android', 'darwin', 'win32', 'freebsd', 'netbsd', 'openbsd', 'sunos', 'aix'].find(
    (word) => name.includes(word),
  );
  const cpu = /arm64|x64|ia32|arm|ppc64|s390x|riscv64|loong64|mips64el/.exec(name)?.[0];
  if (cpu === undefined) throw new Error(`${name}: not a platform package, add it by hand`);
  return {
    version: range.replace(/^[\^~]/, ''),
    cpu: [cpu],
    ...(parent.dev ? { dev: true } : {}),
    ...(parent.license ? { license: parent.license } : {}),
    optional: true,
    os: [os ?? 'linux'],
    ...(name.includes('musl') ? { libc: ['musl'] } : {}),
  };
}
