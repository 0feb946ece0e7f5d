/**
 * How pending pages reach the checkpoint and come back: copy-on-write by epoch, loading by page id.
 *
 * The checkpointer raises `Epoch.current` by one when it starts; everything marked dirty before is
 * thereby frozen, at no cost. Frozen pages are collected with `PendingList.takeFrozen`; a frozen page
 * that is about to change first is handed to `PageStore.capture`, once, with its frozen content.
 * The price on the hot path is one compare of two small integers.
 */
import type { PendingPage } from './pending-page.ts';

/** One object for the whole process, owned by the checkpointer. */
export interface Epoch {
  current: number;
}

export interface PageStore {
  /** The bytes of a page as `encodePage` wrote them at the last committed checkpoint. */
  load(pageId: number): Buffer;
  /**
   * The page is frozen, not captured yet, and about to change or go: encode it now. After an abandoned
   * checkpoint it may come while none is running, and is then of no interest: the page will be written
   * by the next one.
   */
  capture(page: PendingPage): void;
}

/** For groups without a checkpoint: never rises, so nothing is ever frozen. */
export const NO_EPOCH: Epoch = { current: 0 };
