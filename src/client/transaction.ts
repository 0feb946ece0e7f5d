/**
 * MULTI, the commands, EXEC on a connection that many callers share: all of them, or none.
 *
 * Where a user may not run MULTI, a server runs what follows it command by command. So an empty transaction
 * is sent first, and the commands only after the server has accepted it. Invariant: a rejection means that
 * nothing was executed, but where it says that the commands ran one by one: then the user's rights changed
 * between the two. Cost: one more round trip.
 */
import type { CommandArgument } from './command-encoder.ts';
import { type Reply, ReplyError } from './reply.ts';

type Command = readonly CommandArgument[];

/** DISCARD ends what a refused EXEC leaves open; after an EXEC that ran it is an error, which says nothing. */
const EMPTY: readonly Command[] = [['MULTI'], ['EXEC'], ['DISCARD']];

/** Resolves with EXEC's replies, errors among them. */
export async function runTransaction(
  pipeline: (commands: readonly Command[]) => Promise<Reply[]>,
  commands: readonly Command[],
): Promise<Reply[]> {
  const [begun, executed] = await pipeline(EMPTY);
  for (const reply of [begun, executed]) if (reply instanceof ReplyError) throw reply;
  const replies = await pipeline([['MULTI'], ...commands, ['EXEC']]);
  const result = replies.at(-1) as Reply;
  if (Array.isArray(result)) return result;
  const [first] = replies;
  if (first instanceof ReplyError) {
    const text = `${first.message}; MULTI was refused, so the commands ran one by one`;
    throw Object.assign(new ReplyError(text), { cause: first });
  }
  const cause = replies.find((reply) => reply instanceof ReplyError);
  const error =
    result instanceof ReplyError ? result : new ReplyError('ERR the transaction was not executed');
  throw cause === undefined || cause === error ? error : Object.assign(error, { cause });
}
