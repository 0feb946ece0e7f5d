/**
 * Consumer groups of a stream: which consumer received which entry and has still to acknowledge it.
 */
export * from './claim.ts';
export { Consumer } from './consumer.ts';
export { countDown, countFrom, countUp, countValue, FATAL_COUNT } from './delivery-count.ts';
export { ConsumerGroup } from './group.ts';
export { decodeGroup, encodeGroup } from './group-codec.ts';
export { lagOf, UNKNOWN_READ } from './lag.ts';
export { encodePage } from './pending/page-codec.ts';
export type { Epoch } from './pending/page-store.ts';
export { PendingCursor } from './pending/pending-cursor.ts';
export { PendingList } from './pending/pending-list.ts';
export { PAGE_ENTRIES, PendingPage, UNOWNED } from './pending/pending-page.ts';
export type { StreamView } from './stream-view.ts';
