/**
 * Whole numbers of 64 bits that clients give and read back: a double where it is exact, a bigint beyond.
 *
 * Invariant: a value from -2^53 to 2^53 is a number, any other a bigint; so `===`, `<` and `>` between
 * two of them are exact. Sums beyond 2^63 are not cut: a reply shows them as C does (`signed64`).
 * Cost: a compare and an addition for numbers; nothing is allocated below 2^53.
 */
export type Whole = number | bigint;

const EXACT = Number.MAX_SAFE_INTEGER;

/** The form that the invariant asks for. */
export function toWhole(value: bigint): Whole {
  return value >= -BigInt(EXACT) && value <= BigInt(EXACT) ? Number(value) : value;
}

export function plus(one: Whole, other: Whole): Whole {
  if (typeof one === 'number' && typeof other === 'number') {
    const sum = one + other;
    if (sum <= EXACT && sum >= -EXACT) return sum;
  }
  return toWhole(BigInt(one) + BigInt(other));
}

export function minus(one: Whole, other: Whole): Whole {
  if (typeof one === 'number' && typeof other === 'number') {
    const difference = one - other;
    if (difference <= EXACT && difference >= -EXACT) return difference;
  }
  return toWhole(BigInt(one) - BigInt(other));
}

export function least(one: Whole, other: Whole): Whole {
  return other < one ? other : one;
}

/** As a signed 64-bit number, which is how Redis replies its unsigned counts. */
export function signed64(value: Whole): Whole {
  return typeof value === 'number' ? value : BigInt.asIntN(64, value);
}
