/**
 * `rivulet`: the names for users, of brokers and of services. Authors of adapters for other servers
 * import from `rivulet/adapter`, tests from `rivulet/testing` and `rivulet/conformance`, and
 * `rivulet/client` is the RESP client alone.
 */

export type * from './broker/broker.ts';
export type { Capabilities } from './broker/capabilities.ts';
export {
  LocalRegistry,
  type ServiceNode,
  type ServiceRecord,
  type ServiceRegistry,
  StaticRegistry,
} from './broker/http/http-registry.ts';
export { deadLetterHeaders, type Message } from './broker/message/message.ts';
export type { ReceivedMessage } from './broker/message/received-message.ts';
export {
  type BrokerFactory,
  type BrokerModule,
  openBroker,
  registerScheme,
} from './broker/open-broker.ts';
export type {
  AnySubscribeOptions,
  Backoff,
  BatchOptions,
  BatchSubscribeOptions,
  BrokerOptions,
  PublishOptions,
  RequestOptions,
  RespondOptions,
  SubscribeOptions,
} from './broker/options/options.ts';
export type * from './broker/options/scheme-options.ts';
export {
  type BoundTopic,
  jsonCodec,
  type StandardSchema,
  type Topic,
  type TopicDefinition,
  type TopicOptions,
  type TypedDelivery,
  type TypedPublishOptions,
  type TypedRequestOptions,
  type TypedResponder,
  topic,
  type ValueCodec,
} from './broker/topics/topic.ts';
export type { Codec, MessageType } from './codec/codec.ts';
export { type ErrorCode, errorTable, RivuletError } from './errors.ts';
export { MemoryRegistry } from './registry/memory.ts';
export { openRegistry } from './registry/open-registry.ts';
export type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceEndpoint,
  ServiceNode as Node,
  ServiceValue,
  WatchOptions,
} from './registry/registry.ts';
export type { CallContext, Log, Log as Logger } from './rpc/context.ts';
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
export { grpcStruct } from './rpc/proto/grpc-definition.ts';
export { loadProto, protoStructs } from './rpc/proto/proto-contract.ts';
export { errorType, ServiceError } from './rpc/service-error.ts';
export type { ClientWrapper, ServerWrapper, SubscriberWrapper } from './rpc/wrappers.ts';
export type {
  Candidate,
  Filter,
  Outcome,
  SelectOptions,
  Selector,
  Strategy,
  StrategyContext,
} from './selector/selector.ts';
export { type ClientOptions, type ClosableClient, client } from './service/client.ts';
export type { Runnable } from './service/lifecycle.ts';
export type { NounOptions, ServiceOptions } from './service/options/options.ts';
export type { ServiceSettings, Setting } from './service/options/settings.ts';
export { createService, type Service } from './service/service.ts';
export type {
  ServiceSubscribeOptions,
  ServiceSubscription,
} from './service/subscriptions.ts';
export {
  type FastifyLike,
  type WebService,
  type WebServiceOptions,
  webService,
} from './service/web-service.ts';
export { registerGrpcResolver } from './transport/grpc/grpc-resolver.ts';
export type { TlsOptions } from './transport/tls.ts';
export type {
  Call,
  CallFailure,
  CallHandler,
  Channel,
  DialOptions,
  IncomingCall,
  Listener,
  ListenOptions,
  MethodKind,
  OutgoingCall,
  Reply,
  ReplyHead,
  ReplyReceiver,
  Transport,
} from './transport/transport.ts';
export type { Scheduler } from './util/time/scheduler.ts';
export * from './workflow/index.ts';
