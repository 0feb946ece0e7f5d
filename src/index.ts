/** The public names of the package. An adapter or application imports from here and nowhere deeper. */

export { withoutPassword } from './broker/addresses.ts';
export type * from './broker/broker.ts';
export { type Attachment, BrokerBase, type PublishPlan } from './broker/broker-base.ts';
export type { Capabilities } from './broker/capabilities.ts';
export type { RawDelivery, Settler } from './broker/delivery.ts';
export { type Consume, Dispatcher, type DispatcherSetup } from './broker/dispatcher.ts';
export { messageOf } from './broker/entry.ts';
export { Events } from './broker/events.ts';
export {
  LocalRegistry,
  type ServiceNode,
  type ServiceRecord,
  type ServiceRegistry,
  StaticRegistry,
} from './broker/http-registry.ts';
export {
  deadLetterHeaders,
  deadLetterMessage,
  type Message,
  ONLY_GROUP,
  redrivenMessage,
} from './broker/message.ts';
export { compositeName } from './broker/names.ts';
export {
  type BrokerFactory,
  type BrokerModule,
  openBroker,
  registerScheme,
} from './broker/open-broker.ts';
export {
  type Backoff,
  type BrokerOptions,
  backoffMs,
  deadLetterTopic,
  deadlineGraceMs,
  type PublishOptions,
  type RequestOptions,
  type ResolvedSubscribeOptions,
  type RespondOptions,
  type SubscribeOptions,
} from './broker/options.ts';
export { isOutage } from './broker/outage-retry.ts';
export { Requests, replyHeaders } from './broker/requests.ts';
export { Responses, type ResponsesSetup } from './broker/responses.ts';
export { pause, type Scheduler } from './broker/scheduler.ts';
export { systemScheduler } from './broker/system-scheduler.ts';
export { Timeouts } from './broker/timeouts.ts';
export {
  jsonCodec,
  type StandardSchema,
  type Topic,
  type TopicOptions,
  type TypedPublishOptions,
  topic,
  type ValueCodec,
} from './broker/topic.ts';
export {
  checkGroup,
  checkPattern,
  checkTopic,
  compilePattern,
  isPattern,
} from './broker/topics.ts';
export type { Tracing } from './broker/trace.ts';
export { type ErrorCode, errorTable, RivuletError } from './errors.ts';
export { MemoryRegistry } from './registry/memory.ts';
export { openRegistry } from './registry/open-registry.ts';
export type { Registry, RegistryEvent } from './registry/registry.ts';
export type { CallContext } from './rpc/context.ts';
export {
  bidi,
  type Contract,
  clientStream,
  contract,
  type Method,
  serverStream,
  unary,
} from './rpc/contract.ts';
export type { CallOptions, ClientOf, HandlersOf, ReplyStream } from './rpc/handlers.ts';
export { Metadata } from './rpc/metadata.ts';
export { loadProto, protoStructs } from './rpc/proto-contract.ts';
export { errorType, ServiceError } from './rpc/service-error.ts';
export type { ClientWrapper, ServerWrapper } from './rpc/wrappers.ts';
export { createService, type Service, type ServiceOptions } from './service/service.ts';
