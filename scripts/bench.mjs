/**
 * `npm run bench [-- name ...] [-- --smoke]`: builds, installs the benchmarks' own modules (the peers
 * that we measure against), runs them. Without a name it runs all.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { has, installDebianPackages, installModules, root, run, say } from './steps.mjs';
import './prepare.mjs';

if (!has('redis-server') && !installDebianPackages(['redis-server', 'redis-tools'])) {
  say(
    'redis-server and redis-benchmark are needed as the other side of every row: apt-get install redis-server redis-tools',
  );
  process.exit(1);
}
// The other side of workflows on PostgreSQL; without it those rows fail.
if (!has('initdb') && !existsSync('/usr/lib/postgresql')) installDebianPackages(['postgresql']);
await installModules(join(root, 'bench'));
process.exitCode = await run(process.execPath, [
  '--expose-gc',
  join(root, 'dist/bench/main.js'),
  ...process.argv.slice(2),
]);
