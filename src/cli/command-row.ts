/** One row of the table of commands: what is known of a command before its module is loaded. */
import type { Command } from 'commander';
import type { Example } from './examples.ts';

export type CommandGroup = 'messages' | 'services' | 'servers' | 'tools';

export interface CommandRow {
  readonly name: string;
  readonly group: CommandGroup;
  readonly summary: string;
  /** Arguments and options, in short; for the list of commands. */
  readonly usage: string;
  /** The command, for those that commander reads. */
  readonly load?: () => Promise<Command>;
  /** For those without `load`: what completion offers. */
  readonly options?: readonly string[];
  /** What happens when the reader of its output goes away. Default: it ends. */
  readonly withoutReader?: 'orderly' | 'serve';
  /** For those without `load`; the others have theirs with them. */
  readonly examples?: readonly Example[];
  /** Runs it, for those that read their arguments themselves. */
  readonly run?: (args: string[]) => Promise<void>;
}
