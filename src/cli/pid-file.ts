/**
 * The file that `pidfile` names: written when the server is ready, removed when it ends.
 */
import { unlinkSync, writeFileSync } from 'node:fs';

/** Returns what removes it again. An empty path means none. */
export function writePidFile(path: string): () => void {
  if (path === '') return () => {};
  writeFileSync(path, `${process.pid}\n`);
  return () => {
    try {
      unlinkSync(path);
    } catch {
      // Somebody was quicker.
    }
  };
}
