/**
 * How the entries of a block are laid out.
 *
 *     fields    count, then (length, name) of each field of the first entry
 *     entry     header [ms-delta] [seq] body-length body
 *     header    bit 7 tombstone, bit 6 "fields of its own", bits 0-5 how the id follows from the
 *               previous entry's (below)
 *     body      (length, value)... when its fields are the block's;
 *               count, (length, field, length, value)... when they are its own.
 *               The last value has no length: it ends with the body.
 *
 *     id code   0      same ms, seq + 1
 *               1      same ms, seq + varint
 *               2..61  ms + code - 1, seq 0
 *               62     ms + varint, seq 0
 *               63     ms + varint, seq = varint
 *
 * All numbers are varints. The first entry is code 0 after an imagined one just before it. An entry
 * of one 32-byte value thus takes 34 bytes. Tombstones are marked in place and keep their bytes.
 */

/** Bit 7 of an entry's header. */
export const TOMBSTONE = 0x80;
/** Bit 6 of an entry's header. */
export const OWN_FIELDS = 0x40;
/** Bits 0 to 5 of an entry's header. */
export const ID_CODE = 0x3f;
/** The largest ms delta that fits the header. */
export const MAX_SHORT_MS_DELTA = 60;
