/** A name or address in a cell: long ones may break anywhere, short ones stay whole. */
import { visible } from '../state/format.ts';

const LONG = 32;

export function Code({ of }: { of: string }) {
  return <code class={of.length > LONG ? 'long' : 'whole'}>{visible(of)}</code>;
}
