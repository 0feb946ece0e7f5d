/**
 * Names composed of several parts: different parts always give different names.
 *
 * The length of each part but the last is written before it, so a part is never read as two. No topic
 * and no group contains `#`, so no topic has such a name.
 */

/** `compositeName('leader', group, topic)`: `rivulet#leader#3:abc:orders`. */
export function compositeName(kind: string, ...parts: readonly string[]): string {
  const last = parts.at(-1) ?? '';
  const before = parts.slice(0, -1).map((part) => `${part.length}:${part}:`);
  return `rivulet#${kind}#${before.join('')}${last}`;
}
