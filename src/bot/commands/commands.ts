/**
 * From a text to its answer: the first built-in command that matches, else a service's.
 *
 * Invariants: a command that needs an operator runs for operators only, after its intent is in the audit;
 * every other command is in the audit once it has run; what is no command has no answer. An answer comes
 * within the time of a command, also where its work does not end. Cost: that of the command.
 */
import type { Audit, AuditedAction } from '../../broker/audit.ts';
import { RivuletError } from '../../errors.ts';
import type { CallClient } from '../../gateway/handlers/call-client.ts';
import type { Registry } from '../../registry/registry.ts';
import { ServiceError } from '../../rpc/service-error.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { type IncomingText, shownSender } from '../inputs/input.ts';
import { CommandLine } from '../messages/command-line.ts';
import type { Permissions } from '../permissions.ts';
import { BUILT_IN } from './built-in.ts';
import type { BotCommand, CommandContext } from './command.ts';
import type { ServiceCommands } from './service-commands.ts';

/** Entries of the audit that may wait for the broker; further ones are left out. */
const MAX_NOTES = 1000;

export interface CommandsSetup {
  readonly registry: () => Promise<Registry>;
  readonly client: CallClient;
  readonly scheduler: Scheduler;
  readonly services: ServiceCommands;
  readonly audit: Audit;
  readonly permissions: Permissions;
  readonly timeoutMs: number;
  /** Aborts when the bot stops. */
  readonly closing: AbortSignal;
}

export class Commands {
  readonly #setup: CommandsSetup;
  #notes = 0;

  constructor(setup: CommandsSetup) {
    this.#setup = setup;
  }

  /** Null for what is no command. Never rejects. */
  async answer(message: IncomingText): Promise<string | null> {
    const line = new CommandLine(message.text);
    const command = BUILT_IN.find((each) => each.matches(line)) ?? this.#serviceCommand(line);
    if (command === null) return null;
    try {
      return await this.#run(command, line, message);
    } catch (error) {
      return `error executing cmd: ${textOf(error)}`;
    }
  }

  #serviceCommand(line: CommandLine): BotCommand | null {
    const { services, timeoutMs } = this.#setup;
    const service = services.serviceOf(line.name);
    if (service === null) return null;
    return {
      name: line.name,
      usage: '',
      description: '',
      needsOperator: true,
      matches: () => true,
      target: () => `${service} Command.Exec`,
      run: (_line, { signal }) => services.exec(service, line.values, { timeoutMs, signal }),
    };
  }

  async #run(command: BotCommand, line: CommandLine, message: IncomingText): Promise<string> {
    const { audit, permissions } = this.#setup;
    const action: AuditedAction = {
      user: shownSender(message.sender),
      address: message.place,
      verb: `bot.${command.name}`,
      target: command.target(line),
      count: 1,
      reason: '',
    };
    if (!command.needsOperator) {
      const answer = this.#inTime((context) => command.run(line, context));
      answer.then(
        () => this.#note(action, 'done', ''),
        (error) => this.#note(action, 'failed', textOf(error)),
      );
      return answer;
    }
    if (!permissions.isOperator(message.sender)) {
      const text = `${command.name} is for operators, and ${action.user} is none`;
      this.#note(action, 'refused', text);
      throw new RivuletError('PERMISSION_DENIED', text);
    }
    return this.#inTime((context) =>
      audit.record(action, async () => {
        // The broker may have taken the intent when the time was over.
        context.signal.throwIfAborted();
        return command.run(line, context);
      }),
    );
  }

  /** Rejects when the time is over or the bot stops, whether or not the work then ends. */
  async #inTime(work: (context: CommandContext) => Promise<string>): Promise<string> {
    const { registry, client, scheduler, services, timeoutMs, closing } = this.#setup;
    const ending = new AbortController();
    const { signal } = ending;
    const unwatch = onAbort(closing, () => ending.abort(closing.reason));
    const cancel = scheduler.after(timeoutMs, () => {
      ending.abort(new RivuletError('TIMEOUT', `it took longer than ${timeoutMs} ms`));
    });
    const ended = new Promise<never>((_resolve, reject) => {
      onAbort(signal, () => reject(signal.reason));
    });
    const help = () => [
      ...BUILT_IN.map(({ usage, description }) => `${usage} - ${description}`),
      ...services.help,
    ];
    const now = () => scheduler.now();
    try {
      const context = { registry, client, signal, timeoutMs, now, help };
      return await Promise.race([work(context), ended]);
    } finally {
      cancel();
      unwatch();
    }
  }

  /** Not awaited: what changes nothing is answered also where the broker is away. */
  #note(action: AuditedAction, phase: 'done' | 'failed' | 'refused', text: string): void {
    if (this.#notes >= MAX_NOTES) return;
    this.#notes++;
    void this.#setup.audit.note(action, phase, text).finally(() => this.#notes--);
  }
}

function textOf(error: unknown): string {
  if (error instanceof ServiceError) return error.detail;
  return error instanceof Error ? error.message : String(error);
}
