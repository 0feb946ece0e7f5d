/** The reason that travels with a dead letter: an error's text, bounded. */
const LONGEST_REASON = 1000;

export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.slice(0, LONGEST_REASON);
}
