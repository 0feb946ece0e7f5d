/**
 * `npm run soak`: runs the tests that draw, again and again, each time by another seed, and prints each
 * failure with the seed that repeats it.
 *
 *   --minutes N     begin no further run after N minutes (default 10)
 *   --rounds N      at most N rounds through the files (default: as many as there is time for)
 *   --only TEXT     only files whose path below test contains it, several separated by commas
 *   --timeout S     seconds that one run of a file may take (default 600)
 *   --seed N        the seed of the first run; each further run takes the next one (default: drawn)
 *
 * What a failed run printed is kept in a file below the system's temporary directory.
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import '../prepare.mjs';
import { fail, root, say, testFiles } from '../steps.mjs';

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    rounds: { type: 'string', default: 'Infinity' },
    only: { type: 'string', default: '' },
    timeout: { type: 'string', default: '600' },
    seed: { type: 'string' },
  },
});

const tests = join(root, 'dist', 'test');
const wanted = options.only.split(',');
const files = testFiles('')
  .filter((file) => wanted.some((text) => relative(tests, file).includes(text)))
  .filter((file) => /helpers\/(seed|property)\.js'/.test(readFileSync(file, 'utf8')));
if (files.length === 0) fail('no test that draws has such a path');
const endsAt = performance.now() + Number(options.minutes) * 60_000;
const runsOf = new Map(files.map((file) => [file, 0]));
const failures = [];
const kept = mkdtempSync(join(tmpdir(), 'rivulet-soak-'));
let seed = Number(options.seed ?? randomInt(2 ** 30));
let rounds = 0;
say(`${files.length} files, ${options.minutes} minutes, seeds from ${seed}; failures in ${kept}`);
while (performance.now() < endsAt && rounds < Number(options.rounds)) {
  for (const file of files) {
    if (performance.now() >= endsAt) break;
    run(file, seed++);
  }
  rounds++;
  const left = Math.max(0, Math.round((endsAt - performance.now()) / 60_000));
  say(`round ${rounds}: ${failures.length} failures, ${left} minutes left`);
}
const runs = [...runsOf.values()];
say(
  `${runs.reduce((sum, count) => sum + count, 0)} runs of ${files.length} files, ${failures.length} failed`,
);
for (const line of failures) say(line);
process.exitCode = failures.length === 0 ? 0 : 1;

function run(file, number) {
  const name = relative(tests, file);
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '--test', '--test-reporter=spec', file],
    {
      encoding: 'utf8',
      cwd: root,
      env: { ...process.env, RIVULET_SEED: String(number) },
      timeout: Number(options.timeout) * 1000,
      killSignal: 'SIGKILL',
      maxBuffer: 1e9,
    },
  );
  runsOf.set(file, (runsOf.get(file) ?? 0) + 1);
  if (status === 0) return;
  const path = join(kept, `${name.replaceAll('/', '-')}-${number}.txt`);
  writeFileSync(path, `${stdout}${stderr}`);
  const what = signal === null ? `ended with ${status}` : `was ended by ${signal}`;
  failures.push(
    `RIVULET_SEED=${number} node --expose-gc --test dist/test/${name}: ${what}, ${path}`,
  );
  say(`FAILED ${failures.at(-1)}`);
}
