/**
 * Commands that services are: `go.micro.bot.weather` answers to `weather`.
 *
 * Holds: the services of the namespace that have answered `Command.Help`. Invariants: the list follows the
 * registry's watch, which begins before the first reading; a service is a command while the registry has a
 * node of it; a service whose Help fails is asked again, with pauses that double, while it is registered;
 * at most MAX_COMMANDS are kept. Cost: one call of Help per change of a service.
 */
import type { RivuletError } from '../../errors.ts';
import type { CallClient } from '../../gateway/handlers/call-client.ts';
import type { Registry } from '../../registry/registry.ts';
import type { Log } from '../../rpc/context.ts';
import { printable } from '../../util/printable.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { type CommandForm, jsonForm, protobufForm } from './command-wire.ts';

const MAX_COMMANDS = 1000;
const HELP_TIMEOUT_MS = 5000;
const RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;
const MAX_HELP = 300;

export interface ServiceCommandsSetup {
  readonly namespace: string;
  readonly registry: () => Promise<Registry>;
  readonly client: CallClient;
  readonly scheduler: Scheduler;
  readonly log: Log;
}

interface Known {
  readonly help: string;
  readonly form: CommandForm;
}

export interface ExecOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export class ServiceCommands {
  readonly #setup: ServiceCommandsSetup;
  readonly #prefix: string;
  readonly #closing = new AbortController();
  readonly #known = new Map<string, Known>();
  /** Services that are looked at now; true where a change came meanwhile. */
  readonly #looking = new Map<string, boolean>();
  readonly #running = new Set<Promise<void>>();

  constructor(setup: ServiceCommandsSetup) {
    this.#setup = setup;
    this.#prefix = `${setup.namespace}.`;
  }

  /** `usage - description`, sorted. */
  get help(): string[] {
    return [...this.#known.values()].map(({ help }) => help).sort();
  }

  /** The service of a command; null where none has answered. */
  serviceOf(name: string): string | null {
    const service = this.#prefix + name;
    return this.#known.has(service) ? service : null;
  }

  /** Rejects with the error of the call, or with the error that the service gave as its answer. */
  async exec(service: string, args: readonly string[], options: ExecOptions): Promise<string> {
    const form = this.#known.get(service)?.form ?? protobufForm;
    const { contentType } = form;
    const call = { ...options, contentType };
    const reply = await this.#setup.client.call(
      service,
      'Command.Exec',
      form.execRequest(args),
      call,
    );
    const { result, error } = form.result(reply);
    if (error !== '') throw new Error(error);
    return result;
  }

  /** Returns at once; a registry that cannot be reached is tried again. */
  start(): void {
    this.#keep(this.#follow());
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#running);
  }

  async #follow(): Promise<void> {
    const { registry, scheduler, log } = this.#setup;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const source = await registry();
        const events = source.watch(undefined, { signal })[Symbol.asyncIterator]();
        try {
          let next = events.next();
          next.catch(() => {});
          const records = await source.listServices();
          for (const name of new Set([
            ...this.#known.keys(),
            ...records.map((each) => each.name),
          ])) {
            this.#look(name);
          }
          for (let event = await next; !event.done; event = await next) {
            next = events.next();
            next.catch(() => {});
            this.#look(event.value.service.name);
          }
        } finally {
          await events.return?.();
        }
      } catch (error) {
        if (signal.aborted) return;
        log.warn(`the registry cannot be watched: ${(error as Error).message}`);
      }
      await pause(scheduler, RETRY_MS, signal).catch(() => {});
    }
  }

  #look(service: string): void {
    if (!service.startsWith(this.#prefix) || service === this.#prefix) return;
    if (this.#looking.has(service)) this.#looking.set(service, true);
    else this.#keep(this.#lookAt(service));
  }

  async #lookAt(service: string): Promise<void> {
    const { registry, scheduler, log } = this.#setup;
    const { signal } = this.#closing;
    let waitMs = RETRY_MS;
    do {
      this.#looking.set(service, false);
      try {
        const records = await (await registry()).getService(service);
        if (signal.aborted) break;
        if (records.length === 0) this.#known.delete(service);
        else if (this.#known.has(service) || this.#known.size < MAX_COMMANDS) {
          this.#known.set(service, await this.#askHelp(service));
        } else log.warn(`${service} is left out: there are ${MAX_COMMANDS} commands, the limit`);
      } catch (error) {
        if (signal.aborted) break;
        const { code, message } = error as RivuletError;
        // It is registered and has no such method: asking again gives the same answer.
        if (code === 'METHOD_NOT_FOUND') {
          this.#known.delete(service);
          continue;
        }
        if (waitMs === RETRY_MS) log.warn(`${service} did not answer Command.Help: ${message}`);
        await pause(scheduler, waitMs, signal).catch(() => {});
        waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
        this.#looking.set(service, true);
      }
    } while (this.#looking.get(service) && !signal.aborted);
    this.#looking.delete(service);
  }

  /** In protobuf, as go-micro does; in JSON where the service has no .proto. */
  async #askHelp(service: string): Promise<Known> {
    try {
      return await this.#helpBy(protobufForm, service);
    } catch (error) {
      const { code } = error as RivuletError;
      if (!['UNSUPPORTED', 'DECODING_FAILED', 'INVALID_ARGUMENT'].includes(code)) throw error;
      return this.#helpBy(jsonForm, service);
    }
  }

  async #helpBy(form: CommandForm, service: string): Promise<Known> {
    const { contentType } = form;
    const options = { contentType, timeoutMs: HELP_TIMEOUT_MS, signal: this.#closing.signal };
    const request = form.helpRequest();
    const reply = await this.#setup.client.call(service, 'Command.Help', request, options);
    const { usage, description } = form.help(reply);
    const help = printable(`${usage} - ${description}`).slice(0, MAX_HELP);
    return { help, form };
  }

  #keep(work: Promise<void>): void {
    this.#running.add(work);
    void work.finally(() => this.#running.delete(work));
  }
}
