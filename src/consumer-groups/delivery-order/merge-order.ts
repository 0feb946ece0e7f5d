/**
 * The order that sorts numbers: a merge sort that starts from the runs it finds.
 *
 * Stable; O(n) for ascending input, O(n log runs) otherwise; three arrays of n numbers.
 */

/** Indices of `keys` in ascending order of their values; equal ones keep their order. */
export function mergeOrder(keys: Float64Array): Uint32Array {
  const n = keys.length;
  let source = new Uint32Array(n);
  for (let i = 0; i < n; i++) source[i] = i;
  let ends = runEnds(keys);
  let target = new Uint32Array(ends.length > 1 ? n : 0);
  while (ends.length > 1) {
    const merged: number[] = [];
    let from = 0;
    for (let run = 0; run < ends.length; run += 2) {
      const middle = ends[run];
      const end = ends[run + 1] ?? middle;
      merge(keys, source, target, from, middle, end);
      merged.push(end);
      from = end;
    }
    [source, target] = [target, source];
    ends = merged;
  }
  return source;
}

function runEnds(keys: Float64Array): number[] {
  const ends: number[] = [];
  for (let i = 1; i < keys.length; i++) if (keys[i] < keys[i - 1]) ends.push(i);
  if (keys.length > 0) ends.push(keys.length);
  return ends;
}

function merge(
  keys: Float64Array,
  source: Uint32Array,
  target: Uint32Array,
  from: number,
  middle: number,
  end: number,
): void {
  let left = from;
  let right = middle;
  for (let at = from; at < end; at++) {
    const takeLeft = left < middle && (right === end || keys[source[left]] <= keys[source[right]]);
    target[at] = source[takeLeft ? left++ : right++];
  }
}
