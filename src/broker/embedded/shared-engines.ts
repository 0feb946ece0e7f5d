/**
 * Which embedded brokers of this process share an engine.
 *
 * Invariant: an engine is here exactly while a broker is connected to it. Opening one that is closing
 * waits until it is closed.
 */

import type { DurableEngine } from '../../engine/open-durable-engine.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { EngineHost } from './engine-host.ts';
import { HandOverMarks } from './hand-over-marks.ts';

interface Shared {
  readonly key: string;
  readonly users: Set<object>;
  readonly opening: Promise<EngineHost>;
  closing: Promise<void> | null;
}

const shared = new Map<string, Shared>();
const simulations = new Map<string, () => Promise<DurableEngine>>();
let unnamed = 0;

async function acquire(
  key: string,
  user: object,
  make: () => Promise<EngineHost>,
): Promise<EngineHost> {
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

async function open(make: () => Promise<EngineHost>): Promise<EngineHost> {
  const engine = await make();
  await engine.start();
  return engine;
}

export const SharedEngines = {
  /** An empty name is never shared, nor is an engine on another clock. */
  memory(name: string, scheduler: Scheduler, user: object): Promise<EngineHost> {
    const key = name === '' ? `memory ${unnamed++}` : `memory:${name} ${clockNumber(scheduler)}`;
    return acquire(key, user, async () => new EngineHost(scheduler));
  },

  directory(directory: string, scheduler: Scheduler, user: object): Promise<EngineHost> {
    return acquire(`file:${directory}`, user, async () => {
      const simulated = simulations.get(directory);
      if (simulated !== undefined) return new EngineHost(scheduler, await simulated());
      // Loads LMDB only where a directory is opened.
      const { openStorage } = await import('./embedded-storage.ts');
      const durable = await openStorage(directory, scheduler);
      return new EngineHost(scheduler, durable, HandOverMarks.open(directory));
    });
  },

  /**
   * For simulations: `directory` is opened by `make`, until the returned function is called, which
   * leaves the engine as it is, as the death of its process does.
   */
  simulate(directory: string, make: () => Promise<DurableEngine>): () => void {
    simulations.set(directory, make);
    return () => {
      simulations.delete(directory);
      shared.delete(`file:${directory}`);
    };
  },

  /** Closes the user's engine when it has no other user. */
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
