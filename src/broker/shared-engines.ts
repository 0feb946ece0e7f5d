/**
 * Which embedded brokers of this process share an engine.
 *
 * Invariant: an engine is here exactly while a broker is connected to it; opening one that is just
 * being closed waits until it is.
 */
import { EmbeddedEngine } from './embedded-engine.ts';
import type { Scheduler } from './scheduler.ts';

interface Shared {
  readonly key: string;
  readonly users: Set<object>;
  readonly opening: Promise<EmbeddedEngine>;
  closing: Promise<void> | null;
}

const shared = new Map<string, Shared>();
let unnamed = 0;

async function acquire(
  key: string,
  user: object,
  make: () => Promise<EmbeddedEngine>,
): Promise<EmbeddedEngine> {
  for (let there = shared.get(key); there?.closing; there = shared.get(key)) {
    await there.closing.catch(() => {});
  }
  let entry = shared.get(key);
  if (entry === undefined) {
    entry = { key, users: new Set(), opening: open(make), closing: null };
    shared.set(key, entry);
  }
  entry.users.add(user);
  try {
    return await entry.opening;
  } catch (error) {
    if (shared.get(key) === entry) shared.delete(key);
    throw error;
  }
}

async function open(make: () => Promise<EmbeddedEngine>): Promise<EmbeddedEngine> {
  const engine = await make();
  await engine.start();
  return engine;
}

export const SharedEngines = {
  /** An empty name is nobody else's. Those on different clocks do not share. */
  memory(name: string, scheduler: Scheduler, user: object): Promise<EmbeddedEngine> {
    const key = name === '' ? `memory ${unnamed++}` : `memory:${name} ${clockNumber(scheduler)}`;
    return acquire(key, user, async () => new EmbeddedEngine(scheduler));
  },

  directory(directory: string, scheduler: Scheduler, user: object): Promise<EmbeddedEngine> {
    return acquire(`file:${directory}`, user, async () => {
      // LMDB is loaded by those who need it.
      const { openStorage } = await import('./embedded-storage.ts');
      return new EmbeddedEngine(scheduler, await openStorage(directory, scheduler));
    });
  },

  /** The user's engine is closed when nobody else uses it. */
  async release(user: object): Promise<void> {
    for (const entry of shared.values()) {
      if (!entry.users.delete(user) || entry.users.size > 0) continue;
      entry.closing = entry.opening
        .then((engine) => engine.close())
        .finally(() => shared.delete(entry.key));
      await entry.closing;
    }
  },
};

const clocks = new WeakMap<Scheduler, number>();
let clockCount = 0;

function clockNumber(scheduler: Scheduler): number {
  let number = clocks.get(scheduler);
  if (number === undefined) {
    number = clockCount++;
    clocks.set(scheduler, number);
  }
  return number;
}
