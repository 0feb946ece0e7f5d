/** Values of other formats as JSON has them. Cost: one copy. */

const DEEPEST = 200;

/** Values of other formats as JSON has them: big integers and bytes as text. */
export function plain(value: unknown, depth: number): unknown {
  if (depth > DEEPEST) throw new Error(`it is more than ${DEEPEST} levels deep`);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value !== 'object' || value === null) return value === undefined ? null : value;
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? String(value) : value.toISOString();
  }
  if (value instanceof Uint8Array) return `base64:${Buffer.from(value).toString('base64')}`;
  if (Array.isArray(value)) return value.map((each) => plain(each, depth + 1));
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  // One that is called __proto__ is a name like any other.
  return Object.fromEntries(entries.map(([name, each]) => [String(name), plain(each, depth + 1)]));
}
