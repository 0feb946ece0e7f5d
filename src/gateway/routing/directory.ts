/**
 * What the gateway knows of the services: their records, their routes, the kinds of their endpoints.
 *
 * Holds: one copy of the registry's list. Invariants: it follows the registry's watch, and is read again
 * every `refreshMs` (go-micro's ten minutes); while the registry cannot be reached the last list is
 * used; changes that come together cause one reading. Cost: one look-up per request.
 */
import type { Registry, ServiceEndpoint, ServiceRecord } from '../../registry/registry.ts';
import type { MethodKind } from '../../transport/transport.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { RouteTable } from './routes.ts';

const TOGETHER_MS = 20;
const RETRY_MS = 2000;
const MAX_SEEN = 100_000;

export interface DirectoryOptions {
  readonly registry: () => Promise<Registry>;
  readonly scheduler: Scheduler;
  readonly refreshMs: number;
  readonly report: (text: string) => void;
}

export class Directory {
  readonly #options: DirectoryOptions;
  readonly #closing = new AbortController();
  #records: readonly ServiceRecord[] = [];
  #routes = RouteTable.of([], () => {});
  #byName = new Map<string, Map<string, ServiceEndpoint>>();
  #running: Promise<void>[] = [];
  #isStale = false;
  #lastReading = 0;
  #taken = 0;
  readonly #reported = new Set<string>();
  readonly #seen = new Set<string>();

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  get records(): readonly ServiceRecord[] {
    return this.#records;
  }

  get routes(): RouteTable {
    return this.#routes;
  }

  /** Null where it is not known. */
  endpoint(service: string, endpoint: string): ServiceEndpoint | null {
    return this.#byName.get(service)?.get(endpoint) ?? null;
  }

  /** Whether the service has been in the registry since the gateway started. */
  knew(service: string): boolean {
    return this.#seen.has(service);
  }

  /** A registry that cannot be reached is reported and tried again. */
  async start(): Promise<void> {
    await this.#read();
    this.#running = [this.#watch(), this.#refresh()];
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#running);
  }

  async #watch(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const registry = await this.#options.registry();
        await this.#read();
        for await (const _ of registry.watch(undefined, { signal })) {
          if (this.#isStale) continue;
          this.#isStale = true;
          void pause(this.#options.scheduler, TOGETHER_MS, signal).then(
            () => this.#read(),
            () => {},
          );
        }
      } catch (error) {
        this.#report(`the registry cannot be watched: ${(error as Error).message}`);
      }
      await pause(this.#options.scheduler, RETRY_MS, signal).catch(() => {});
    }
  }

  async #refresh(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await pause(this.#options.scheduler, this.#options.refreshMs, signal).catch(() => {});
      if (!signal.aborted) await this.#read();
    }
  }

  async #read(): Promise<void> {
    this.#isStale = false;
    const reading = ++this.#lastReading;
    try {
      const registry = await this.#options.registry();
      const listed = await registry.listServices();
      // A list may hold names only, as go-micro's does: then each is asked for.
      const records = await Promise.all(
        listed.map(async (record) =>
          record.endpoints.length > 0 || record.nodes.length > 0
            ? [record]
            : registry.getService(record.name),
        ),
      );
      // A reading that was overtaken by a later one holds an older list.
      if (this.#closing.signal.aborted || reading < this.#taken) return;
      this.#taken = reading;
      this.#take(records.flat());
    } catch (error) {
      this.#report(`the registry cannot be read: ${(error as Error).message}`);
    }
  }

  #take(records: readonly ServiceRecord[]): void {
    const byName = new Map<string, Map<string, ServiceEndpoint>>();
    for (const { name, endpoints } of records) {
      const known = byName.get(name) ?? new Map<string, ServiceEndpoint>();
      for (const endpoint of endpoints) known.set(endpoint.name, endpoint);
      byName.set(name, known);
      if (this.#seen.size < MAX_SEEN) this.#seen.add(name);
    }
    this.#records = records;
    this.#byName = byName;
    this.#routes = RouteTable.of(records, (reason) => this.#report(`no route: ${reason}`));
  }

  /** Each text once. */
  #report(text: string): void {
    if (this.#closing.signal.aborted || this.#reported.has(text)) return;
    if (this.#reported.size > 1000) this.#reported.clear();
    this.#reported.add(text);
    this.#options.report(text);
  }
}

/** Null for an endpoint with one request and one reply. */
export function streamKind(endpoint: ServiceEndpoint | null): Exclude<MethodKind, 'unary'> | null {
  if (endpoint?.metadata.stream !== 'true') return null;
  const kind = endpoint.metadata['rivulet.kind'];
  return kind === 'serverStream' || kind === 'clientStream' ? kind : 'bidi';
}
