/**
 * The last values that were read, by their paths: going back shows them at once.
 *
 * Invariants: at most 40; they belong to the user who read them, and are forgotten when another is here.
 */
const KEPT = 40;
const kept = new Map<string, unknown>();

export function keptValue<T>(path: string | null): T | undefined {
  return path === null ? undefined : (kept.get(path) as T | undefined);
}

export function keep(path: string, value: unknown): void {
  kept.delete(path);
  kept.set(path, value);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value as string);
}

export function forgetAll(): void {
  kept.clear();
}
