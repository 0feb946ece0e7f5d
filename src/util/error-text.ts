/**
 * The text of whatever was thrown.
 *
 * JavaScript lets code throw anything: objects without `toString`, errors whose message is no text.
 * Invariant: it never throws itself, because it runs where a throw would end the process.
 */
export function errorText(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return 'what was thrown has no text';
  }
}
