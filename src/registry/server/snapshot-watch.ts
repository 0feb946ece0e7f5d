/**
 * The watch of a registry that can be read as a whole: read, wait for a change, read again.
 *
 * Invariants: those of RegistryWatch; a change between a read and the wait that follows is not missed,
 * because the wait begins at the mark that the read returned. Cost: one comparison for each node after
 * each change; at most one read in `LEAST_BETWEEN_READS_MS`.
 */
import { pause } from '../../util/time/scheduler.ts';
import type { ServiceRecord } from '../registry.ts';
import { RegistryWatch, type RegistryWatchOptions, type WatchProgress } from './registry-watch.ts';

/** Changes that come closer together are one read. */
const LEAST_BETWEEN_READS_MS = 50;

export interface Snapshot<Mark> {
  readonly records: readonly ServiceRecord[];
  /** The position of the registry at the read. */
  readonly mark: Mark;
}

export interface SnapshotWatchOptions<Mark> extends RegistryWatchOptions {
  /** Everything that the registry holds now. */
  readonly read: (signal: AbortSignal) => Promise<Snapshot<Mark>>;
  /** Resolves when the registry may hold something else than at the mark. */
  readonly changed: (mark: Mark, signal: AbortSignal) => Promise<void>;
}

export class SnapshotWatch<Mark> extends RegistryWatch {
  readonly #options: SnapshotWatchOptions<Mark>;

  constructor(options: SnapshotWatchOptions<Mark>) {
    super(options);
    this.#options = options;
  }

  protected async cycle(signal: AbortSignal, progress: WatchProgress): Promise<void> {
    const { read, changed } = this.#options;
    const { records, mark } = await read(signal);
    if (signal.aborted) return;
    this.#replace(records);
    progress.onRead();
    progress.onFollowing();
    await changed(mark, signal);
    await pause(this.scheduler, LEAST_BETWEEN_READS_MS, signal).catch(() => {});
  }

  #replace(records: readonly ServiceRecord[]): void {
    const byName = new Map<string, ServiceRecord[]>();
    for (const record of records) {
      const same = byName.get(record.name);
      if (same === undefined) byName.set(record.name, [record]);
      else same.push(record);
    }
    for (const name of this.table.names()) {
      if (!byName.has(name)) this.table.replace(name, [], Number.POSITIVE_INFINITY);
    }
    for (const [name, same] of byName) {
      this.table.replace(name, same, Number.POSITIVE_INFINITY);
    }
  }
}
