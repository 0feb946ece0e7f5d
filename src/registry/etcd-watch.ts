/**
 * The watch of etcd's registry: one read of everything, then each change from that revision on.
 *
 * Invariants: no change between the read and the watch is missed, because the watch begins at the
 * revision after the read's; after a cut, a compaction or a loss of etcd's data everything is read
 * again and the differences are reported; nodes that were there before the first watcher are no
 * event, unless the first read failed. Cost: all nodes of the prefix in memory, one stream.
 */
import { pause, type Scheduler } from '../util/scheduler.ts';
import type { EtcdSnapshot } from './etcd.ts';
import type { EtcdClient } from './etcd-client.ts';
import type { EtcdEvent } from './etcd-messages.ts';
import { NodeTable } from './node-table.ts';
import type { RegistryEvent, ServiceRecord } from './registry.ts';

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5000;

export interface EtcdWatchOptions {
  readonly client: EtcdClient;
  readonly scheduler: Scheduler;
  readonly prefix: string;
  readonly decode: (key: string, value: Buffer) => ServiceRecord | null;
  readonly readAll: () => Promise<EtcdSnapshot>;
  readonly onEvent: (event: RegistryEvent) => void;
}

export class EtcdWatch {
  readonly #options: EtcdWatchOptions;
  readonly #table: NodeTable;
  /** What each key holds now. */
  readonly #records = new Map<string, ServiceRecord>();
  readonly #closing = new AbortController();
  #running = false;
  #isQuiet = true;
  #firstRead: Promise<void> = Promise.resolve();

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
    this.#table = new NodeTable(options.scheduler);
    this.#table.onChange((event) => {
      if (!this.#isQuiet) options.onEvent(event);
    });
  }

  /**
   * Settles with the first read of a watch that begins: a look-up that follows `watch` waits for it,
   * so that every later change is an event.
   */
  get firstRead(): Promise<void> {
    return this.#firstRead;
  }

  start(): void {
    if (this.#running || this.#closing.signal.aborted) return;
    this.#running = true;
    this.#firstRead = new Promise((resolve) => void this.#run(resolve));
  }

  close(): void {
    this.#closing.abort();
    this.#table.close();
  }

  async #run(onFirstRead: () => void): Promise<void> {
    const { client, scheduler } = this.#options;
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        const snapshot = await this.#options.readAll();
        if (this.#closing.signal.aborted) break;
        this.#replace(snapshot);
        this.#isQuiet = false;
        onFirstRead();
        await this.#follow(snapshot.revision, () => {
          failures = 0;
        });
      } catch {
        // The first read failed: what a later one finds is new to the watchers.
        this.#isQuiet = false;
        onFirstRead();
      }
      if (this.#closing.signal.aborted) break;
      client.rotate();
      const most = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** failures++);
      const wait = most * (0.5 + scheduler.fraction() / 2);
      await pause(scheduler, wait, this.#closing.signal).catch(() => {});
    }
    onFirstRead();
  }

  /** Resolves or rejects when the watch has ended. */
  #follow(revision: string, onWorking: () => void): Promise<void> {
    const { client, prefix } = this.#options;
    return new Promise((resolve, reject) => {
      const request = {
        create_request: {
          key: Buffer.from(prefix),
          range_end: Buffer.from(`${prefix.slice(0, -1)}0`),
          start_revision: String(BigInt(revision) + 1n),
          progress_notify: true,
        },
      };
      let cancel = () => {};
      const { signal } = this.#closing;
      const end = () => {
        signal.removeEventListener('abort', end);
        cancel();
      };
      client
        .watch(
          request,
          (response) => {
            if (response.canceled) {
              // Compacted, or the member has no leader: read again.
              end();
              resolve();
              return;
            }
            onWorking();
            for (const event of response.events) this.#apply(event);
          },
          (error) => {
            end();
            reject(error);
          },
        )
        .then((stop) => {
          cancel = stop;
          if (signal.aborted) stop();
          else signal.addEventListener('abort', end);
        }, reject);
    });
  }

  #apply(event: EtcdEvent): void {
    const key = event.kv.key.toString();
    if (event.type === 0) this.#put(key, this.#options.decode(key, event.kv.value));
    else this.#put(key, null);
  }

  #replace({ pairs }: EtcdSnapshot): void {
    const present = new Set(pairs.map(({ key }) => key));
    for (const key of [...this.#records.keys()]) if (!present.has(key)) this.#put(key, null);
    for (const { key, value } of pairs) this.#put(key, this.#options.decode(key, value));
  }

  /** A key holds this record now, or none that can be read. */
  #put(key: string, record: ServiceRecord | null): void {
    const before = this.#records.get(key);
    for (const { id } of before?.nodes ?? []) {
      if (record?.nodes.some((node) => node.id === id) !== true) {
        this.#table.remove(before?.name ?? '', id);
      }
    }
    if (record === null) this.#records.delete(key);
    else {
      this.#records.set(key, record);
      this.#table.put(record, Number.POSITIVE_INFINITY);
    }
  }
}
