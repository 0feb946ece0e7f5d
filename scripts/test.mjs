/**
 * `npm test`: everything, from a fresh clone, with nothing installed by hand.
 *
 * Modules and build, then lint, then every test below dist/test with node's own runner. The real
 * redis-server, its tools and python's client come from Debian when they are missing and can be had;
 * where they cannot, the tests that need them are skipped and said so, but in CI that is a failure.
 * The tests start their own servers on ports of their own; a redis service that the package started
 * is never spoken to.
 *
 *   --only unit|conformance|differential|simulation|integration   one kind of test, without lint
 *   --full                                            the long sizes (RIVULET_FULL=1)
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  fail,
  has,
  installDebianPackages,
  installModules,
  root,
  run,
  say,
  testFiles,
} from './steps.mjs';
import './prepare.mjs';

const { values: options } = parseArgs({
  options: { only: { type: 'string' }, full: { type: 'boolean', default: false } },
});

const SLOW_KINDS = ['conformance', 'differential', 'simulation', 'integration'];
const folders = readdirSync(join(root, 'dist', 'test'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
const kinds = {
  unit: folders.filter((name) => !SLOW_KINDS.includes(name)),
  ...Object.fromEntries(SLOW_KINDS.map((kind) => [kind, [kind]])),
};
if (options.only !== undefined && !(options.only in kinds)) {
  fail(`--only ${options.only}: no such kind of test; there are ${Object.keys(kinds).join(', ')}`);
}

await getPeers();
// The smoke size of the benchmarks needs their peers too.
if (options.only === undefined || options.only === 'unit')
  await installModules(join(root, 'bench'));
let code = 0;
if (options.only === undefined) {
  say('lint (biome check)');
  code = await run(process.execPath, [
    join(root, 'node_modules/@biomejs/biome/bin/biome'),
    'check',
    '.',
  ]);
}
const selected = options.only === undefined ? [...kinds.unit, ...SLOW_KINDS] : kinds[options.only];
const files = selected.flatMap(testFiles);
if (files.length === 0) fail('no test files were found: that is a fault of the build');
say(`${files.length} test files (node --test)`);
const testCode = await run(
  process.execPath,
  [
    '--expose-gc',
    '--test',
    '--test-reporter=spec',
    '--test-concurrency=2',
    `--test-timeout=${options.full ? 3_600_000 : 300_000}`,
    ...files,
  ],
  { env: { ...process.env, ...(options.full ? { RIVULET_FULL: '1' } : {}) } },
);
if (code !== 0) say('lint failed: see above; `npm run format` repairs what can be repaired');
process.exitCode = testCode || code;

/** The peers that the tests run against, and what is not tested without them. */
async function getPeers() {
  const peers = [
    {
      name: 'redis-server',
      isThere: () => has('redis-server'),
      tests: 'differential tests, client tests, benchmark smoke',
    },
    {
      name: 'redis-tools',
      isThere: () => has('redis-cli') && has('redis-benchmark'),
      tests: 'redis-cli and redis-benchmark scenarios',
    },
    { name: 'python3-redis', isThere: hasPythonRedis, tests: 'redis-py scenario' },
    {
      name: 'rabbitmq-server',
      isThere: () => existsSync('/usr/lib/rabbitmq/bin/rabbitmq-server'),
      tests: 'the broker suite on RabbitMQ',
    },
    {
      name: 'nats-server',
      isThere: () => has('nats-server') || existsSync('/usr/sbin/nats-server'),
      tests: 'the broker suite on NATS',
    },
    {
      name: 'etcd-server',
      isThere: () => has('etcd'),
      tests: 'the registry suite on etcd',
    },
  ];
  const missing = () => peers.filter((peer) => !peer.isThere());
  if (missing().length === 0) return;
  say(
    `installing from Debian: ${missing()
      .map((peer) => peer.name)
      .join(' ')}`,
  );
  installDebianPackages(missing().map((peer) => peer.name));
  for (const peer of missing()) say(`could not get ${peer.name}; skipped: ${peer.tests}`);
  if (missing().length > 0 && process.env.CI === 'true') {
    fail('CI=true: tests may not be skipped, so this is a failure');
  }
}

function hasPythonRedis() {
  // Debian's module belongs to Debian's python, which need not be the first one on the PATH.
  return spawnSync('/usr/bin/python3', ['-c', 'import redis'], { stdio: 'ignore' }).status === 0;
}
