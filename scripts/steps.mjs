/**
 * The steps that the scripts share: where the repository is, running a child to its end, installing
 * modules, building.
 *
 * Invariant: every step is a no-op, in milliseconds, when there is nothing to do, so each script can
 * take all the steps it needs each time. Only Node's own modules are used: on a fresh clone there is
 * nothing else.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Says what is being done, on stderr: stdout belongs to the program that is prepared. */
export function say(text) {
  process.stderr.write(`${text}\n`);
}

export function fail(text) {
  say(text);
  process.exit(1);
}

/** Runs a program in the foreground and returns its exit code (128 + n for a signal). */
export function run(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options });
    const forward = (signal) => child.kill(signal);
    process.on('SIGINT', forward);
    process.on('SIGTERM', forward);
    child.on('error', (error) => {
      say(`${command}: ${error.message}`);
      resolve(127);
    });
    child.on('exit', (code, signal) => {
      process.off('SIGINT', forward);
      process.off('SIGTERM', forward);
      resolve(signal ? 128 + (signal === 'SIGINT' ? 2 : 15) : code);
    });
  });
}

export function has(program) {
  const paths = (process.env.PATH ?? '').split(':');
  return paths.some((path) => existsSync(join(path, program)));
}

/** Installs the modules of `directory` when they are missing or not those of its lock file. */
export async function installModules(directory = root) {
  const lockPath = join(directory, 'package-lock.json');
  const wanted = existsSync(lockPath) ? JSON.parse(readFileSync(lockPath, 'utf8')).packages : {};
  const names = Object.keys(wanted).filter((name) => name.startsWith('node_modules/'));
  if (names.length === 0) return;
  const stamp = join(directory, 'node_modules', '.installed-from');
  const digest = createHash('sha256').update(readFileSync(lockPath)).digest('hex');
  const isCurrent =
    (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) ||
    names.every(
      (name) => wanted[name].optional || versionOf(join(directory, name)) === wanted[name].version,
    );
  if (!isCurrent) {
    say(`installing modules (npm ci) in ${relative(root, directory) || 'the repository'}`);
    // stdout of the program to start stays clean: npm's goes to stderr.
    const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
    const code = await run('npm', args, { cwd: directory, stdio: ['ignore', 2, 2] });
    if (code !== 0) fail(`npm ci failed (exit ${code}): the modules are needed to build and run`);
  }
  writeFileSync(stamp, digest);
}

function versionOf(moduleDirectory) {
  try {
    return JSON.parse(readFileSync(join(moduleDirectory, 'package.json'), 'utf8')).version;
  } catch {
    return undefined;
  }
}

/** Builds what changed since the last good build: the programs, and the console's pages. */
export async function build({ force = false } = {}) {
  await buildPrograms(force);
  await buildPages(force);
}

/** Compiles into dist/ when a source is newer, was added or went away since the last good build. */
async function buildPrograms(force) {
  const sources = ['src', 'test', 'bench', 'scripts', 'examples'].flatMap((name) =>
    typescriptIn(join(root, name)),
  );
  const adapters = adapterFolders();
  const adapterSources = adapters.flatMap((folder) => typescriptIn(join(folder, 'src')));
  const stamp = join(root, 'dist', '.built-from');
  const digest = stateOf([...sources, ...adapterSources, join(root, 'tsconfig.json')]);
  if (!force && isBuiltFrom(stamp, digest)) return;
  say('building (tsc)');
  rmSync(stamp, { force: true });
  removeOrphans(sources);
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  // Adapters and examples see the root package as it was built: it comes first.
  for (const project of ['tsconfig.json', ...adapters, 'examples']) {
    // What has not changed is not checked again: a rebuild takes a fraction of the time. The facts
    // stand beside the outputs, so that both go together.
    const output = adapters.includes(project) ? join(project, 'dist') : join(root, 'dist');
    const facts = join(output, project === 'examples' ? '.examples.tsbuildinfo' : '.tsbuildinfo');
    if (force) rmSync(facts, { force: true });
    const args = [compiler, '-p', project, '--incremental', '--tsBuildInfoFile', facts];
    const code = await run(process.execPath, args, { stdio: ['ignore', 2, 2] });
    if (code !== 0) fail('the build failed: see the errors above');
  }
  const bundler = join(root, 'scripts', 'bundle.mjs');
  const code = await run(process.execPath, [bundler], { stdio: ['ignore', 2, 2] });
  if (code !== 0) fail('putting the command together failed: see the errors above');
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, digest);
}

/** Bundles web/ into dist/web when a file of it, or a type that it shares with the server, changed. */
async function buildPages(force) {
  const stamp = join(root, 'dist', '.web-built-from');
  const shared = filesIn(join(root, 'src', 'console', 'api'));
  const digest = stateOf([...filesIn(join(root, 'web')), ...shared]);
  if (!force && isBuiltFrom(stamp, digest)) return;
  say('building the console');
  rmSync(stamp, { force: true });
  const bundler = join(root, 'scripts', 'bundle-web.mjs');
  const code = await run(process.execPath, [bundler], { stdio: ['ignore', 2, 2] });
  if (code !== 0) fail('building the console failed: see the errors above');
  writeFileSync(stamp, digest);
}

/** A digest of the files' names, times and sizes, and of the versions of all modules. */
function stateOf(paths) {
  const state = createHash('sha256');
  for (const path of [...paths, join(root, 'package-lock.json')]) {
    const { mtimeMs, size } = statSync(path);
    state.update(`${relative(root, path)} ${mtimeMs} ${size}\n`);
  }
  return state.digest('hex');
}

function isBuiltFrom(stamp, digest) {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === digest;
}

/** The packages of adapters/. */
function adapterFolders() {
  const folder = join(root, 'adapters');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((path) => existsSync(join(path, 'tsconfig.json')));
}

function typescriptIn(directory) {
  return filesIn(directory).filter((path) => path.endsWith('.ts'));
}

function filesIn(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules') return [];
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesIn(path) : [path];
  });
}

/** Outputs whose source is gone: a deleted test must not run for ever. */
function removeOrphans(sources) {
  const known = new Set(sources.map((path) => relative(root, path).slice(0, -'.ts'.length)));
  // The console's pages are built separately.
  const pages = join(root, 'dist', 'web');
  const visit = (directory) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      // Facts of the compiler and stamps: without them everything is compiled again.
      if (path === pages || entry.name.startsWith('.')) continue;
      if (entry.isDirectory()) visit(path);
      else if (
        !known.has(relative(join(root, 'dist'), path).replace(/(\.d\.ts|\.js\.map|\.js)$/, ''))
      ) {
        rmSync(path);
      }
    }
  };
  if (existsSync(join(root, 'dist'))) visit(join(root, 'dist'));
}

/** Test files below dist/test/<folder>, sorted. */
export function testFiles(folder) {
  const directory = join(root, 'dist', 'test', folder);
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join(directory, name))
    .sort();
}

/** Gets Debian packages when that is possible without a password; true when it worked. */
export function installDebianPackages(packages) {
  if (!has('apt-get')) return false;
  const isRoot = process.getuid?.() === 0;
  if (!isRoot && !(has('sudo') && spawnSync('sudo', ['-n', 'true']).status === 0)) return false;
  const prefix = isRoot ? [] : ['sudo', '-n'];
  const call = (...args) => {
    const [command, ...rest] = [
      ...prefix,
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      'apt-get',
      '-q',
      ...args,
    ];
    return spawnSync(command, rest, { stdio: ['ignore', 'ignore', 2] }).status === 0;
  };
  const install = () => call('install', '-y', '--no-install-recommends', ...packages);
  return install() || (call('update') && install());
}
