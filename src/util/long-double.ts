/**
 * The numbers of C's `long double` on x86: 64 bits of mantissa, rounded half to even.
 *
 * INCRBYFLOAT and INCREX BYFLOAT of Redis calculate with them and print seventeen digits after the
 * point, so the sum of two doubles would often end in other digits.
 * A value is mantissa * 2^exponent with a mantissa below 2^64; beyond the range it is INFINITE.
 * Cost: a few BigInt operations; thousands of digits at most.
 */
export interface LongDouble {
  readonly mantissa: bigint;
  readonly exponent: number;
}

export const INFINITE = Symbol('infinite');

const BITS = 64;
/** No finite value reaches 2^16384; below 2^-16445 there is only zero. */
const LARGEST_BITS = 16_384;
const SMALLEST_EXPONENT = -16_445;
/** Decimal exponents beyond this are out of range whatever the digits are (at most this many). */
const LONGEST_TEXT = 5 * 1024;
const FAR = 12_000;
const FRACTION_DIGITS = 17;
const SCALE = 10n ** BigInt(FRACTION_DIGITS);

const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i;
const HEXADECIMAL = /^([+-]?)0x([0-9a-f]*)(?:\.([0-9a-f]*))?(?:p([+-]?\d+))?$/i;

/** What strtold makes of the whole text; null where it is no number, or one out of range. */
export function parseLongDouble(text: string): LongDouble | typeof INFINITE | null {
  if (text.length >= LONGEST_TEXT) return null;
  if (/^[+-]?inf(inity)?$/i.test(text)) return INFINITE;
  const hexadecimal = HEXADECIMAL.exec(text);
  const match = hexadecimal ?? DECIMAL.exec(text);
  if (match === null) return null;
  const [, sign, whole, fraction = '', power = '0'] = match;
  if (whole === '' && fraction === '') return null;
  const base = hexadecimal === null ? '' : '0x';
  const digits = BigInt(`${base}${whole}${fraction}`);
  if (digits === 0n) return { mantissa: 0n, exponent: 0 };
  const signed = sign === '-' ? -digits : digits;
  const scale = Number(power) - fraction.length * (hexadecimal === null ? 1 : 4);
  if (Math.abs(scale) > LARGEST_BITS + LONGEST_TEXT * 4) return null;
  const value = hexadecimal === null ? fromDecimal(signed, scale) : rounded(signed, scale, false);
  return value === INFINITE || value.mantissa === 0n ? null : value;
}

export function addLongDoubles(a: LongDouble, b: LongDouble): LongDouble | typeof INFINITE {
  const exponent = Math.min(a.exponent, b.exponent);
  return rounded(aligned(a, exponent) + aligned(b, exponent), exponent, false);
}

export function subtractLongDoubles(a: LongDouble, b: LongDouble): LongDouble | typeof INFINITE {
  return addLongDoubles(a, { mantissa: -b.mantissa, exponent: b.exponent });
}

/** Negative, zero or positive as a is less than, equal to or greater than b. */
export function compareLongDoubles(a: LongDouble, b: LongDouble): number {
  const exponent = Math.min(a.exponent, b.exponent);
  const difference = aligned(a, exponent) - aligned(b, exponent);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** As Redis shows it to people: seventeen digits after the point at most, no zeros at the end. */
export function formatLongDouble(value: LongDouble): string {
  const scaled = shiftedHalfToEven(value.mantissa * SCALE, -value.exponent, false);
  const digits = (scaled < 0n ? -scaled : scaled).toString().padStart(FRACTION_DIGITS + 1, '0');
  const whole = digits.slice(0, -FRACTION_DIGITS);
  const fraction = digits.slice(-FRACTION_DIGITS).replace(/0+$/, '');
  const text = fraction === '' ? whole : `${whole}.${fraction}`;
  // What was too small to show keeps its sign, unless nothing but a zero is left.
  return value.mantissa < 0n && text !== '0' ? `-${text}` : text;
}

function aligned(value: LongDouble, exponent: number): bigint {
  return value.mantissa << BigInt(value.exponent - exponent);
}

function fromDecimal(digits: bigint, power: number): LongDouble | typeof INFINITE {
  if (power > FAR) return INFINITE;
  if (power < -FAR) return { mantissa: 0n, exponent: 0 };
  if (power >= 0) return rounded(digits * 10n ** BigInt(power), 0, false);
  const divisor = 10n ** BigInt(-power);
  // Enough bits that what is cut off only says whether anything was.
  const shift = Math.max(0, bitsOf(divisor) - bitsOf(digits) + BITS + 2);
  const dividend = digits << BigInt(shift);
  return rounded(dividend / divisor, -shift, dividend % divisor !== 0n);
}

/** The nearest value; `more`: something beyond the last bit was cut off already, toward zero. */
function rounded(mantissa: bigint, exponent: number, more: boolean): LongDouble | typeof INFINITE {
  const excess = Math.max(bitsOf(mantissa) - BITS, SMALLEST_EXPONENT - exponent, 0);
  const short = excess === 0 ? mantissa : shiftedHalfToEven(mantissa, excess, more);
  const value = { mantissa: short, exponent: exponent + excess };
  return bitsOf(short) + value.exponent > LARGEST_BITS ? INFINITE : value;
}

/** value / 2^by, rounded to the nearest whole number, and half to even. A negative `by` multiplies. */
function shiftedHalfToEven(value: bigint, by: number, more: boolean): bigint {
  if (by <= 0) return value << BigInt(-by);
  const negative = value < 0n;
  const size = negative ? -value : value;
  const shift = BigInt(by);
  const half = 1n << (shift - 1n);
  const rest = size & ((1n << shift) - 1n);
  let whole = size >> shift;
  if (rest > half || (rest === half && (more || (whole & 1n) === 1n))) whole++;
  return negative ? -whole : whole;
}

function bitsOf(value: bigint): number {
  if (value === 0n) return 0;
  const text = (value < 0n ? -value : value).toString(16);
  return text.length * 4 - Math.clz32(Number.parseInt(text[0], 16)) + 28;
}
