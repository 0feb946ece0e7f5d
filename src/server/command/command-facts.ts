/**
 * The facts about one command of the server, as a row.
 *
 * COMMAND, COMMAND DOCS, ACL, MULTI, the arity check and the README's table all read these rows; what a
 * command does is beside them in command.ts.
 */

import type { KeySpec } from './key-specs.ts';

/** Redis's own names (COMMAND INFO). */
export type CommandFlag =
  | 'write'
  | 'readonly'
  | 'denyoom'
  | 'admin'
  | 'pubsub'
  | 'noscript'
  | 'blocking'
  | 'loading'
  | 'stale'
  | 'fast'
  | 'no_auth'
  | 'movablekeys'
  | 'no_multi'
  | 'allow_busy'
  | 'skip_monitor'
  | 'skip_slowlog'
  | 'no_async_loading';

export interface CommandFacts {
  /** Lower case; a subcommand's is `xgroup|create`. */
  name: string;
  /** Counts the name itself (and the subcommand's); negative = at least. */
  arity: number;
  flags: readonly CommandFlag[];
  /** Absent = no keys. */
  keys?: KeySpec | readonly KeySpec[];
  /** COMMAND DOCS: group, since and one-line summary, complexity. */
  group:
    | 'stream'
    | 'string'
    | 'generic'
    | 'pubsub'
    | 'transactions'
    | 'connection'
    | 'server'
    | 'scripting'
    | 'cluster';
  since: string;
  summary: string;
  complexity?: string;
  /** ACL categories without @, beyond those that follow from flags and group. */
  categories?: readonly string[];
  /** Containers (XGROUP, CLIENT, CONFIG ...) list their subcommands here. */
  subcommands?: readonly CommandFacts[];
}
