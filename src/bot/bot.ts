/**
 * `micro bot`: commands of a chat, answered by the registry and by services.
 *
 *   const bot = await startBot({ inputs: ['slack'], slack: { token, appToken }, allow: ['slack:U1'] });
 *
 * Invariants: a user who is in no list gets no answer; what changes something runs for operators only, and
 * only when its intent is in the audit; at most `concurrency` commands run, each until `timeoutMs`; an
 * input that is cut is opened again, with pauses that double; no token is in the log or in an answer.
 * Cost: one object per command.
 */
import { AUDIT_MAX_LENGTH, AUDIT_TOPIC, Audit } from '../broker/audit.ts';
import { RivuletError } from '../errors.ts';
import { CallClient } from '../gateway/handlers/call-client.ts';
import { type Log, quietLog } from '../rpc/context.ts';
import { leaveWithin } from '../service/leave.ts';
import { Nouns } from '../service/nouns.ts';
import { pause, type Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Commands } from './commands/commands.ts';
import { ServiceCommands } from './commands/service-commands.ts';
import {
  type IncomingText,
  type Input,
  InputRefused,
  type OpenInput,
  shownSender,
} from './inputs/input.ts';
import { inputOf } from './inputs/open-input.ts';
import { piecesOf } from './messages/pieces.ts';
import { type Redact, redactedLog, redactor } from './messages/redaction.ts';
import { type BotOptions, checkBotOptions } from './options.ts';
import { Permissions } from './permissions.ts';
import { WorkQueue } from './work-queue.ts';

const MAX_TEXT = 65_536;
const REOPEN_MS = 1000;
const LONGEST_REOPEN_MS = 60_000;
const REPLY_TIMEOUT_MS = 60_000;
const MAX_STRANGERS = 1000;

/**
 * Resolves when every input is open, or cannot be reached yet. Rejects with INVALID_ARGUMENT,
 * ADAPTER_MISSING for a library that is not installed, AUTHENTICATION_FAILED for a token that is refused.
 */
export async function startBot(options: BotOptions): Promise<Bot> {
  checkBotOptions(options);
  const permissions = new Permissions(options.allow ?? [], options.operators ?? []);
  const { slack, discord, telegram, scheduler = systemScheduler } = options;
  const redact = redactor([slack?.token, slack?.appToken, discord?.token, telegram?.token]);
  const log = redactedLog(options.log ?? quietLog, redact);
  const inputs: Input[] = [];
  for (const name of options.inputs) inputs.push(await inputOf(name, options, { scheduler, log }));
  const bot = new Bot({ options, inputs, permissions, redact, log, scheduler });
  try {
    await bot.start();
  } catch (error) {
    await bot.stop();
    if (!(error instanceof Error)) throw error;
    error.message = redact(error.message);
    throw error;
  }
  return bot;
}

interface BotSetup {
  readonly options: BotOptions;
  readonly inputs: readonly Input[];
  readonly permissions: Permissions;
  readonly redact: Redact;
  readonly log: Log;
  readonly scheduler: Scheduler;
}

export class Bot implements AsyncDisposable {
  readonly #setup: BotSetup;
  readonly #nouns: Nouns;
  readonly #client: CallClient;
  readonly #services: ServiceCommands;
  readonly #commands: Commands;
  readonly #queue: WorkQueue;
  readonly #closing = new AbortController();
  readonly #open = new Set<OpenInput>();
  /** Users without an answer who are in the log, so that each is there once. */
  readonly #strangers = new Set<string>();
  /** Users who received the answer that there is no room, until one of their commands finds room. */
  readonly #refused = new Set<string>();
  #ended: Promise<void> = Promise.resolve();
  /** Why an input ended that is not opened again. */
  #failure: RivuletError | null = null;
  #stopping: Promise<void> | null = null;

  /** Use `startBot`. */
  constructor(setup: BotSetup) {
    const { options, scheduler, log } = setup;
    const { broker, registry, transport, selector, timeoutMs = 10_000 } = options;
    const { concurrency = 4, maxWaiting = 64, namespace = 'go.micro.bot' } = options;
    this.#setup = setup;
    this.#nouns = new Nouns({
      scheduler,
      ...(broker === undefined ? {} : { broker }),
      ...(registry === undefined ? {} : { registry }),
      ...(transport === undefined ? {} : { transport }),
      ...(selector === undefined ? {} : { selector }),
    });
    this.#client = new CallClient(this.#nouns, { name: namespace, timeoutMs });
    const sources = {
      registry: () => this.#nouns.registry(),
      client: this.#client,
      scheduler,
      log,
    };
    this.#services = new ServiceCommands({ ...sources, namespace });
    const audit = new Audit({
      append: async (entry) => {
        const options = { maxLength: AUDIT_MAX_LENGTH };
        return (await this.#nouns.broker()).publish(AUDIT_TOPIC, entry, options);
      },
      uniqueName: () => scheduler.uniqueName(),
      report: (text) => log.warn(text),
    });
    const { permissions } = setup;
    this.#commands = new Commands({
      ...sources,
      services: this.#services,
      audit,
      permissions,
      timeoutMs,
      closing: this.#closing.signal,
    });
    this.#queue = new WorkQueue({
      atOnce: concurrency,
      maxWaiting,
      maxWaitingOfOne: Math.ceil(maxWaiting / 4),
      atOnceOfOne: Math.max(1, concurrency - 1),
    });
  }

  /**
   * Resolves when every input has ended by itself, as the terminal does, and all commands have. Rejects then with
   * the reason of an input that ended because of what came.
   */
  get ended(): Promise<void> {
    return this.#ended;
  }

  async start(): Promise<void> {
    const { inputs, permissions, log } = this.#setup;
    this.#services.start();
    for (const { name } of inputs) {
      if (name !== 'terminal' && !permissions.hasUsersOf(name)) {
        log.warn(`no user of ${name} gets an answer: allow names none`);
      }
    }
    const first = await Promise.allSettled(inputs.map((input) => this.#openOnce(input)));
    const loops = inputs.map((input, i) => {
      const result = first[i] as PromiseSettledResult<OpenInput>;
      if (result.status === 'fulfilled') return this.#keepOpen(input, result.value);
      if ((result.reason as RivuletError).code === 'AUTHENTICATION_FAILED') return null;
      this.#reportCut(input, result.reason);
      return this.#keepOpen(input, null);
    });
    const refused = first.find((_each, i) => loops[i] === null);
    this.#ended = Promise.all(loops).then(async () => {
      await this.#queue.idle();
      if (this.#failure !== null) throw this.#failure;
    });
    // It may be that no caller waits for it.
    this.#ended.catch(() => {});
    if (refused?.status === 'rejected') throw refused.reason;
  }

  /** Resolves within two seconds: no chat, broker or registry that does not answer is waited for. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    this.#closing.abort(new RivuletError('ABORTED', 'the bot stops'));
    await leaveWithin(this.#setup.scheduler, [
      async () => void (await Promise.allSettled([...this.#open].map((each) => each.close()))),
      () => this.#ended.catch(() => {}),
      () => this.#queue.close(),
      () => this.#services.close(),
      () => this.#client.close(),
      () => this.#nouns.close(),
    ]);
  }

  async #openOnce(input: Input): Promise<OpenInput> {
    const opened = await input.open((message) => this.#receive(input, message));
    this.#open.add(opened);
    // Stopped while it was opened.
    if (this.#closing.signal.aborted) await opened.close();
    else this.#setup.log.info(`the input ${input.name} is open`);
    return opened;
  }

  /** Until the input has ended by itself, or the bot stops. Never rejects. */
  async #keepOpen(input: Input, first: OpenInput | null): Promise<void> {
    const { signal } = this.#closing;
    let opened = first;
    let waitMs = REOPEN_MS;
    while (!signal.aborted) {
      if (opened !== null) {
        const reason = await opened.closed;
        this.#open.delete(opened);
        opened = null;
        if (signal.aborted || reason === null) return;
        if (reason instanceof InputRefused) {
          this.#failure ??= reason;
          return;
        }
        this.#reportCut(input, reason);
        waitMs = REOPEN_MS;
      }
      await pause(this.#setup.scheduler, waitMs, signal).catch(() => {});
      waitMs = Math.min(2 * waitMs, LONGEST_REOPEN_MS);
      if (signal.aborted) return;
      try {
        opened = await this.#openOnce(input);
      } catch (error) {
        this.#reportCut(input, error);
      }
    }
  }

  #reportCut({ name }: Input, error: unknown): void {
    this.#setup.log.warn(`the input ${name} is not open: ${(error as Error)?.message ?? error}`);
  }

  /** Resolves when the message was answered, or needs no answer. Never rejects. */
  async #receive(input: Input, message: IncomingText): Promise<void> {
    const { sender, text, sentAt } = message;
    if (this.#closing.signal.aborted || text.trim() === '') return;
    if (!this.#setup.permissions.isAllowed(sender)) {
      this.#reportStranger(sender.names.map((name) => `${sender.input}:${name}`).join(' or '));
      return;
    }
    const user = shownSender(sender);
    const { maxAgeMs = 300_000 } = this.#setup.options;
    const ageMs = sentAt === null ? 0 : this.#setup.scheduler.now() - sentAt;
    const work = async () => {
      const answer = await this.#answerTo(message, ageMs > maxAgeMs ? ageMs : null);
      if (answer !== null) await this.#reply(input, message, answer);
    };
    await new Promise<void>((resolve) => {
      if (this.#queue.add(user, () => work().finally(resolve))) this.#refused.delete(user);
      else {
        this.#refuse(input, message, user);
        resolve();
      }
    });
  }

  async #answerTo(message: IncomingText, lateMs: number | null): Promise<string | null> {
    if (lateMs !== null) {
      return `this came ${Math.round(lateMs / 1000)} s late and was not run: send it again`;
    }
    if (message.text.length > MAX_TEXT) return `a command has at most ${MAX_TEXT} characters`;
    return this.#commands.answer(message);
  }

  /** Never rejects. */
  async #reply(input: Input, message: IncomingText, answer: string): Promise<void> {
    const { options, redact, log, scheduler } = this.#setup;
    const limits = { size: input.pieceSize, count: options.maxPieces ?? 5 };
    let cancel = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      cancel = scheduler.after(REPLY_TIMEOUT_MS, () => reject(new Error('it took too long')));
    });
    try {
      for (const piece of piecesOf(redact(answer), limits)) {
        await Promise.race([message.reply(piece), late]);
      }
    } catch (error) {
      const to = shownSender(message.sender);
      log.warn(`an answer did not reach ${to}: ${(error as Error).message}`);
    } finally {
      cancel();
      late.catch(() => {});
    }
  }

  /** Once until the user's commands find room again: answers to a flood would be another flood. */
  #refuse(input: Input, message: IncomingText, user: string): void {
    if (this.#refused.has(user) || this.#refused.size >= MAX_STRANGERS) return;
    this.#refused.add(user);
    this.#setup.log.warn(`commands of ${user} are refused: too many wait`);
    void this.#reply(input, message, 'too many commands wait: send this one again later');
  }

  #reportStranger(user: string): void {
    if (this.#strangers.has(user) || this.#strangers.size >= MAX_STRANGERS) return;
    this.#strangers.add(user);
    this.#setup.log.info(`${user} gets no answer: allow does not name this user`);
  }
}
