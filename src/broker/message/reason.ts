/** The reason in a dead letter: an error's text, at most LONGEST_REASON characters. Never throws. */
const LONGEST_REASON = 1000;

export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : textOf(error);
  return String(text).slice(0, LONGEST_REASON);
}

/** Objects without a prototype have no text. */
function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}
