/**
 * Where a group finds pending pages that are not in memory, and where it hands over those that are
 * frozen and about to change.
 */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import type { PageStore } from '../consumer-groups/page-store.ts';
import type { PendingPage } from '../consumer-groups/pending-page.ts';
import { damaged } from '../stream/block-damage.ts';
import { pageName } from './checkpoint-keys.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { KeyEntry } from './key-entry.ts';

export class StoredPages implements PageStore {
  private readonly checkpointer: Checkpointer;
  private readonly entry: KeyEntry;
  private readonly group: ConsumerGroup;

  constructor(checkpointer: Checkpointer, entry: KeyEntry, group: ConsumerGroup) {
    this.checkpointer = checkpointer;
    this.entry = entry;
    this.group = group;
  }

  load(pageId: number): Buffer {
    const name = pageName(this.entry.uid, this.group.uid, pageId);
    const bytes = this.checkpointer.blocks.get(name);
    if (bytes === undefined) throw damaged(`pending page ${pageId} of a group is not there`);
    return bytes;
  }

  capture(page: PendingPage): void {
    this.checkpointer.capturePage(this.entry, this.group, page);
  }
}
