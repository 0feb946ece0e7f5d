/**
 * Objects that are reused from call to call instead of being made for each: cursors, iterators, buffers.
 *
 * Between two calls such an object still refers to what the last one worked on, and keeps it in memory
 * though it was deleted. So each is registered here, and the engine's tick, which runs between calls,
 * makes all of them let go.
 * Cost: one short loop a tick.
 */
export interface Scratch {
  /** Lets go of what the last call worked on. The object stays usable. */
  release(): void;
}

const registered: Scratch[] = [];

/** Registers an object of a module, which lives as long as the process. */
export function scratch<T extends Scratch>(object: T): T {
  registered.push(object);
  return object;
}

/** As `scratch`, for an object whose properties each call sets again. */
export function scratchRecord<T extends object>(record: T): T {
  registered.push({
    release() {
      for (const name of Object.keys(record)) (record as Record<string, unknown>)[name] = undefined;
    },
  });
  return record;
}

/** Between two calls: nothing that was registered is in use. */
export function releaseScratch(): void {
  for (const object of registered) object.release();
}
