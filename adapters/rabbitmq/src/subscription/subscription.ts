/**
 * One subscription: one dispatcher, and the consumers of the queues that it receives from.
 *
 * The dispatcher keeps deadlines: RabbitMQ returns a message only when its consumer's channel ends. A
 * subscription consumes one queue. If it subscribes by a pattern, and the queue of a topic that its
 * group subscribes to by name has no consumer, it consumes that queue as well.
 * Invariant: the dispatcher's `maxInFlight` bounds what all consumers hand over.
 * Cost: one channel per queue; for a pattern one query every 2.5 s for each topic of its group by name.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  type DeliveryHandler,
  Dispatcher,
  type Events,
  isPattern,
  type PendingEntry,
  type ResolvedSubscribeOptions,
  RivuletError,
  type SubscriptionHandle,
  type Tracing,
} from 'rivulet/adapter';
import type { Delays } from '../delays.ts';
import { toRivulet } from '../errors.ts';
import type { History } from '../history.ts';
import type { Link } from '../link.ts';
import { queueOf } from '../names.ts';
import type { Publisher } from '../publishing/publisher.ts';
import type { Registry } from '../registry.ts';
import type { GroupSpec, Topology } from '../topology.ts';
import type { HandOverLog } from './hand-over-log.ts';
import { CONSUMER_TIMEOUT_MS, QueueConsumer, type QueueDelivery } from './queue-consumer.ts';
import { Settlements } from './settlements.ts';

/** How often hand-overs of a trusted consumer are recorded; recording each would cost too much. */
const COUNT_EVERY_MS = 50;
const TAKE_OVER_EVERY_MS = 2500;

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: DeliveryHandler;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly link: Link;
  readonly topology: Topology;
  readonly registry: Registry;
  readonly history: History;
  readonly publisher: Publisher;
  readonly delays: Delays;
  readonly handOvers: HandOverLog;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  readonly consumer: string;
}

export class Subscription implements SubscriptionHandle {
  readonly #setup: SubscriptionSetup;
  readonly #spec: GroupSpec;
  readonly #dispatcher: Dispatcher<QueueDelivery>;
  readonly #settlements: Settlements;
  readonly #main: QueueConsumer;
  /** The queues that it has taken over, by topic. */
  readonly #takenOver = new Map<string, QueueConsumer>();
  /** Topics whose queue had no consumer at the last look. */
  #unconsumed = new Set<string>();
  #cancelTakeOver = () => {};
  #takingOver: Promise<void> | null = null;
  #closed = false;

  constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { options, broker, events, tracing, pattern, consume } = setup;
    const { scheduler } = broker;
    this.#spec = {
      pattern,
      group: options.group ?? `own.${scheduler.uniqueName()}`,
      exclusive: options.ordered !== 'none' && options.group !== null,
      own: options.group === null,
    };
    this.#settlements = new Settlements({
      ...setup,
      scheduler,
      isStuck: () => this.#dispatcher.stuck,
      isInHandler: (topic, id) => this.#dispatcher.idsInHandlers(topic).includes(id),
      lose: ({ topic, id }, reason) => this.#dispatcher.revoke(topic, id, reason),
      longestMs: () => (this.#hasConsumerTimeout ? null : CONSUMER_TIMEOUT_MS),
    });
    this.#dispatcher = new Dispatcher<QueueDelivery>({
      options: { ...options, ackWaitMs: this.#ackWaitMs },
      consume,
      settler: this.#settlements,
      scheduler,
      events,
      tracing,
      countEveryMs: COUNT_EVERY_MS,
      onFree: () => {
        if (this.#dispatcher.stuck) return;
        for (const each of this.#consumers()) each.free();
      },
    });
    this.#main = this.#makeConsumer(this.#spec);
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  get group(): string {
    return this.#spec.group;
  }

  /** Its consumers of one group's queue. */
  consumersOf(pattern: string, group: string): QueueConsumer[] {
    return this.#consumers().filter(({ spec }) => spec.pattern === pattern && spec.group === group);
  }

  /** Resolves once it consumes; rejects if it cannot. */
  async start(): Promise<void> {
    const { options, link, events, pattern } = this.#setup;
    if (this.#ackWaitMs < options.ackWaitMs) {
      const text = `ackWaitMs of ${options.ackWaitMs} counts as ${this.#ackWaitMs}: RabbitMQ ${link.version.join('.')} takes a message back after 30 minutes, which a subscriber can change from 3.12 on`;
      events.emit('warning', { error: new RivuletError('SERVER_TOO_OLD', text) });
    }
    await this.#main.start();
    if (isPattern(pattern) && !this.#spec.own) this.#takeOverLater();
  }

  pending(topic: string): PendingEntry[] {
    return this.#consumers().flatMap((each) => each.pending(topic));
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelTakeOver();
    const consumers = this.#consumers();
    const stopping = consumers.map((each) => each.stop());
    const waiting = Promise.all(stopping);
    const closing = waiting.then(async (found) => {
      const closed = this.#dispatcher.close(timeoutMs);
      // Deliveries that the dispatcher did not receive are returned together with those that it returns.
      const released = found.flat().map((raw) => this.#settlements.release(raw).catch(() => {}));
      await Promise.all([closed, ...released]);
    });
    await closing;
    await this.#takingOver;
    await Promise.all(this.#consumers().map((each) => each.leave()));
  }

  #consumers(): QueueConsumer[] {
    return [this.#main, ...this.#takenOver.values()];
  }

  #makeConsumer(spec: GroupSpec): QueueConsumer {
    return new QueueConsumer({
      ...this.#setup,
      spec,
      dispatcher: this.#dispatcher,
      settlements: this.#settlements,
      lose: (raws, reason) => {
        if (this.#takenOver.size === 0) this.#dispatcher.revokeAll(reason);
        else for (const { topic, id } of raws) this.#dispatcher.revoke(topic, id, reason);
      },
      hasConsumerTimeout: this.#hasConsumerTimeout,
    });
  }

  #takeOverLater(): void {
    const { scheduler } = this.#setup.broker;
    this.#cancelTakeOver = scheduler.after(TAKE_OVER_EVERY_MS, () => {
      this.#takingOver = this.#takeOver()
        .catch((error) => this.#setup.events.emit('warning', { error: toRivulet(error) }))
        .finally(() => {
          if (!this.#closed) this.#takeOverLater();
        });
    });
  }

  /** Consumes the queues of its group's topics that had no consumer at two looks in a row. */
  async #takeOver(): Promise<void> {
    const { registry, topology, link, pattern } = this.#setup;
    const { group, exclusive } = this.#spec;
    if (!link.connected) return;
    const unconsumed = new Set<string>();
    for (const topic of await registry.splitTopics(pattern, group)) {
      if (this.#takenOver.has(topic)) continue;
      const facts = await registry.group(topic, group);
      // An unordered consumer would break the order of the others.
      if (facts === null || facts.exclusive !== exclusive) continue;
      if ((await topology.consumers(queueOf(topic, group))) !== 0) continue;
      unconsumed.add(topic);
      if (!this.#unconsumed.has(topic) || this.#closed) continue;
      const consumer = this.#makeConsumer({ ...this.#spec, pattern: topic });
      await consumer.start();
      this.#takenOver.set(topic, consumer);
    }
    this.#unconsumed = unconsumed;
  }

  /** Before 3.12 RabbitMQ takes a message back earlier than a long deadline says. */
  get #ackWaitMs(): number {
    const { ackWaitMs } = this.#setup.options;
    return this.#hasConsumerTimeout ? ackWaitMs : Math.min(ackWaitMs, CONSUMER_TIMEOUT_MS);
  }

  get #hasConsumerTimeout(): boolean {
    const [major, minor] = this.#setup.link.version;
    return major > 3 || (major === 3 && minor >= 12);
  }
}
