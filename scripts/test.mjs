/**
 * `npm test`: everything, from a fresh clone, with nothing installed by hand.
 *
 * Modules and build, then lint, then every test below dist/test with node's own runner. The real
 * redis-server, its tools and python's client come from Debian when they are missing and can be had;
 * where they cannot, the tests that need them are skipped and said so, but in CI that is a failure.
 * The tests start their own servers on free ports; a redis service that the package started
 * is never spoken to.
 *
 *   --only unit|conformance|differential|simulation|integration   one kind of test, without lint
 *   --full                                            the long sizes (RIVULET_FULL=1)
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
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

const FULL = { RIVULET_FULL: '1', RIVULET_TEST_LIMIT_MS: '3000000' };
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
const hanging = join(root, 'dist', 'hanging-tests.txt');
rmSync(hanging, { force: true });
const testCode = await run(
  process.execPath,
  [
    '--expose-gc',
    // Names and ends a test that hangs; the limit below is for its whole file, and names none.
    `--import=${new URL('hanging-tests.mjs', import.meta.url)}`,
    '--test',
    '--test-reporter=spec',
    '--test-concurrency=2',
    `--test-timeout=${options.full ? 3_600_000 : 600_000}`,
    ...files,
  ],
  { env: { ...process.env, RIVULET_HANGING: hanging, ...(options.full ? FULL : {}) } },
);
if (existsSync(hanging)) say(readFileSync(hanging, 'utf8'));
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
    {
      name: 'python3-redis',
      isThere: () => hasPythonModule('redis'),
      tests: 'redis-py scenario',
    },
    {
      name: 'python3-grpcio',
      isThere: () => hasPythonModule('grpc'),
      tests: 'calls from Python by gRPC',
    },
    {
      name: 'python3-protobuf',
      isThere: () => hasPythonModule('google.protobuf'),
      tests: 'calls from Python by gRPC',
    },
    { name: 'zsh', isThere: () => has('zsh'), tests: 'completion in zsh' },
    { name: 'fish', isThere: () => has('fish'), tests: 'completion in fish' },
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
    {
      name: 'zookeeper',
      isThere: () => existsSync('/usr/share/java/zookeeper.jar') && has('java'),
      tests: 'the registry suite on ZooKeeper',
    },
    {
      name: 'default-jdk-headless',
      isThere: () => has('javac'),
      tests: 'calls from Java by gRPC',
    },
    {
      name: 'libgrpc-java',
      isThere: () => existsSync('/usr/share/java/grpc-netty.jar'),
      tests: 'calls from Java by gRPC',
    },
    {
      name: 'libperfmark-java',
      isThere: () => existsSync('/usr/share/java/perfmark-api.jar'),
      tests: 'calls from Java by gRPC',
    },
    {
      name: 'chromium',
      isThere: () => has('chromium'),
      tests: 'the console in a browser',
    },
  ];
  await getGoMicro();
  getReflection();
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

function hasPythonModule(name) {
  // Debian's modules belong to Debian's python, which need not be the first one on the PATH.
  return spawnSync('/usr/bin/python3', ['-c', `import ${name}`], { stdio: 'ignore' }).status === 0;
}

/** Python's reflection of gRPC, which Debian does not have; of the version of Debian's grpcio. */
function getReflection() {
  const target = join(root, 'node_modules', '.cache', 'python');
  if (existsSync(join(target, 'grpc_reflection'))) return;
  const wanted = 'grpcio-reflection==1.51.1';
  const args = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', target, wanted];
  const options = { stdio: 'ignore', timeout: 60_000 };
  if (spawnSync('/usr/bin/python3', args, options).status === 0) return;
  say(`could not get ${wanted}; skipped: reflection from Python`);
}

/** The modules of the Go programs, and their build: the first one takes a minute or more. */
async function getGoMicro() {
  if (!has('go')) {
    say('could not get go; skipped: calls between go-micro and Rivulet');
    return;
  }
  const programs = new URL('../dist/test/interop/go/go-programs.js', import.meta.url);
  const { GO_PROGRAMS, buildGo, folderOf } = await import(programs);
  for (const program of GO_PROGRAMS) {
    say(`building the Go program ${program} (at most 5 minutes)`);
    const options = { cwd: folderOf(program), stdio: ['ignore', 'ignore', 2], timeout: 300_000 };
    const isThere = spawnSync('go', ['mod', 'download'], options).status === 0;
    const why = isThere ? buildGo(program) : 'its modules could not be downloaded';
    if (why !== null) say(`could not build it; skipped: the tests beside it (${why})`);
  }
}
