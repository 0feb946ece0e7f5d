/**
 * The name that was probably meant by a misspelt one.
 *
 * Cost: the product of the two lengths for each known name; for error texts only.
 */

/** The nearest of the known names, at most `most` letters away; null where there is none. */
export function nearestName(name: string, known: Iterable<string>, most = 3): string | null {
  // A name much longer than any known one is not a misspelling of it.
  if (name.length > 100) return null;
  let best: string | null = null;
  let steps = most + 1;
  for (const each of known) {
    const distance = editDistance(name.toLowerCase(), each.toLowerCase());
    if (distance < steps && distance < each.length) {
      best = each;
      steps = distance;
    }
  }
  return best;
}

/** Levenshtein's distance: letters to insert, delete or replace; swapping two neighbours counts once. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwap ? (before[j - 2] as number) + 1 : replaced;
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, replaced, swapped));
    }
    before = row;
    row = next;
  }
  return row[b.length] as number;
}
