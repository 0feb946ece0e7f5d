/**
 * One process per data directory.
 *
 * Every process that wants the directory listens on its own Unix socket in it, and only then
 * looks for another process: a socket that answers belongs to a live process, one that refuses was
 * left by a dead one and is removed. The kernel closes sockets however a process ends, so nothing is
 * ever left to clean up by hand, process ids may be reused, and containers that share the directory
 * see each other.
 *
 *   DIR/lock-<pid>-<token>
 *
 * Invariant: two never hold the directory. Each listens before it looks, so at least one of two that
 * come at once sees the other; a holder always wins, and of two that are still trying the one with
 * the smaller token. Names are never used twice, so removing a dead one cannot hit a live one.
 * Where the file system has no sockets, they are in the system's temporary directory, in one named
 * after the data directory's device and inode.
 */
import { randomBytes } from 'node:crypto';
import * as fsp from 'node:fs/promises';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, StorageError, systemCode } from '../storage-error.ts';
import { makeDirectories } from './make-directories.ts';

export interface DirectoryLock {
  release(): Promise<void>;
}

const NAME = /^lock-(\d+)-([0-9a-f]{16})$/;
/** How long a live process may take to say whether it holds the directory or only tries to. */
const ANSWER_MS = 1000;
const POLL_MS = 10;
/** The kernel's limit is 108 bytes with the final zero (104 on some systems). */
const MAX_SOCKET_PATH = 100;

/**
 * Takes the directory, creating it where there is none. Rejects with StorageError: DIRECTORY_IN_USE
 * (which names the process), DIRECTORY_NOT_WRITABLE, NOT_A_DIRECTORY.
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  await ensureDirectory(directory);
  const token = randomBytes(8).toString('hex');
  const name = `lock-${process.pid}-${token}`;
  let held = false;
  const place = await openPlace(directory, name, () => (held ? 'held' : 'trying'));
  try {
    for (;;) {
      const others = await livingOthers(place, name);
      const winner = others.find((other) => other.state === 'held') ?? firstBefore(others, token);
      if (winner !== undefined) throw inUse(directory, winner.pid);
      // Those after us in line give way as soon as they look.
      if (others.length === 0) break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  } catch (error) {
    await place.close();
    throw error;
  }
  held = true;
  return { release: () => place.close() };
}

interface Other {
  readonly pid: number;
  readonly token: string;
  readonly state: State;
}

/** 'leaving': it closed its socket while it was being asked, and will be gone or clear next time. */
type State = 'held' | 'trying' | 'leaving';

function firstBefore(others: readonly Other[], token: string): Other | undefined {
  return others.find((other) => other.state === 'trying' && other.token < token);
}

/** The folder of the sockets. Paths through a descriptor keep them short, however deep DIR is. */
interface Place {
  readonly directory: string;
  /** The address of a socket with that name, short enough for the kernel. */
  address(name: string): string;
  close(): Promise<void>;
}

async function openPlace(directory: string, name: string, state: () => string): Promise<Place> {
  try {
    return await listen(directory, name, state);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EACCES' || code === 'EROFS') throw notWritable(directory, error);
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new StorageError('DISK_FULL', `Cannot lock ${directory}: ${describe(error)}.`, {
        file: directory,
        cause: error,
      });
    }
    const { dev, ino } = await fsp.stat(directory);
    const elsewhere = path.join(os.tmpdir(), `rivulet-lock-${dev}-${ino}`);
    await makeDirectories(elsewhere);
    return listen(elsewhere, name, state);
  }
}

async function listen(directory: string, name: string, state: () => string): Promise<Place> {
  const handle =
    process.platform === 'linux' && Buffer.byteLength(`${directory}/${name}`) > MAX_SOCKET_PATH
      ? await fsp.open(directory, 'r')
      : null;
  const prefix = handle === null ? directory : `/proc/self/fd/${handle.fd}`;
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`${state()}\n`);
  });
  try {
    // A socket that is bound and does not listen yet would pass for a dead one: it gets its name
    // only when it answers.
    const early = `new${name.slice(name.lastIndexOf('-'))}`;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`${prefix}/${early}`, resolve);
    });
    await fsp.rename(`${directory}/${early}`, `${directory}/${name}`);
  } catch (error) {
    server.close();
    await handle?.close();
    throw error;
  }
  // The lock ends with the process; it does not keep the process running.
  server.unref();
  return {
    directory,
    address: (other) => `${prefix}/${other}`,
    async close() {
      // A name that cannot be removed is that of a dead socket when the server is closed: it locks nothing.
      await fsp.rm(`${directory}/${name}`, { force: true }).catch(() => {});
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await handle?.close();
    },
  };
}

async function livingOthers(place: Place, own: string): Promise<Other[]> {
  const others: Other[] = [];
  for (const name of await fsp.readdir(place.directory)) {
    const match = NAME.exec(name);
    if (match === null || name === own) continue;
    const state = await ask(place.address(name));
    if (state === 'dead') await fsp.rm(`${place.directory}/${name}`, { force: true });
    else others.push({ pid: Number(match[1]), token: match[2], state });
  }
  return others;
}

/** A process that lives and does not answer is taken to hold the directory: it may be stopped. */
function ask(address: string): Promise<State | 'dead'> {
  return new Promise((resolve) => {
    const socket = net.connect(address);
    let answer = '';
    const finish = (state: State | 'dead'): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(state);
    };
    const timer = setTimeout(() => finish('held'), ANSWER_MS);
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      answer += text;
    });
    socket.on('end', () => {
      const word = answer.trim();
      finish(word === 'held' || word === 'trying' ? word : 'leaving');
    });
    socket.on('error', (error) => {
      const code = systemCode(error);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') finish('dead');
      else finish(code === 'ECONNRESET' || code === 'EPIPE' ? 'leaving' : 'held');
    });
  });
}

async function ensureDirectory(directory: string): Promise<void> {
  try {
    await makeDirectories(directory);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST' || code === 'ENOTDIR') throw notADirectory(directory, error);
    throw notWritable(directory, error);
  }
  try {
    await fsp.access(directory, fsp.constants.R_OK | fsp.constants.W_OK | fsp.constants.X_OK);
  } catch (error) {
    throw notWritable(directory, error);
  }
}

function notADirectory(directory: string, cause: unknown): StorageError {
  return new StorageError(
    'NOT_A_DIRECTORY',
    `${directory} is not a directory. Choose another data directory.`,
    { file: directory, cause },
  );
}

function notWritable(directory: string, cause: unknown): StorageError {
  return new StorageError(
    'DIRECTORY_NOT_WRITABLE',
    `The data directory ${directory} cannot be written: ${describe(cause)}. ` +
      'Give this user the right to write there, or choose another directory.',
    { file: directory, cause },
  );
}

function inUse(directory: string, pid: number): StorageError {
  return new StorageError(
    'DIRECTORY_IN_USE',
    `The data directory ${directory} is in use by process ${pid}. Stop that one first, or choose ` +
      'another directory.',
    { file: directory },
  );
}
