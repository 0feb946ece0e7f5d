/**
 * Streams of which something stored was found to be missing or damaged, noted where no client waits
 * for an error: by a tick, a timer, a retention rule, or the replay of the log.
 *
 * Two degrees. A damaged block fails the commands that need it, and nothing else. A stream whose
 * record could not be replayed is closed: each command on it fails, later records of it are skipped,
 * and no checkpoint is written while it is there, so its records stay in the log. Deleting the key
 * ends both; so does restoring the directory from a backup.
 * Cost: nothing for sound streams.
 */
import { isDamage } from '../../stream/block/block-damage.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';

/** After damage was found, timers skip the stream for this time, ms. */
export const DAMAGE_RETRY_MS = 60_000;

export interface Damage {
  readonly key: Buffer;
  readonly message: string;
}

export class DamagedStreams {
  /** Notified of each stream once. */
  #listener: ((damage: Damage) => void) | null = null;
  readonly #found = new Map<KeyEntry, string>();

  /** The listener is also notified of what was found before. */
  listen(listener: (damage: Damage) => void): void {
    this.#listener = listener;
    for (const [{ key }, message] of this.#found) listener({ key, message });
  }

  /** Damaged streams that are there. */
  get count(): number {
    for (const entry of this.#found.keys()) {
      if (entry.removed || entry.space.flushedEpoch !== -1) this.#found.delete(entry);
    }
    return this.#found.size;
  }

  /** Runs what no client waits for; false when it met damage, which is noted. */
  guard(entry: KeyEntry, run: () => void): boolean {
    try {
      run();
      return true;
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.note(entry, error);
      return false;
    }
  }

  note(entry: KeyEntry, error: Error): void {
    if (this.#found.has(entry)) return;
    this.#found.set(entry, error.message);
    this.#listener?.({ key: entry.key, message: error.message });
  }
}
