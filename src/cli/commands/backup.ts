/**
 * `micro backup DIR` and `micro restore DIR`: the data of a running server, copied and put back.
 *
 * Runs on the server's machine. Order: the log's segments, then LMDB's own snapshot of the checkpoint,
 * then what the log has gained since; the last frame may be torn, as after a crash. Invariants: the copy
 * holds everything that was acknowledged before the backup began; it is replayed as a start would before
 * it counts, and each file's digest is in its manifest; the server is not stopped and not slowed by locks;
 * nothing is restored over data that is there.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { copyFile, open, readdir, readlink, rename, rm, writeFile } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { Command } from 'commander';
import type { Client } from '../../client/client.ts';
import { RIVULET_VERSION } from '../../server/version.ts';
import { makeDirectories } from '../../storage/disk/make-directories.ts';
import { CHECKPOINT_DIRECTORY, FORMAT_FILE } from '../../storage/store.ts';
import { type BrokerFlags, brokerAddress, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { CommandFailure, usage } from '../exit-code.ts';
import { Progress } from '../printing/progress.ts';
import { examineDirectory } from '../server/examine-directory.ts';
import { factsOf, onStreamServer } from '../stream-server.ts';

const MANIFEST = 'manifest.json';
const SEGMENT = /^log-(\d{20})\.rlog$/;
const ATTEMPTS = 3;

interface Manifest {
  readonly rivulet: string;
  readonly time: string;
  /** Paths relative to the backup, with `/`. */
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

export function backupCommand(): Command {
  const command = new Command('backup')
    .description('copy the data of the running server on this machine, and verify the copy')
    .argument('<directory>', 'where the backup goes; it must not exist yet')
    .option('--dir <path>', 'the data directory (default: the server is asked)');
  withBroker(command).action(backup);
  return withExamples(command, [
    {
      line: 'micro backup backup-1 --broker rivulet://127.0.0.1:7488',
      says: 'while the server serves',
    },
  ]);
}

export function restoreCommand(): Command {
  const command = new Command('restore')
    .description('make a data directory of a backup, for a server that is then started on it')
    .argument('<directory>', 'the backup')
    .requiredOption('--dir <path>', 'the data directory; it must be empty or not exist')
    .option('--json', 'print JSON')
    .action(restore);
  return withExamples(command, [
    { line: 'micro restore backup-1 --dir restored', says: 'then: micro server --dir restored' },
  ]);
}

async function backup(directory: string, flags: BrokerFlags & { dir?: string }): Promise<void> {
  const target = resolve(directory);
  if (existsSync(target)) throw usage(`${target} is there already: name a new directory`);
  const source = resolve(flags.dir ?? (await serverDirectory(flags)));
  if (!existsSync(join(source, FORMAT_FILE))) {
    throw usage(
      `${source} is no data directory on this machine: run micro backup where the server runs`,
    );
  }
  const partial = `${target}.partial-${process.pid}`;
  const progress = new Progress('backing up');
  try {
    for (let attempt = 1; ; attempt++) {
      await rm(partial, { recursive: true, force: true });
      await copyData(source, partial, progress);
      const { sound, reason } = await examineDirectory(partial);
      if (sound) break;
      // A checkpoint that came between the two readings of the log.
      if (attempt === ATTEMPTS) throw new CommandFailure(`the copy is not whole: ${reason}`);
    }
    const manifest = await manifestOf(partial);
    await writeFile(join(partial, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    await syncAll(partial);
    await rename(partial, target);
    progress.end();
    await outputOf(flags).facts({ backup: target, ...sizes(manifest), verified: true });
  } finally {
    progress.end();
    await rm(partial, { recursive: true, force: true });
  }
}

async function serverDirectory(flags: BrokerFlags): Promise<string> {
  return onStreamServer(brokerAddress(flags), 'micro backup', async (client: Client) => {
    const facts = factsOf(await client.call('CONFIG', 'GET', 'dir'));
    const settings = factsOf(await client.call('CONFIG', 'GET', 'appendonly'));
    if (String(settings.appendonly) === 'no') {
      throw new CommandFailure('the server keeps nothing on disk: appendonly is no');
    }
    const info = String(await client.call('INFO', 'server'));
    const pid = /^process_id:(\d+)/m.exec(info)?.[1] ?? '';
    const directory = await wholePath(String(facts.dir ?? ''), pid);
    const holders = (await readdir(directory).catch(() => [])).flatMap(
      (name) => /^lock-(\d+)-/.exec(name)?.[1] ?? [],
    );
    if (holders.length === 0 || holders.includes(pid)) return directory;
    throw usage(
      `${directory} is here the data of another server (process ${holders[0]}): run micro backup where the server runs, or give --dir`,
    );
  });
}

/** A server that was started with a path relative to its own directory: the system knows that one. */
async function wholePath(directory: string, pid: string): Promise<string> {
  if (isAbsolute(directory)) return directory;
  try {
    return resolve(await readlink(`/proc/${pid}/cwd`), directory);
  } catch {
    throw usage(`the server says that its data is in ${directory}: give --dir with the whole path`);
  }
}

async function copyData(source: string, target: string, progress: Progress): Promise<void> {
  await makeDirectories(join(target, CHECKPOINT_DIRECTORY), 0o700);
  await copyFile(join(source, FORMAT_FILE), join(target, FORMAT_FILE));
  await copySegments(source, target, progress);
  await copyCheckpoint(join(source, CHECKPOINT_DIRECTORY), join(target, CHECKPOINT_DIRECTORY));
  const present = await copySegments(source, target, progress);
  // Segments that the server has removed belong to checkpoints before the one that was copied, or to it.
  const oldest = [...present].sort()[0];
  for (const name of await readdir(target)) {
    if (SEGMENT.test(name) && oldest !== undefined && name < oldest) await rm(join(target, name));
  }
}

async function copySegments(source: string, target: string, progress: Progress): Promise<string[]> {
  const names = (await readdir(source)).filter((name) => SEGMENT.test(name)).sort();
  const copied: string[] = [];
  for (const [index, name] of names.entries()) {
    try {
      await copyFile(join(source, name), join(target, name));
      copied.push(name);
    } catch (error) {
      // Removed after a checkpoint.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    progress.show(index + 1, names.length, 'segments');
  }
  return copied;
}

/** LMDB's own copy: a snapshot of one transaction, while the server goes on writing. */
async function copyCheckpoint(source: string, target: string): Promise<void> {
  if (!existsSync(join(source, 'data.mdb'))) return;
  const lmdb = await import('lmdb');
  const environment = lmdb.open({ path: source, noSubdir: false, readOnly: true, maxDbs: 1 });
  try {
    await environment.backup(target, false);
  } finally {
    await environment.close();
  }
}

async function restore(directory: string, flags: { dir: string; json?: boolean }): Promise<void> {
  const source = resolve(directory);
  const target = resolve(flags.dir);
  const manifest = readManifest(source);
  if (existsSync(target) && !statSync(target).isDirectory()) {
    throw usage(`${target} is no directory`);
  }
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw usage(`${target} is not empty: nothing is restored over what is there`);
  }
  const progress = new Progress('restoring');
  const partial = `${target}.partial-${process.pid}`;
  try {
    const files = Object.entries(manifest.files);
    for (const [index, [name, { sha256 }]] of files.entries()) {
      if (name.split('/').some((part) => part === '..' || part === '')) {
        throw new CommandFailure(
          `${source} is no backup: its manifest names ${JSON.stringify(name)}`,
        );
      }
      const from = join(source, name);
      if (!existsSync(from)) throw new CommandFailure(`the backup is damaged: ${name} is missing`);
      if ((await digestOf(from)) !== sha256) {
        throw new CommandFailure(`the backup is damaged: ${name} is not what was backed up`);
      }
      await makeDirectories(join(partial, name, '..'), 0o700);
      await copyFile(from, join(partial, name));
      progress.show(index + 1, files.length, 'files');
    }
    const { sound, reason } = await examineDirectory(partial);
    if (!sound) throw new CommandFailure(`a server could not start from the backup: ${reason}`);
    await syncAll(partial);
    if (existsSync(target)) await rm(target, { recursive: true });
    await rename(partial, target);
    progress.end();
    const { bytes } = sizes(manifest);
    await outputOf(flags).facts({ restored: target, of: manifest.time, bytes, verified: true });
  } finally {
    progress.end();
    await rm(partial, { recursive: true, force: true });
  }
}

function readManifest(directory: string): Manifest {
  try {
    const manifest = JSON.parse(readFileSync(join(directory, MANIFEST), 'utf8')) as Manifest;
    if (typeof manifest.files === 'object' && manifest.files !== null) return manifest;
    throw new Error('it names no files');
  } catch (error) {
    throw usage(`${directory} is no whole backup: ${(error as Error).message}`);
  }
}

async function manifestOf(directory: string): Promise<Manifest> {
  const files: Record<string, { bytes: number; sha256: string }> = {};
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  for (const name of names.sort()) {
    const path = join(directory, name);
    if (!statSync(path).isFile() || /(^|[\\/])lock/.test(name)) continue;
    files[name.replaceAll('\\', '/')] = {
      bytes: statSync(path).size,
      sha256: await digestOf(path),
    };
  }
  return { rivulet: RIVULET_VERSION, time: new Date().toISOString(), files };
}

function sizes({ files }: Manifest): { files: number; bytes: number } {
  const all = Object.values(files);
  return { files: all.length, bytes: all.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** Every file and directory is on disk, so that the copy counts also after a loss of power. */
async function syncAll(directory: string): Promise<void> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  for (const path of [...names.map((name) => join(directory, name)), directory]) {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}
