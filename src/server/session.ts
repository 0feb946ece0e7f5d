/**
 * What a command sees of the connection that sent it.
 *
 * connection.ts implements it over a socket; tests implement it over nothing.
 */
import type { Database } from '../engine/database.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arguments } from '../util/arguments.ts';
import type { Reply } from './reply.ts';

export interface Session {
  readonly id: number;
  readonly engine: Engine;
  /** The selected database. */
  database: Database;
  /** The command being run; argument 0 is its name. Valid until `run` returns. */
  args: Arguments;
  readonly reply: Reply;
  /** Inside EXEC: blocking commands must answer as if the timeout had passed at once. */
  readonly denyBlocking: boolean;
  /**
   * Suspends the connection until `retry` returns true (it then has written its reply), the deadline
   * passes (`timedOut` writes the reply) or the wait is broken (`broken` writes the error).
   */
  block(wait: BlockingWait): void;
}

export interface BlockingWait {
  readonly database: Database;
  readonly keys: readonly Buffer[];
  /** engine.now-based unix ms; Infinity = forever. */
  readonly deadline: number;
  /**
   * Runs the command again (session.args is a kept copy). True when it replied (data or error);
   * false to go on waiting, keeping deadline and place in line.
   */
  retry(session: Session): boolean;
  timedOut(session: Session): void;
}
