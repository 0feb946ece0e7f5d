/**
 * What a request or a reply carries on the server: the last arguments of the command that brought it.
 *
 * Invariant: like Arguments, valid during the command only; `payloadRules.keep` makes a copy that lasts.
 * Cost: passing one on copies nothing.
 */
import { Arguments } from '../../util/arguments.ts';
import type { PayloadRules } from './registrations.ts';

export interface Payload {
  readonly args: Arguments;
  /** The first argument of the payload; all later ones belong to it. */
  readonly from: number;
}

export const NO_PAYLOAD: Payload = { args: new Arguments(), from: 0 };

export const payloadRules: PayloadRules<Payload> = {
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
