/**
 * Consumer groups of a stream: who has got which entry, and who has still to acknowledge it.
 */
export * from './claim.ts';
export { Consumer } from './consumer.ts';
export { countDown, countFrom, countUp, countValue, FATAL_COUNT } from './delivery-count.ts';
export type { DeliveryOrder } from './delivery-order.ts';
export { ConsumerGroup } from './group.ts';
export { decodeGroup, encodeGroup } from './group-codec.ts';
export { advance, estimateRead, lagOf, UNKNOWN_READ } from './lag.ts';
export { encodePage } from './page-codec.ts';
export { type Epoch, NO_EPOCH, type PageStore } from './page-store.ts';
export { PendingCursor } from './pending-cursor.ts';
export { PendingList } from './pending-list.ts';
export { CONDEMNED, NOBODY, PAGE_ENTRIES, PARKED, PendingPage } from './pending-page.ts';
export type { StreamCounters, StreamView } from './stream-view.ts';
