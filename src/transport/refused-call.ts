/** A streaming call that a channel cannot begin: every part of it fails with the reason. */
import type { RivuletError } from '../errors.ts';
import { MessageQueue } from './message-queue.ts';
import type { Call } from './transport.ts';

export function refusedCall(error: RivuletError): Call {
  const refused = Promise.reject(error);
  // A caller that reads only the messages learns of the failure there.
  refused.catch(() => {});
  const messages = new MessageQueue({ limit: 1, onConsumed() {}, onLeave() {} });
  messages.fail(error);
  return {
    head: refused,
    trailers: refused,
    messages,
    send: () => Promise.reject(error),
    end() {},
    cancel() {},
  };
}
