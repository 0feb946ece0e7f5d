/**
 * The watch of etcd's registry: one read of everything, then each change from that revision on.
 *
 * Invariants: those of RegistryWatch; no change between the read and the watch is missed, because the
 * watch begins at the revision after the read's; after a cut, a compaction or a loss of etcd's data
 * everything is read again. Cost: all nodes of the prefix in memory, one stream.
 */
import { RivuletError } from '../../errors.ts';
import type { ServiceRecord } from '../registry.ts';
import {
  RegistryWatch,
  type RegistryWatchOptions,
  type WatchProgress,
} from '../server/registry-watch.ts';
import type { EtcdClient } from './etcd-client.ts';
import type { EtcdEvent } from './etcd-messages.ts';

/** Everything with a prefix, as it was at one revision. */
export interface EtcdSnapshot {
  readonly pairs: readonly { readonly key: string; readonly value: Buffer }[];
  readonly revision: string;
}

export interface EtcdWatchOptions extends RegistryWatchOptions {
  readonly client: EtcdClient;
  readonly prefix: string;
  readonly decode: (key: string, value: Buffer) => ServiceRecord | null;
  readonly readAll: () => Promise<EtcdSnapshot>;
}

export class EtcdWatch extends RegistryWatch {
  readonly #options: EtcdWatchOptions;
  /** What each key holds now. */
  readonly #records = new Map<string, ServiceRecord>();

  constructor(options: EtcdWatchOptions) {
    super(options);
    this.#options = options;
  }

  protected async cycle(signal: AbortSignal, progress: WatchProgress): Promise<void> {
    try {
      const snapshot = await this.#options.readAll();
      if (signal.aborted) return;
      this.#replace(snapshot);
      progress.onRead();
      await this.#follow(snapshot.revision, signal, () => progress.onFollowing());
    } finally {
      if (!signal.aborted) this.#options.client.rotate();
    }
  }

  /** Rejects when the watch has ended; resolves when it was aborted. */
  #follow(revision: string, signal: AbortSignal, onFollowing: () => void): Promise<void> {
    const { client, prefix } = this.#options;
    return new Promise((resolve, reject) => {
      const request = {
        create_request: {
          key: Buffer.from(prefix),
          range_end: Buffer.from(rangeEnd(prefix)),
          start_revision: String(BigInt(revision) + 1n),
          progress_notify: true,
        },
      };
      let cancel = () => {};
      const end = () => {
        signal.removeEventListener('abort', end);
        cancel();
        resolve();
      };
      client
        .watch(
          request,
          (response) => {
            if (response.canceled) {
              const text = 'etcd ended the watch: compacted, or the member has no leader';
              reject(new RivuletError('REGISTRY_UNAVAILABLE', text));
              end();
              return;
            }
            onFollowing();
            for (const event of response.events) this.#apply(event);
          },
          (error) => {
            reject(error);
            end();
          },
        )
        .then((stop) => {
          cancel = stop;
          if (signal.aborted) end();
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
        this.table.remove(before?.name ?? '', id);
      }
    }
    if (record === null) this.#records.delete(key);
    else {
      this.#records.set(key, record);
      this.table.put(record, Number.POSITIVE_INFINITY);
    }
  }
}

/** The first key after all keys with the prefix, which ends with a slash. */
export function rangeEnd(prefix: string): string {
  return `${prefix.slice(0, -1)}0`;
}
