/**
 * An answer in pieces that a chat service takes.
 *
 * Invariants: no piece is longer than `size` UTF-16 units, no character is cut in two, no piece is empty;
 * an answer has at most `count` pieces, and the last one says what was left out. Cost: one walk.
 */

export interface PieceLimits {
  readonly size: number;
  readonly count: number;
}

export function piecesOf(text: string, { size, count }: PieceLimits): string[] {
  const pieces: string[] = [];
  let rest = text;
  while (rest !== '' && pieces.length < count) {
    const isLast = pieces.length === count - 1;
    if (rest.length <= size) {
      pieces.push(rest);
      return pieces.filter((piece) => piece.trim() !== '');
    }
    const note = isLast ? `\n... ${text.length} characters in all, the others were left out` : '';
    const end = cutAt(rest, size - note.length);
    pieces.push(rest.slice(0, end) + note);
    rest = rest.slice(end).replace(/^\n/, '');
  }
  return pieces.filter((piece) => piece.trim() !== '');
}

/** At the last line end in the second half, else anywhere but within a pair of surrogates. */
function cutAt(text: string, size: number): number {
  const line = text.lastIndexOf('\n', size);
  if (line > size / 2) return line;
  const code = text.charCodeAt(size - 1);
  return code >= 0xd800 && code < 0xdc00 ? size - 1 : size;
}
