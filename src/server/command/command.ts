/**
 * One command of the server: the facts about it, and what it does.
 *
 * A command sees the client that sent it as `S`: most need a Session; those about clients, users or the
 * server need a ClientSession (client-session.ts).
 */

import type { Session } from '../connection/session.ts';
import type { CommandFacts } from './command-facts.ts';
import type { CommandTable } from './command-table.ts';

export type { CommandFlag } from './command-facts.ts';

export interface Command<S extends Session = Session> extends CommandFacts {
  /** A container's subcommands; its own `run` is then unused unless it has one beside them (COMMAND). */
  subcommands?: readonly Command<S>[];
  /**
   * Reads session.args, acts on session.engine, and writes exactly one reply to session.reply, or
   * calls session.block(...) and writes none. Arity, ACL, state and refusal checks are already done.
   */
  run?: (session: S) => void;
}

/** What each entry of a table does, by `CommandEntry.index`. */
export type CommandRunners<S extends Session> = readonly ((session: S) => void)[];

/** The `run` of each row that `table` was built from. */
export function runnersOf<S extends Session>(
  table: CommandTable,
  rows: readonly Command<S>[],
): CommandRunners<S> {
  const runs = new Map<CommandFacts, (session: S) => void>();
  const add = (row: Command<S>): void => {
    if (row.run !== undefined) runs.set(row, row.run);
    for (const sub of row.subcommands ?? []) add(sub);
  };
  for (const row of rows) add(row);
  return table.entries.map(({ row, name }) => runs.get(row) ?? (() => notRunnable(name)));
}

function notRunnable(name: string): never {
  throw new Error(`'${name}' runs nothing itself: it only has subcommands`);
}
