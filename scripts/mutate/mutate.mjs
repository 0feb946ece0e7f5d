/**
 * `npm run mutate`: makes random single changes in compiled modules, one at a time, and runs the tests
 * that cover the changed folder; prints each change that no test noticed.
 *
 *   --count N       changes to try (default 20)
 *   --minutes N     begin no further change after N minutes (default 60)
 *   --seed N        the same seed, on the same build, tries the same changes; printed
 *   --only PATH     only modules whose path begins so: src/engine, src/engine/rdb-
 *   --depth N       folders of tests to run at most (default all), after the tests that import the module
 *   --timeout S     seconds that the tests of one folder may take (default 300); longer: noticed
 *
 * A run that was ended goes on where it was when it is started with its seed again: what is known is kept
 * in a file below the system's temporary directory. The changes are made in a copy, never in dist. A change
 * that makes no difference that can be seen from outside survives too: a person has to judge them.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import '../prepare.mjs';
import { fail, root, say } from '../steps.mjs';
import { mutationsOf } from './mutations.mjs';

/** Folders of tests for each folder of modules, the nearest first. */
const COVERED_BY = {
  stream: ['stream', 'consumer-groups', 'engine', 'server', 'simulation'],
  'consumer-groups': ['consumer-groups', 'engine', 'server', 'simulation'],
  storage: ['storage', 'engine', 'simulation', 'integration'],
  engine: ['engine', 'server', 'simulation', 'broker', 'integration'],
  server: ['server', 'integration', 'differential'],
  client: ['client', 'broker', 'integration'],
  broker: ['broker', 'conformance', 'integration'],
  util: ['util', 'stream', 'engine', 'server'],
  cli: ['server', 'integration'],
  workflow: ['workflow/execution', 'workflow/journal', 'workflow/schedules', 'workflow'],
};

const { values: options } = parseArgs({
  options: {
    count: { type: 'string', default: '20' },
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string' },
    only: { type: 'string', default: 'src' },
    depth: { type: 'string', default: '9' },
    timeout: { type: 'string', default: '300' },
  },
});
const seed = Number(options.seed ?? Date.now() % 1_000_000_000);
const endsAt = performance.now() + Number(options.minutes) * 60_000;
const modules = modulesBelow(join(root, 'dist', 'src')).filter((path) =>
  path.startsWith(join(root, 'dist', options.only)),
);
if (modules.length === 0) fail(`there is no compiled module below dist/${options.only}`);
const build = createHash('sha256');
for (const path of modules) build.update(readFileSync(path));
const known = new Map();
const record = join(tmpdir(), `rivulet-mutate-${seed}-${build.digest('hex').slice(0, 12)}.jsonl`);
if (existsSync(record)) {
  for (const line of readFileSync(record, 'utf8').trim().split('\n')) {
    const result = JSON.parse(line);
    known.set(result.number, result);
  }
}
say(`mutate: ${options.count} changes from seed ${seed}; results in ${record}`);

const copy = makeCopy();
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
const soundFolders = new Map();
const survivors = [];
let tried = 0;
for (const [index, mutation] of choose(modules, Number(options.count)).entries()) {
  let result = known.get(index);
  if (result === undefined) {
    if (performance.now() > endsAt) {
      say(`the time is over: go on with --seed ${seed}`);
      break;
    }
    result = { number: index, ...(await tryMutation(mutation)) };
    appendFileSync(record, `${JSON.stringify(result)}\n`);
  }
  // Tests that fail without any change, or take too long, say nothing about this one.
  const isJudged = result.noticedBy !== null || (result.leftOut ?? []).length === 0;
  if (isJudged) tried++;
  if (isJudged && result.noticedBy === null) survivors.push(mutation);
  const verdict = isJudged ? 'SURVIVED' : `not judged without ${result.leftOut.join(', ')}`;
  process.stdout.write(`${index + 1}. ${describe(mutation)}: ${result.noticedBy ?? verdict}\n`);
}
process.stdout.write(`\n${tried - survivors.length} of ${tried} changes were noticed\n`);
for (const mutation of survivors) process.stdout.write(`survived: ${describe(mutation)}\n`);

function modulesBelow(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true })
    .map((name) => join(directory, name))
    .filter((path) => path.endsWith('.js'))
    .sort();
}

/** Every mutation of every module is as likely as any other; none comes twice. */
function choose(paths, count) {
  const all = paths.flatMap((path) => {
    const text = readFileSync(path, 'utf8');
    return mutationsOf(path, text).map((mutation) => ({ ...mutation, path, source: text }));
  });
  const next = random(seed);
  const chosen = [];
  while (chosen.length < count && all.length > 0) {
    chosen.push(...all.splice(Math.floor(next() * all.length), 1));
  }
  return chosen;
}

/** mulberry32. */
function random(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function describe({ path, source, from, to, kind }) {
  const line = source.slice(0, from).split('\n').length;
  const code = source.slice(source.lastIndexOf('\n', from) + 1, to).trim();
  const text = code.length > 100 ? `${code.slice(0, 100)}...` : code;
  return `${relative(root, path)}:${line} ${kind}: ${text.replaceAll('\n', ' ')}`;
}

/** The compiled program and its tests, and what they read of the repository. */
function makeCopy() {
  const directory = mkdtempSync(join(tmpdir(), 'rivulet-mutate-'));
  for (const name of readdirSync(root)) {
    if (name === 'dist' || name === '.git') continue;
    symlinkSync(join(root, name), join(directory, name));
  }
  mkdirSync(join(directory, 'dist'));
  rmSync(join(directory, 'bin'));
  cpSync(join(root, 'bin'), join(directory, 'bin'), { recursive: true });
  for (const part of ['src', 'test']) {
    cpSync(join(root, 'dist', part), join(directory, 'dist', part), { recursive: true });
  }
  return directory;
}

async function tryMutation(mutation) {
  const target = join(copy, relative(root, mutation.path));
  const { source, from, to, text } = mutation;
  const folder = relative(join(root, 'dist', 'src'), dirname(mutation.path)).split('/')[0];
  const folders = (COVERED_BY[folder] ?? [folder]).slice(0, Number(options.depth));
  const leftOut = [];
  for (const tests of [importersOf(mutation.path), ...folders.map(testsIn)]) {
    if (!(await isSound(tests))) {
      leftOut.push(tests.name);
      continue;
    }
    writeFileSync(target, source.slice(0, from) + text + source.slice(to));
    try {
      if (!(await passes(tests))) return { noticedBy: tests.name };
    } finally {
      writeFileSync(target, source);
    }
  }
  return { noticedBy: null, leftOut };
}

function testsIn(folder) {
  const files = modulesBelow(join(copy, 'dist', 'test', folder));
  return { name: `test/${folder}`, files: files.filter((path) => path.endsWith('.test.js')) };
}

/** The test files that import the module themselves: the quickest to notice. */
function importersOf(path) {
  const wanted = relative(join(root, 'dist'), path);
  const files = modulesBelow(join(copy, 'dist', 'test')).filter(
    (file) => file.endsWith('.test.js') && readFileSync(file, 'utf8').includes(`/${wanted}'`),
  );
  return { name: files.map((file) => relative(join(copy, 'dist'), file)).join(', '), files };
}

/** Whether tests pass without a change; those that do not cannot notice anything. */
async function isSound(tests) {
  let sound = soundFolders.get(tests.name);
  if (sound === undefined) {
    sound = await passes(tests);
    soundFolders.set(tests.name, sound);
    if (!sound) say(`${tests.name} fails without any change: left out`);
  }
  return sound;
}

function passes({ files }) {
  if (files.length === 0) return true;
  const args = ['--expose-gc', '--test', '--test-timeout=120000', ...files];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: copy, stdio: 'ignore', detached: true });
    const timer = setTimeout(end, Number(options.timeout) * 1000);
    function end() {
      // The whole group: a test that hangs has started servers.
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {}
    }
    child.on('exit', (code) => {
      clearTimeout(timer);
      end();
      resolve(code === 0);
    });
  });
}
