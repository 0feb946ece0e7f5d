/**
 * What one checkpoint has to write and to remove: gathered as the dirty set of an epoch, then, when a
 * checkpoint starts, frozen and worked off.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import type { Keyspace } from '../keyspace/keyspace.ts';
import type { ScheduledEntry } from '../schedule/scheduled-queue.ts';

export interface RemovedGroup {
  readonly streamUid: number;
  readonly groupUid: number;
}

export class ChangeSet {
  readonly entries = new Set<KeyEntry>();
  /** With the key of their stream. */
  readonly groups = new Map<ConsumerGroup, KeyEntry>();
  /** By uid. */
  readonly removedStrings: number[] = [];
  readonly removedStreams: number[] = [];
  readonly removedGroups: RemovedGroup[] = [];
  /** Names of pending pages whose removal a failed checkpoint did not bring about. */
  readonly removedPages: Buffer[] = [];
  /** Scheduled entries, which never change: those that were removed meanwhile stay, too. */
  readonly scheduled = new Set<ScheduledEntry>();
  /** By number. */
  readonly removedScheduled: number[] = [];
  /** Keyspaces that were flushed as a whole. */
  readonly flushed: Keyspace[] = [];

  /** Takes over the removals of a checkpoint that failed. */
  addRemovals(failed: ChangeSet): void {
    for (const uid of failed.removedStrings) this.removedStrings.push(uid);
    for (const uid of failed.removedStreams) this.removedStreams.push(uid);
    for (const group of failed.removedGroups) this.removedGroups.push(group);
    for (const number of failed.removedScheduled) this.removedScheduled.push(number);
    for (const name of failed.removedPages) this.removedPages.push(name);
    for (const keyspace of failed.flushed) this.flushed.push(keyspace);
  }
}
