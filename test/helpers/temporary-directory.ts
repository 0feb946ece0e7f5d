/**
 * A directory that exists as long as a test needs it.
 *
 * Removed by `await using`, by hand, or at the latest when the process exits.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const directories = new Set<string>();

process.on('exit', () => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

export function temporaryDirectory(label = 'test'): TemporaryDirectory {
  const path = mkdtempSync(join(tmpdir(), `rivulet-${label}-`));
  directories.add(path);
  return {
    path,
    async [Symbol.asyncDispose]() {
      rmSync(path, { recursive: true, force: true });
      directories.delete(path);
    },
  };
}
