/**
 * Limits of a topic that the broker keeps by itself: by age and by bytes.
 *
 * Not part of the Broker contract: Rivulet's own brokers have them (XCFGSET), others do not.
 */
import type { Broker } from '../broker.ts';

export interface TopicLimits {
  readonly maxAgeMs: number;
  readonly maxBytes: number;
}

/** A broker that has them. */
export interface LimitsTopics {
  /** Replaces the limits of a topic that is there. */
  limitTopic(topic: string, limits: TopicLimits): Promise<void>;
}

export function limitsTopics(broker: Broker): broker is Broker & LimitsTopics {
  return typeof (broker as Partial<LimitsTopics>).limitTopic === 'function';
}
