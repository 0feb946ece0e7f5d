/**
 * The connection behind a session, for the commands that are about connections and the server.
 *
 * Every session of a running server is a Connection; only tests of other families make sessions out
 * of something else, and those never run these commands.
 */
import type { Connection } from './connection.ts';
import type { Session } from './session.ts';

export function connectionOf(session: Session): Connection {
  return session as Connection;
}
