/**
 * Typed topics: what may be published to a topic and what its handlers get.
 *
 * Holds: the definition that programs share, and the check of its options. What it does on a broker
 * is in bound-topic.ts. Cost: none until it is used.
 */

import { checkOptions, invalid, type OptionTable, shown } from '../../client/option-table.ts';
import { isStandardSchema } from '../../codec/standard-schema.ts';
import type { Broker, Receipt, Subscriber } from '../broker.ts';
import type { SubscribeOptions } from '../options/options.ts';
import { TopicOfBroker } from './bound-topic.ts';
import type {
  BoundTopic,
  TopicDefinition,
  TopicOptions,
  TypedDelivery,
  TypedPublishOptions,
} from './topic-types.ts';
import { checkPattern } from './topics.ts';
import { checkValueCodec } from './value-codec.ts';

export type { StandardSchema } from '../../codec/standard-schema.ts';
export type {
  BoundTopic,
  TopicDefinition,
  TopicOptions,
  TypedDelivery,
  TypedPublishOptions,
  TypedRequestOptions,
  TypedResponder,
} from './topic-types.ts';
export { jsonCodec, type ValueCodec } from './value-codec.ts';

/** Any definition, whatever its values. */
// biome-ignore lint/suspicious/noExplicitAny: only any is both an input and an output of all
export type AnyTopic = Topic<any, any, any, any>;

/** A definition that programs share: `topic<Order>('orders')`. */
export interface Topic<Input, Output = Input, Reply = unknown, ReplyOutput = Reply>
  extends TopicDefinition<Input, Output, Reply, ReplyOutput> {
  /** The same as `broker.topic(definition)`. */
  on(broker: Broker): BoundTopic<Input, Output, Reply, ReplyOutput>;
  publish(broker: Broker, value: Input, options?: TypedPublishOptions<Input>): Promise<Receipt>;
  subscribe(
    broker: Broker,
    handler: (value: Output, delivery: TypedDelivery<Output>) => unknown | Promise<unknown>,
    options?: SubscribeOptions,
  ): Promise<Subscriber>;
}

const topicTable: OptionTable = {
  codec: { kind: 'other', check: checkValueCodec },
  schema: { kind: 'other', check: checkSchema },
  response: { kind: 'other', check: checkSchema },
};

/**
 * `topic<Order>('orders.created')`, or with a schema, from which the types then come. Throws
 * TOPIC_ILLEGAL or INVALID_ARGUMENT.
 */
// biome-ignore lint/suspicious/noExplicitAny: without a type, values are as JSON.parse gives them
export function topic<Input = any, Output = Input, Reply = any, ReplyOutput = Reply>(
  name: string,
  options: TopicOptions<Input, Output, Reply, ReplyOutput> = {},
): Topic<Input, Output, Reply, ReplyOutput> {
  if (typeof name !== 'string') throw invalid(`a topic is named by text, not ${shown(name)}`);
  checkPattern(name);
  checkOptions(topicTable, options);
  const bound = (broker: Broker): BoundTopic<Input, Output, Reply, ReplyOutput> =>
    new TopicOfBroker(broker, name, options as TopicOptions<unknown, unknown>) as never;
  return {
    name,
    options,
    on: bound,
    publish: (broker, value, publishOptions) => bound(broker).publish(value, publishOptions),
    subscribe: (broker, handler, subscribeOptions) =>
      bound(broker).subscribe(handler, subscribeOptions),
  };
}

function checkSchema(value: unknown, name: string): void {
  if (!isStandardSchema(value)) {
    throw invalid(
      `${name} must be a Standard Schema (zod, valibot, arktype, ...), not ${shown(value)}`,
    );
  }
}
