/**
 * Where a group finds pending pages that are not in memory, and where it hands over those that are
 * frozen and about to change.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { PageStore } from '../../consumer-groups/pending/page-store.ts';
import type { PendingPage } from '../../consumer-groups/pending/pending-page.ts';
import { damaged } from '../../stream/block/block-damage.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import { pageName } from './checkpoint-keys.ts';
import type { BlockReader } from './stored-blocks.ts';

/** The checkpointer, as far as pages need it. */
export interface PageCapture {
  readonly blocks: BlockReader;
  /** The page is frozen and about to change. */
  capturePage(entry: KeyEntry, group: ConsumerGroup, page: PendingPage): void;
}

export class StoredPages implements PageStore {
  readonly #owner: PageCapture;
  readonly #entry: KeyEntry;
  readonly #group: ConsumerGroup;

  constructor(owner: PageCapture, entry: KeyEntry, group: ConsumerGroup) {
    this.#owner = owner;
    this.#entry = entry;
    this.#group = group;
  }

  load(pageId: number): Buffer {
    const name = pageName(this.#entry.uid, this.#group.uid, pageId);
    const bytes = this.#owner.blocks.get(name);
    if (bytes === undefined) throw damaged(`pending page ${pageId} of a group is not there`);
    return bytes;
  }

  capture(page: PendingPage): void {
    this.#owner.capturePage(this.#entry, this.#group, page);
  }
}
