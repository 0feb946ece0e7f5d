/**
 * Long work cut into slices, between which the loop serves its clients.
 *
 * Cost: one clock reading each `EVERY` steps.
 */
const SLICE_MS = 2;
const EVERY = 64;

export class Slices {
  #until: number;
  #steps = 0;

  constructor() {
    this.#until = performance.now() + SLICE_MS;
  }

  /** Undefined: go on. Otherwise to be awaited: `const rest = slices.due(); if (rest) await rest;` */
  due(steps = 1): Promise<void> | undefined {
    this.#steps += steps;
    if (this.#steps < EVERY) return undefined;
    this.#steps = 0;
    if (performance.now() < this.#until) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#until = performance.now() + SLICE_MS;
        resolve();
      });
    });
  }
}

/** Sorts by `compare`; equal items keep their order. */
export async function sortInSlices<T>(
  items: readonly T[],
  compare: (a: T, b: T) => number,
): Promise<T[]> {
  const slices = new Slices();
  let runs: T[][] = [];
  for (let at = 0; at < items.length; at += RUN) {
    runs.push(items.slice(at, at + RUN).sort(compare));
    const rest = slices.due(RUN);
    if (rest) await rest;
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let at = 0; at < runs.length; at += 2) {
      const [left, right] = [runs[at]!, runs[at + 1]];
      merged.push(right === undefined ? left : await merge(left, right, compare, slices));
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

/** Two sorted lists as one. */
export async function merge<T>(
  left: readonly T[],
  right: readonly T[],
  compare: (a: T, b: T) => number,
  slices = new Slices(),
): Promise<T[]> {
  const merged: T[] = [];
  let [l, r] = [0, 0];
  while (l < left.length && r < right.length) {
    merged.push(compare(left[l]!, right[r]!) <= 0 ? left[l++]! : right[r++]!);
    const rest = slices.due();
    if (rest) await rest;
  }
  while (l < left.length) {
    merged.push(left[l++]!);
    const rest = slices.due();
    if (rest) await rest;
  }
  while (r < right.length) {
    merged.push(right[r++]!);
    const rest = slices.due();
    if (rest) await rest;
  }
  return merged;
}

const RUN = 512;
