/**
 * Publishing with confirms. Every log has a channel of its own; all queues share one.
 *
 * When a log gets another leader, RabbitMQ before 4.0 sends the unconfirmed messages of a channel again,
 * under their numbers on the channel instead of their numbers in the log. If the channel also publishes
 * elsewhere, the two differ: these messages are never confirmed, and RabbitMQ drops and confirms later
 * ones as if they were repetitions. So on a log's channel every message reaches this log, and a channel
 * on which one did not is replaced.
 * Invariants: messages of one log leave in the order of the calls, and so do those of all queues. A message
 * that was routed to no queue resolves to false.
 * Cost: one channel for each log, of which 128 stay open while nothing is published to them.
 */
import type { Options } from 'amqplib';
import type { Scheduler } from 'rivulet/adapter';
import type { Link } from '../link.ts';
import { HAND_OVERS, isLog, REGISTRY } from '../names.ts';
import { PublishLane } from './publish-lane.ts';

const MAX_IDLE_LANES = 128;

export interface PublisherSetup {
  readonly link: Link;
  readonly scheduler: Scheduler;
  /** The exchange whose routing keys are topics. */
  readonly topicExchange: string;
  /** An exchange is missing, so the cached topology is wrong. */
  readonly onMissing: () => void;
}

export class Publisher {
  readonly #setup: PublisherSetup;
  readonly #queues: PublishLane;
  /** By topic, or by `\n` and the name of a stream. */
  readonly #logs = new Map<string, PublishLane>();

  constructor(setup: PublisherSetup) {
    this.#setup = setup;
    this.#queues = new PublishLane({ ...setup, isOfLog: false });
  }

  /** Resolves to true once it is stored, to false if it was routed to no queue. */
  send(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    properties: Options.Publish,
  ): Promise<boolean> {
    return this.#laneOf(exchange, routingKey).send(exchange, routingKey, content, properties);
  }

  /** The log of a topic was deleted: in its next one, numbers begin again. */
  leave(topic: string): void {
    this.#logs.get(topic)?.leave();
  }

  async close(): Promise<void> {
    const lanes = [this.#queues, ...this.#logs.values()];
    await Promise.all(lanes.map((lane) => lane.close()));
  }

  #laneOf(exchange: string, routingKey: string): PublishLane {
    const { link, topicExchange } = this.#setup;
    if (link.version[0] >= 4) return this.#queues;
    if (exchange === topicExchange) return this.#logOf(routingKey);
    return exchange === '' && isStream(routingKey) ? this.#logOf(`\n${routingKey}`) : this.#queues;
  }

  #logOf(name: string): PublishLane {
    let lane = this.#logs.get(name);
    if (lane === undefined) {
      if (this.#logs.size >= MAX_IDLE_LANES) this.#closeIdle();
      lane = new PublishLane({ ...this.#setup, isOfLog: true });
      this.#logs.set(name, lane);
    }
    return lane;
  }

  #closeIdle(): void {
    for (const [name, lane] of this.#logs) {
      if (!lane.isIdle) continue;
      this.#logs.delete(name);
      void lane.close();
      if (this.#logs.size < MAX_IDLE_LANES) return;
    }
  }
}

function isStream(queue: string): boolean {
  return queue === REGISTRY || queue === HAND_OVERS || isLog(queue);
}
