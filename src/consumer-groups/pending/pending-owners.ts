/** The consumer column of a pending entry that no consumer has. */

/** Consumer index of an entry that XNACK released. */
export const UNOWNED = 0xffff_fffe;
/** Consumer index of an entry that waits for its retry: no consumer's; its time is when its delay ends. */
export const DELAYED = 0xffff_fffd;
/**
 * Consumer index of an entry that is to become a dead letter and could not yet, as the destination
 * holds something other than a stream: no consumer's; its time is when it was given back.
 */
export const AWAITING_DEAD_LETTER = 0xffff_fffc;
/** The entry was removed. */
export const HOLE = 0xffff_ffff;
