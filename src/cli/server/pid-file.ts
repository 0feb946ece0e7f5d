/**
 * The file that `pidfile` names: written when the server is ready, removed however it ends in order.
 */
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';

/** Returns what removes it again. An empty path means none. Throws where it cannot be written. */
export function writePidFile(path: string): () => void {
  if (path === '') return () => {};
  writeFileSync(path, `${process.pid}\n`);
  return () => {
    try {
      // Another server may have taken the path since.
      if (readFileSync(path, 'utf8') === `${process.pid}\n`) unlinkSync(path);
    } catch {
      // It was removed already.
    }
  };
}
