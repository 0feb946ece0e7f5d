/**
 * Decompresses LZF, the form in which Redis dumps strings longer than 20 bytes.
 *
 * A control byte below 32 starts a run of literal bytes, one more than it says. Any other is a
 * reference to earlier output: three bits of length (7: one more byte of it), thirteen bits of
 * distance.
 * Invariant: nothing is allocated for a length that the compressed bytes cannot give.
 * Cost: O(output).
 */
const LITERALS = 32;
/** Three bytes of a reference give at most this much output. */
const LONGEST_REFERENCE = 264;

/** Throws RangeError where the bytes are damaged or are not exactly `length` bytes of output. */
export function decompressLzf(source: Buffer, length: number): Buffer {
  if (length > Math.ceil(source.length / 3) * LONGEST_REFERENCE) {
    throw new RangeError(`${source.length} compressed bytes cannot be ${length} bytes of output`);
  }
  const target = Buffer.allocUnsafeSlow(length);
  let at = 0;
  let to = 0;
  while (at < source.length) {
    const control = source[at++];
    if (control < LITERALS) {
      const run = control + 1;
      if (at + run > source.length || to + run > length) throw damaged();
      source.copy(target, to, at, at + run);
      at += run;
      to += run;
      continue;
    }
    let run = control >> 5;
    if (run === 7) {
      if (at >= source.length) throw damaged();
      run += source[at++];
    }
    run += 2;
    if (at >= source.length) throw damaged();
    let from = to - ((control & 31) << 8) - source[at++] - 1;
    if (from < 0 || to + run > length) throw damaged();
    // Byte by byte: the reference may run into what it writes.
    for (const end = to + run; to < end; ) target[to++] = target[from++];
  }
  if (to !== length) throw damaged();
  return target;
}

function damaged(): RangeError {
  return new RangeError('compressed bytes are damaged');
}
