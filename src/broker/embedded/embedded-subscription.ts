/**
 * One subscription in this process: a dispatcher, and a reader for every topic that matches.
 *
 * Without a group it creates a group that is deleted when it closes. With wildcards it is notified of
 * new topics within the turn that creates them, and reads them from their first message.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { UNKNOWN_READ } from '../../consumer-groups/lag.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import { setPolicy } from '../../engine/streams/group-policy.ts';
import { createGroup, deleteConsumer, destroyGroup } from '../../engine/streams/stream-groups.ts';
import { RivuletError } from '../../errors.ts';
import type { BrokerEvents, Position } from '../broker.ts';
import type { SubscriptionHandle } from '../broker-base.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import { Dispatcher } from '../dispatch/dispatcher.ts';
import type { Events } from '../events.ts';
import { trimmed } from '../message/trimmed.ts';
import {
  deadLetterTopic,
  deadlineGraceMs,
  type ResolvedSubscribeOptions,
} from '../options/options.ts';
import { afterId } from '../positions.ts';
import { checkTopic, compilePattern, isPattern } from '../topics/topics.ts';
import type { Tracing } from '../trace.ts';
import { type EmbeddedDelivery, EmbeddedReader, expireAll } from './embedded-reader.ts';
import { EmbeddedSettlements } from './embedded-settlements.ts';
import type { EngineHost } from './engine-host.ts';
import { keptName } from './kept-name.ts';

/** Groups of subscribers without a group. No other process uses them: the directory is locked. */
const OWN_GROUP = 'rivulet-here-';

export interface SubscriptionSetup {
  readonly host: EngineHost;
  readonly pattern: string;
  readonly consume: DeliveryHandler;
  readonly options: ResolvedSubscribeOptions;
  /** Unique among the consumers of one engine. */
  readonly consumer: string;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
}

export class EmbeddedSubscription implements SubscriptionHandle {
  readonly #setup: SubscriptionSetup;
  readonly #group: string;
  readonly #dispatcher: Dispatcher<EmbeddedDelivery>;
  readonly #readers = new Map<string, EmbeddedReader>();
  readonly #onTopic: (topic: string) => void;
  #freeAsked = false;

  /** Within a turn. */
  constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { host, pattern, options, events, tracing, consumer } = setup;
    this.#group = options.group ?? `${OWN_GROUP}${host.scheduler.uniqueName()}`;
    this.#dispatcher = new Dispatcher<EmbeddedDelivery>({
      options,
      consume: setup.consume,
      settler: new EmbeddedSettlements(host, this.#group, consumer),
      scheduler: host.scheduler,
      events,
      tracing,
      fetchAhead: host.isDurable ? 'when trusted' : 'always',
      countsReads: host.isDurable && host.marks === null,
      onFree: () => this.#free(),
    });
    const matches = compilePattern(pattern);
    const wants = (topic: string) =>
      !this.#readers.has(topic) && matches(topic) && isLegal(topic) && !this.#isOthersDead(topic);
    this.#onTopic = (topic) => {
      if (wants(topic)) this.#add(topic, 'earliest');
    };
    if (!isPattern(pattern)) {
      this.#add(pattern, options.from);
      return;
    }
    const topics = [...host.database.entries()]
      .filter(({ value }) => value.type === 'stream')
      .map(({ key }) => key.toString());
    for (const topic of topics.sort()) if (wants(topic)) this.#add(topic, options.from);
    host.topicListeners.add(this.#onTopic);
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  async close(timeoutMs: number): Promise<void> {
    const { host } = this.#setup;
    host.topicListeners.delete(this.#onTopic);
    const draining = this.#dispatcher.close(timeoutMs);
    for (const reader of this.#readers.values()) reader.stop();
    await draining;
    host.run(() => {
      for (const reader of this.#readers.values()) {
        reader.leave();
        if (this.#setup.options.group === null) this.#destroy(reader.topic);
      }
    });
    await host.durable().catch(() => {});
  }

  #add(topic: string, from: Position): void {
    const { host, options, consumer, events } = this.#setup;
    const { database, engine } = host;
    const key = Buffer.from(topic);
    const entry = database.findKey(key) ?? database.set(key, engine.newStream(), 0);
    if (entry.value.type !== 'stream') {
      throw new RivuletError('INVALID_ARGUMENT', `${topic} is a key of another type, not a topic`);
    }
    const { groups, stream } = entry.value;
    let group = groups.get(keptName(this.#group));
    if (group === undefined) {
      const after = afterId(from, stream.lastId);
      group = createGroup(database, entry, Buffer.from(this.#group), after, UNKNOWN_READ);
    }
    this.#prepare(entry, group);
    const reader = new EmbeddedReader({
      host,
      topic,
      group: this.#group,
      consumer,
      dispatcher: this.#dispatcher,
      exclusive: options.ordered !== 'none' && options.group !== null,
      prepare: (of, made) => this.#prepare(of, made),
      onLost: () => events.emit('groupLost', { topic, group: this.#group }),
      onTrimmed: (of, id) => events.emit('warning', { error: trimmed(of, id, this.#group) }),
      onAttemptsUsed: (of, id, reason, moved) => {
        if (moved) events.emit('deadLettered', { topic: of, id, reason });
        else events.emit('warning', { error: dropped(of, id, reason) });
      },
    });
    this.#readers.set(topic, reader);
    reader.start();
  }

  /** Sets this subscription's policy, and cleans the group up the first time. */
  #prepare(entry: KeyEntry, group: ConsumerGroup): void {
    const { host, options } = this.#setup;
    const { minMs, maxMs, factor, jitter } = options.backoff;
    const topic = entry.key.toString();
    const dead = deadLetterTopic(topic, options);
    setPolicy(host.database, entry, group, {
      ackWait: Math.ceil(options.ackWaitMs) + deadlineGraceMs(options.ackWaitMs),
      maxDeliveries: Math.floor(options.attempts),
      backoff: { minMs: Math.round(minMs), maxMs: Math.round(maxMs), factor, jitter },
      deadLetter: dead === null ? null : Buffer.from(dead),
    });
    if (host.cleansUp(topic, this.#group)) this.#cleanUp(entry, group);
  }

  /**
   * Removes what an earlier process left: its consumers, whose messages become due at once, and the
   * groups of its subscribers without a group.
   */
  #cleanUp(entry: KeyEntry, group: ConsumerGroup): void {
    const { host } = this.#setup;
    const { database } = host;
    for (const consumer of [...group.consumers()]) {
      if (consumer.pendingCount === 0) deleteConsumer(database, entry, group, consumer);
      else expireAll(host, entry, group, consumer);
    }
    if (entry.value.type !== 'stream') return;
    for (const other of [...entry.value.groups.values()]) {
      const name = other.name.toString();
      const isLeft = name.startsWith(OWN_GROUP) && other !== group;
      if (isLeft && host.members(entry.key.toString(), name).length === 0) {
        destroyGroup(database, entry, other);
      }
    }
  }

  #destroy(topic: string): void {
    const { database } = this.#setup.host;
    const entry = database.findKey(Buffer.from(topic));
    if (entry?.value.type !== 'stream') return;
    const group = entry.value.groups.get(keptName(this.#group));
    if (group !== undefined) destroyGroup(database, entry, group);
  }

  /** Reads again from topics with more entries, once for all room that becomes free in one turn. */
  #free(): void {
    if (this.#freeAsked) return;
    this.#freeAsked = true;
    queueMicrotask(() => {
      this.#freeAsked = false;
      const hungry = [...this.#readers.values()].filter((reader) => reader.wantsMore);
      if (hungry.length === 0) return;
      this.#setup.host.run(() => {
        for (const reader of hungry) {
          reader.free();
          // A topic that was read goes behind the others of the subscription.
          this.#readers.delete(reader.topic);
          this.#readers.set(reader.topic, reader);
        }
      });
    });
  }

  /** Patterns match dead-letter topics only where they end in `.dead` themselves. */
  #isOthersDead(topic: string): boolean {
    return topic.endsWith('.dead') && !this.#setup.pattern.endsWith('.dead');
  }
}

function isLegal(topic: string): boolean {
  try {
    checkTopic(topic);
    return true;
  } catch {
    return false;
  }
}

function dropped(topic: string, id: string, reason: string): RivuletError {
  const text = `message ${id} of ${topic} is dropped, there is no dead letter: ${reason}`;
  return new RivuletError('HANDLER_FAILED', text);
}
