/**
 * The sessions that WATCH keys of one database, missing keys included.
 *
 * Invariant: KeyEntry.watchers is the number of watchers of an existing key, so that a write to a key
 * no session watches costs one compare. A watcher once dirty stays dirty until it forgets its keys.
 * Source: Redis 7.0 multi.c.
 */
export interface Watcher {
  /** A watched key was changed: EXEC will answer null. */
  dirty: boolean;
}

export class Watches {
  private readonly byKey = new Map<string, Set<Watcher>>();

  get size(): number {
    return this.byKey.size;
  }

  /** False when this watcher watches the key already. */
  add(key: Buffer, watcher: Watcher): boolean {
    const name = key.toString('latin1');
    const watchers = this.byKey.get(name);
    if (watchers === undefined) {
      this.byKey.set(name, new Set([watcher]));
      return true;
    }
    if (watchers.has(watcher)) return false;
    watchers.add(watcher);
    return true;
  }

  remove(key: Buffer, watcher: Watcher): void {
    const name = key.toString('latin1');
    const watchers = this.byKey.get(name);
    if (watchers === undefined) return;
    watchers.delete(watcher);
    if (watchers.size === 0) this.byKey.delete(name);
  }

  count(key: Buffer): number {
    if (this.byKey.size === 0) return 0;
    return this.byKey.get(key.toString('latin1'))?.size ?? 0;
  }

  /** The key was changed, created or removed. */
  dirty(key: Buffer): void {
    const watchers = this.byKey.get(key.toString('latin1'));
    if (watchers === undefined) return;
    for (const watcher of watchers) watcher.dirty = true;
  }

  /** Every watched key, for FLUSHALL and SWAPDB. */
  *keys(): Generator<Buffer> {
    for (const name of this.byKey.keys()) yield Buffer.from(name, 'latin1');
  }
}
