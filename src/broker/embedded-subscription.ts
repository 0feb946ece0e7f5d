/**
 * One subscription in this process: a dispatcher, and a reader for every topic that matches.
 *
 * Without a group it makes one of its own that ends with it. With wildcards it hears of new topics
 * within the turn that makes them, and begins those with their first message.
 */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import { UNKNOWN_READ } from '../consumer-groups/lag.ts';
import { setPolicy } from '../engine/group-policy.ts';
import type { KeyEntry } from '../engine/key-entry.ts';
import { createGroup, deleteConsumer, destroyGroup } from '../engine/stream-groups.ts';
import { RivuletError } from '../errors.ts';
import type { BrokerEvents, Position } from './broker.ts';
import type { Attachment } from './broker-base.ts';
import { type Consume, Dispatcher } from './dispatcher.ts';
import type { EmbeddedEngine } from './embedded-engine.ts';
import { type EmbeddedDelivery, EmbeddedReader, expireAll } from './embedded-reader.ts';
import { EmbeddedSettlements } from './embedded-settlements.ts';
import type { Events } from './events.ts';
import { deadLetterTopic, deadlineGraceMs, type ResolvedSubscribeOptions } from './options.ts';
import { afterId } from './positions.ts';
import { checkTopic, compilePattern, isPattern } from './topics.ts';
import type { Tracing } from './trace.ts';

/** Groups of subscribers without one. No other process can be using them: the directory is locked. */
const OWN_GROUP = 'rivulet-here-';

export interface SubscriptionSetup {
  readonly shell: EmbeddedEngine;
  readonly pattern: string;
  readonly consume: Consume;
  readonly options: ResolvedSubscribeOptions;
  /** Tells consumers of one engine apart. */
  readonly consumer: string;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
}

export class EmbeddedSubscription implements Attachment {
  readonly #setup: SubscriptionSetup;
  readonly #group: string;
  readonly #dispatcher: Dispatcher<EmbeddedDelivery>;
  readonly #readers = new Map<string, EmbeddedReader>();
  readonly #hears: (topic: string) => void;
  #freeAsked = false;

  /** Within a turn. */
  constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { shell, pattern, options, events, tracing, consumer } = setup;
    this.#group = options.group ?? `${OWN_GROUP}${shell.scheduler.uniqueName()}`;
    this.#dispatcher = new Dispatcher<EmbeddedDelivery>({
      options,
      consume: setup.consume,
      settler: new EmbeddedSettlements(shell, this.#group, consumer),
      scheduler: shell.scheduler,
      events,
      tracing,
      fetchAhead: shell.isDurable ? 'when trusted' : 'always',
      countsReads: shell.isDurable,
      onFree: () => this.#free(),
    });
    const matches = compilePattern(pattern);
    const wants = (topic: string) =>
      !this.#readers.has(topic) && matches(topic) && isLegal(topic) && !this.#isOthersDead(topic);
    this.#hears = (topic) => {
      if (wants(topic)) this.#add(topic, 'earliest');
    };
    if (!isPattern(pattern)) {
      this.#add(pattern, options.from);
      return;
    }
    const topics = [...shell.database.entries()]
      .filter(({ value }) => value.type === 'stream')
      .map(({ key }) => key.toString());
    for (const topic of topics.sort()) if (wants(topic)) this.#add(topic, options.from);
    shell.topicListeners.add(this.#hears);
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  async close(timeoutMs: number): Promise<void> {
    const { shell } = this.#setup;
    shell.topicListeners.delete(this.#hears);
    const draining = this.#dispatcher.close(timeoutMs);
    for (const reader of this.#readers.values()) reader.stop();
    await draining;
    shell.run(() => {
      for (const reader of this.#readers.values()) {
        reader.leave();
        if (this.#setup.options.group === null) this.#destroy(reader.topic);
      }
    });
    await shell.safe().catch(() => {});
  }

  #add(topic: string, from: Position): void {
    const { shell, options, consumer, events } = this.#setup;
    const { database, engine } = shell;
    const key = Buffer.from(topic);
    const entry = database.findKey(key) ?? database.set(key, engine.newStream(), 0);
    if (entry.value.type !== 'stream') {
      throw new RivuletError('INVALID_ARGUMENT', `${topic} is the name of something else`);
    }
    const { groups, stream } = entry.value;
    let group = groups.get(Buffer.from(this.#group).toString('latin1'));
    if (group === undefined) {
      const after = afterId(from, stream.lastId);
      group = createGroup(database, entry, Buffer.from(this.#group), after, UNKNOWN_READ);
    }
    this.#prepare(entry, group);
    const reader = new EmbeddedReader({
      shell,
      topic,
      group: this.#group,
      consumer,
      dispatcher: this.#dispatcher,
      exclusive: options.ordered !== 'no' && options.group !== null,
      prepare: (of, made) => this.#prepare(of, made),
      onLost: () => events.emit('groupLost', { topic, group: this.#group }),
      onTrimmed: (of, id) => events.emit('warning', { error: trimmed(of, id, this.#group) }),
      onBuried: (of, id, reason, moved) => {
        if (moved) events.emit('deadLettered', { topic: of, id, reason });
        else events.emit('warning', { error: dropped(of, id, reason) });
      },
    });
    this.#readers.set(topic, reader);
    reader.start();
  }

  /** What the server does for the group is what this subscription wants. */
  #prepare(entry: KeyEntry, group: ConsumerGroup): void {
    const { shell, options } = this.#setup;
    const { minMs, maxMs, factor, jitter } = options.backoff;
    const topic = entry.key.toString();
    const dead = deadLetterTopic(topic, options);
    setPolicy(shell.database, entry, group, {
      ackWait: Math.ceil(options.ackWaitMs) + deadlineGraceMs(options.ackWaitMs),
      maxDeliveries: Math.floor(options.attempts),
      backoff: { minMs: Math.round(minMs), maxMs: Math.round(maxMs), factor, jitter },
      deadLetter: dead === null ? null : Buffer.from(dead),
    });
    if (shell.tidies(topic, this.#group)) this.#tidy(entry, group);
  }

  /**
   * What a process before this one has left behind: consumers, whose messages come again at once, and
   * groups of subscribers without one.
   */
  #tidy(entry: KeyEntry, group: ConsumerGroup): void {
    const { shell } = this.#setup;
    const { database } = shell;
    for (const consumer of [...group.consumers()]) {
      if (consumer.pendingCount === 0) deleteConsumer(database, entry, group, consumer);
      else expireAll(database, entry, group, consumer);
    }
    if (entry.value.type !== 'stream') return;
    for (const other of [...entry.value.groups.values()]) {
      const name = other.name.toString();
      const isLeft = name.startsWith(OWN_GROUP) && other !== group;
      if (isLeft && shell.members(entry.key.toString(), name).length === 0) {
        destroyGroup(database, entry, other);
      }
    }
  }

  #destroy(topic: string): void {
    const { database } = this.#setup.shell;
    const entry = database.findKey(Buffer.from(topic));
    if (entry?.value.type !== 'stream') return;
    const group = entry.value.groups.get(Buffer.from(this.#group).toString('latin1'));
    if (group !== undefined) destroyGroup(database, entry, group);
  }

  /** Readers that had more to give are tried again: once for all that becomes free in one go. */
  #free(): void {
    if (this.#freeAsked) return;
    this.#freeAsked = true;
    queueMicrotask(() => {
      this.#freeAsked = false;
      const hungry = [...this.#readers.values()].filter((reader) => reader.hungry);
      if (hungry.length === 0) return;
      this.#setup.shell.run(() => {
        for (const reader of hungry) {
          reader.free();
          // Who was served goes behind the others of the subscription.
          this.#readers.delete(reader.topic);
          this.#readers.set(reader.topic, reader);
        }
      });
    });
  }

  /** A pattern over everything does not mean the dead letters of everything. */
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

function trimmed(topic: string, id: string, group: string): RivuletError {
  const text = `message ${id} of ${topic} was trimmed away before group ${group} had settled it`;
  return new RivuletError('DELIVERY_LOST', text);
}

function dropped(topic: string, id: string, reason: string): RivuletError {
  const text = `message ${id} of ${topic} is dropped, there is no dead letter: ${reason}`;
  return new RivuletError('HANDLER_FAILED', text);
}
