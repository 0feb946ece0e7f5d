/**
 * The iid that IDMPAUTO derives from an entry's content.
 */
import type { Arguments } from '../util/arguments.ts';

/** 128 bits of the pairs args[from .. to) as 16 latin1 characters; the order of pairs does not matter. */
export declare function contentHash(args: Arguments, from: number, to: number): string;
