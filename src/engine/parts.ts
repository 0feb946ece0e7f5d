/**
 * What a request or a reply carries on the server: the last arguments of the command that brought it.
 *
 * Invariant: like Arguments, valid during the command only; `keepParts` makes a copy that lasts.
 * Cost: handing one on copies nothing.
 */
import { Arguments } from '../util/arguments.ts';
import type { PayloadRules } from './responders.ts';

export interface Parts {
  readonly args: Arguments;
  /** The first argument that is one of them; all from there on are. */
  readonly from: number;
}

export const NO_PARTS: Parts = { args: new Arguments(), from: 0 };

export const partsRules: PayloadRules<Parts> = {
  keep({ args, from }) {
    const kept = new Arguments();
    let size = 0;
    for (let i = from; i < args.count; i++) size += args.lengths[i];
    kept.buffer = Buffer.allocUnsafeSlow(size);
    let at = 0;
    for (let i = from; i < args.count; i++) {
      const start = args.offsets[i];
      args.buffer.copy(kept.buffer, at, start, start + args.lengths[i]);
      kept.push(at, args.lengths[i]);
      at += args.lengths[i];
    }
    return { args: kept, from: 0 };
  },
  size({ args, from }) {
    let size = 0;
    for (let i = from; i < args.count; i++) size += args.lengths[i];
    return size;
  },
};
