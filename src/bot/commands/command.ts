/** A command of the bot: how it is recognised, who may run it, what it answers. Contract only. */
import type { CallClient } from '../../gateway/handlers/call-client.ts';
import type { Registry } from '../../registry/registry.ts';
import type { CommandLine } from '../messages/command-line.ts';

export interface CommandContext {
  readonly registry: () => Promise<Registry>;
  readonly client: CallClient;
  /** Aborts when the command's time is over, or the bot stops. */
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** Unix time in milliseconds. */
  readonly now: () => number;
  /** `usage - description` of every command. */
  readonly help: () => readonly string[];
}

export interface BotCommand {
  /** By it the help is sorted, and the audit names it. */
  readonly name: string;
  readonly usage: string;
  readonly description: string;
  /** Only operators run what may change something. */
  readonly needsOperator: boolean;
  matches(line: CommandLine): boolean;
  /** What it acts on, for the audit: no bodies. */
  target(line: CommandLine): string;
  /** Resolves to the answer. */
  run(line: CommandLine, context: CommandContext): Promise<string>;
}
