/**
 * `rivulet/adapter`: what an implementation of Broker for another server is made of.
 *
 * An adapter extends BrokerBase, which has checked every argument, and hands what comes to a
 * Dispatcher. Applications need none of these names. The suite in `rivulet/conformance` says whether
 * an adapter conforms; `registerScheme` makes `openBroker` find one that is not ours.
 */
export { type ErrorCode, errorTable, notSent, RivuletError } from '../errors.ts';
export { pause, type Scheduler } from '../util/time/scheduler.ts';
export { systemScheduler } from '../util/time/system-scheduler.ts';
export { Timeouts } from '../util/time/timeouts.ts';
export { parseAddress, splitAddresses, withoutPassword } from './addresses.ts';
export type * from './broker.ts';
export {
  BrokerBase,
  type PublishPlan,
  type SubscriptionHandle,
  type SubscriptionHandle as Attachment,
} from './broker-base.ts';
export type { BrokerFactory, BrokerModule } from './broker-factory.ts';
export type { Capabilities } from './capabilities.ts';
export type { RawDelivery, Settler } from './dispatch/delivery.ts';
export type { DeliveryHandler, DeliveryHandler as Consume } from './dispatch/delivery-handler.ts';
export { Dispatcher } from './dispatch/dispatcher.ts';
export type { DispatcherSetup } from './dispatch/dispatcher-setup.ts';
export { Events } from './events.ts';
export {
  committedBefore,
  type JournalCommit,
  type JournalEffect,
  type JournalEntry,
  type JournalRange,
  type JournalReply,
  type JournalStore,
  NO_RECORD,
  type QueueState,
  storedFields,
} from './journal.ts';
export { decodeMessage, decodeMessage as messageOf } from './message/entry.ts';
export {
  deadLetterHeaders,
  deadLetterMessage,
  type Message,
  ONLY_GROUP,
  type RawMessage,
  redrivenMessage,
} from './message/message.ts';
export type {
  LogEdge,
  LogEdges,
  LogEntry,
  LogRange,
  MessageLog,
} from './message/message-log.ts';
export type { ReceivedMessage } from './message/received-message.ts';
export { trimmed } from './message/trimmed.ts';
export { compositeName } from './names.ts';
export { registerScheme } from './open-broker.ts';
export {
  type AnySubscribeOptions,
  type Backoff,
  type BatchSubscribeOptions,
  type BrokerOptions,
  backoffMs,
  deadLetterTopic,
  deadlineGraceMs,
  type PublishOptions,
  type RequestOptions,
  type ResolvedSubscribeOptions,
  type RespondOptions,
  type StreamOptions,
  type SubscribeOptions,
} from './options/options.ts';
export { readId } from './positions.ts';
export { isOutage } from './publish/outage-retry.ts';
export {
  type CallerWire,
  type CallForm,
  Requests,
  replyHeaders,
  type StartedCall,
} from './requests/requests.ts';
export { type RawResponder, Responses, type ResponsesSetup } from './requests/responses.ts';
export type { RawCall } from './requests/stream-call.ts';
export {
  checkGroup,
  checkPattern,
  checkTopic,
  compilePattern,
  isPattern,
} from './topics/topics.ts';
export type { Tracing } from './trace.ts';
