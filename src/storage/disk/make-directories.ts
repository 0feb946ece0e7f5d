/**
 * A directory and those above it, as `mkdir -p` makes them.
 *
 * In place of Node's own, which asks again and again for ever where the system says ENOENT below a directory that
 * is there, as /proc does. Invariant: a directory that is there is no error, and all that is made has the given
 * mode. Cost: one call for each directory that is missing.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

const ANY_MODE = 0o777;

export function makeDirectoriesSync(path: string, mode = ANY_MODE): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (isDirectory(path)) return;
    if (!lacksParent(path, error)) throw error;
    makeDirectoriesSync(dirname(path), mode);
    // What is above it is there now, so this ends.
    makeDirectoriesSync(path, mode);
  }
}

export async function makeDirectories(path: string, mode = ANY_MODE): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (isDirectory(path)) return;
    if (!lacksParent(path, error)) throw error;
    await makeDirectories(dirname(path), mode);
    await makeDirectories(path, mode);
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function lacksParent(path: string, error: unknown): boolean {
  const above = dirname(path);
  return (error as NodeJS.ErrnoException).code === 'ENOENT' && above !== path && !existsSync(above);
}
