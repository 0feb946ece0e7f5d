/**
 * Names that are made of several: different parts always give different names.
 *
 * The length of each part but the last stands before it, so no part can pretend to be two; and the
 * `#` can be in no topic and in no group, so no topic has such a name.
 */

/** `compositeName('leader', group, topic)`: `rivulet#leader#3:abc:orders`. */
export function compositeName(kind: string, ...parts: readonly string[]): string {
  const last = parts.at(-1) ?? '';
  const before = parts.slice(0, -1).map((part) => `${part.length}:${part}:`);
  return `rivulet#${kind}#${before.join('')}${last}`;
}
