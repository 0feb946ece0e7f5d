/**
 * The error of the event `warning` for a message that left its topic before its group had settled it.
 *
 * Every broker that notices such a message reports it with this one, so that a listener needs one test.
 */
import { RivuletError } from '../../errors.ts';

export function trimmed(topic: string, id: string, group: string): RivuletError {
  const text = `message ${id} of ${topic} was trimmed or deleted before group ${group} had settled it: it is not delivered again`;
  return new RivuletError('DELIVERY_LOST', text);
}
