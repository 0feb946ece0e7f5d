/**
 * One topic as one subscription consumes it: its durable consumer, and the puller on it.
 *
 * Invariants: a consumer that is found missing is made anew where it stood (or from the start, when
 * the stream is a new one too) and reported; one that another subscriber has moved is simply pulled
 * from. In an ordered group only the holder of the lead pulls; it begins with everything that its
 * predecessor had not acknowledged.
 */
import type { ConsumerConfig } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Events,
  type Position,
  pause,
  type ResolvedSubscribeOptions,
  RivuletError,
} from 'rivulet';
import { numberOf, toRivulet } from './failures.ts';
import type { NatsDelivery } from './held.ts';
import { Lead } from './lead.ts';
import type { Link } from './link.ts';
import { consumerOf, leadSubject } from './names.ts';
import { Puller } from './puller.ts';
import type { Streams } from './streams.ts';

const NANOS = 1_000_000;
/** How long the consumer of a subscriber without a group outlives it. */
const OWN_CONSUMER_MS = 5 * 60_000;
/**
 * Somebody who moves a group deletes its consumer and makes it anew. He is given this long, or up to
 * three times as long: if that is too short he tries again, and must be faster then.
 */
const MOVE_MS = 300;

export interface GroupTopicSetup {
  readonly topic: string;
  readonly group: string;
  readonly own: boolean;
  readonly exclusive: boolean;
  readonly consumerName: string;
  readonly options: ResolvedSubscribeOptions;
  readonly link: Link;
  readonly streams: Streams;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  readonly room: () => number;
  readonly expiresMs: () => number;
  readonly onRoom: () => void;
  readonly onMessage: (topic: GroupTopic, message: Msg) => void;
  /** Everything that came so far is no longer ours. */
  readonly onLost: (topic: GroupTopic, reason: string) => void;
  /** The topic is there no more. Where this is missing, it is made again. */
  readonly onDeleted?: (topic: GroupTopic) => void;
}

export class GroupTopic {
  readonly topic: string;
  readonly #setup: GroupTopicSetup;
  readonly #stop = new AbortController();
  readonly #left = new AbortController();
  readonly #lead: Lead | null;
  #stream = '';
  #origin = '';
  /** Ends the lead's use of this connection when it is lost. */
  #cut: AbortController | null = null;
  readonly #unwatch: () => void = () => {};
  #puller: Puller | null = null;
  #running: Promise<void> | null = null;
  #restoring: Promise<void> | null = null;
  #made = false;
  #moving = false;
  lastSequence = 0;
  /** Up to here a leader that vanished had been given messages that it did not settle. */
  suspectUpTo = 0;
  /** The first of them, which its handler had. */
  suspectFrom = 0;
  #takenOverUpTo = 0;
  /** What is being looked up before it is handed over; one after the other where order counts. */
  lookingUp: Promise<void> | null = null;
  /** What was delivered and is in hand, by its sequence, in the order it came. */
  readonly held = new Map<number, NatsDelivery>();

  constructor(setup: GroupTopicSetup) {
    this.topic = setup.topic;
    this.#setup = setup;
    const { link, streams, broker, topic, group, consumerName } = setup;
    if (!setup.exclusive) {
      this.#lead = null;
      return;
    }
    // Two processes may have been given the same name.
    const name = `${consumerName} ${broker.scheduler.uniqueName()}`;
    this.#lead = new Lead(link, streams, broker.scheduler, leadSubject(topic, group), name);
    this.#unwatch = link.onLost(() => this.#cut?.abort());
  }

  /** Names this very stream, and no other that has or will have its name. */
  get origin(): string {
    return this.#origin;
  }

  /** It was delivered before the consumer was made again, which counts from one since. */
  isTakenOver(sequence: number): boolean {
    return sequence >= this.suspectFrom && sequence <= this.#takenOverUpTo;
  }

  /** What its puller may still bring. */
  get asked(): number {
    return this.#puller?.asked ?? 0;
  }

  async start(from: Position): Promise<void> {
    const { name, origin } = await this.#setup.streams.topic(this.topic);
    this.#stream = name;
    this.#origin = origin;
    this.#made = await this.#ensure(from);
    if (this.#lead === null) this.#pullNow();
    else this.#running = this.#leadAndPull(this.#lead);
  }

  pull(): void {
    this.#puller?.pull();
  }

  /** Takes no more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#puller?.stop();
  }

  /** After everything in hand was given back. */
  async leave(): Promise<void> {
    this.#left.abort();
    this.#unwatch();
    await this.#restoring?.catch(() => {});
    await this.#running?.catch(() => {});
    if (this.#lead?.held) {
      // What was given back is known to the server before the next one begins.
      await this.#setup.link.try(() => this.#setup.link.nc.flush()).catch(() => {});
      await this.#lead.yield();
    }
    if (!this.#setup.own) return;
    const name = consumerOf(this.#setup.group);
    await this.#setup.link
      .try(() => this.#setup.link.jsm.consumers.delete(this.#stream, name))
      .catch(() => {});
  }

  /** The group is being moved from here: that its consumer is gone means nothing. */
  hold(): void {
    this.#moving = true;
  }

  /** What was asked for is asked for anew. */
  restart(): void {
    this.#puller?.restart();
  }

  /** The group was moved. */
  moved(): void {
    this.#moving = false;
    this.restart();
  }

  #pullNow(): void {
    const { link, broker, group, room, expiresMs, onRoom, onMessage } = this.#setup;
    this.#puller = new Puller({
      link,
      stream: this.#stream,
      consumer: consumerOf(group),
      scheduler: broker.scheduler,
      room,
      expiresMs,
      onRoom,
      onMessage: (message) => onMessage(this, message),
      onGone: () => this.#restoreSoon(),
      onSilent: () => void this.check(),
    });
    this.#puller.start();
  }

  async #leadAndPull(lead: Lead): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const cut = new AbortController();
      this.#cut = cut;
      try {
        await lead.take(signal);
        await this.#takeOver();
        if (signal.aborted || cut.signal.aborted) continue;
        this.#pullNow();
      } catch (error) {
        if (signal.aborted) return;
        if (isGroupLost(error)) this.#restoreSoon();
        else this.#warn(error);
        await this.#restoring;
        await pause(this.#setup.broker.scheduler, 500, signal).catch(() => {});
        continue;
      }
      // While handlers finish, the lead is still ours.
      await lead.keep(AbortSignal.any([this.#left.signal, cut.signal]));
      if (this.#left.signal.aborted) return;
      // What was on its way over a connection that is lost would come after its successors: all of it
      // comes again, in order, from the oldest that is not acknowledged.
      const reason = cut.signal.aborted
        ? 'the connection to NATS was lost'
        : 'another consumer leads the ordered group';
      this.#setup.onLost(this, reason);
      await this.#puller?.stop();
      this.#puller = null;
    }
  }

  /** Everything from the oldest that is not acknowledged, in order. */
  async #takeOver(): Promise<void> {
    const { link, group } = this.#setup;
    const name = consumerOf(group);
    const info = await link.try(() => link.jsm.consumers.info(this.#stream, name));
    if (info.num_ack_pending === 0) return;
    this.#takenOverUpTo = info.delivered.stream_seq;
    this.suspectFrom = info.ack_floor.stream_seq + 1;
    this.suspectUpTo = this.#lead?.fromDead ? info.delivered.stream_seq : 0;
    await link.jsm.consumers.delete(this.#stream, name);
    await link.jsm.consumers.add(this.#stream, {
      ...this.#config(),
      deliver_policy: 'by_start_sequence',
      opt_start_seq: info.ack_floor.stream_seq + 1,
    });
  }

  /** Looks whether the consumer is there, and restores it where it is not. */
  async check(): Promise<void> {
    const { link, group } = this.#setup;
    try {
      await link.try(() => link.jsm.consumers.info(this.#stream, consumerOf(group)));
    } catch (error) {
      if (isGroupLost(error)) this.#restoreSoon();
    }
  }

  #restoreSoon(): void {
    if (this.#stop.signal.aborted || this.#moving) return;
    this.#restoring ??= this.#restore().finally(() => {
      this.#restoring = null;
    });
  }

  async #restore(): Promise<void> {
    const { broker, streams, events, group, onLost, onDeleted } = this.#setup;
    const { signal } = this.#stop;
    for (let attempt = 1; !signal.aborted; attempt++) {
      const fraction = broker.scheduler.fraction();
      const wait = MOVE_MS * (1 + 2 * fraction) + backoffMs(broker.reconnect, attempt, fraction);
      await pause(broker.scheduler, wait, signal).catch(() => {});
      if (signal.aborted || this.#moving) return;
      try {
        streams.forget();
        if (onDeleted !== undefined && !(await streams.holds(this.topic))) {
          onDeleted(this);
          return;
        }
        const { name, origin } = await streams.topic(this.topic);
        const isNew = origin !== this.#origin;
        const from = this.#resumeFrom(isNew);
        this.#stream = name;
        if (await this.#ensure(from)) {
          onLost(this, 'its group was lost');
          if (isNew) this.lastSequence = 0;
          this.#origin = origin;
          events.emit('groupLost', { topic: this.topic, group });
        }
        this.#puller?.restart();
        return;
      } catch (error) {
        this.#warn(error);
      }
    }
  }

  #resumeFrom(isNew: boolean): Position {
    if (isNew) return 'earliest';
    if (this.lastSequence > 0) return { id: String(this.lastSequence) };
    return this.#made ? this.#setup.options.from : 'earliest';
  }

  /** True when it was missing. */
  async #ensure(from: Position): Promise<boolean> {
    const { link, group, options } = this.#setup;
    const name = consumerOf(group);
    try {
      const { config } = await link.jsm.consumers.info(this.#stream, name);
      const ackWait = this.#config().ack_wait;
      if (config.ack_wait !== ackWait && !this.#setup.own) {
        await link.jsm.consumers.update(this.#stream, name, {
          ack_wait: options.ackWaitMs * NANOS,
        });
      }
      return false;
    } catch (error) {
      if (numberOf(error) !== 10_014) throw toRivulet(error);
    }
    await link.try(() =>
      link.jsm.consumers.add(this.#stream, { ...this.#config(), ...start(from) }),
    );
    return true;
  }

  #config(): Partial<ConsumerConfig> {
    const { group, options, own, topic, streams } = this.#setup;
    return {
      durable_name: consumerOf(group),
      description: group,
      ack_policy: 'explicit',
      ack_wait: options.ackWaitMs * NANOS,
      filter_subject: topic,
      max_deliver: -1,
      // Messages that wait for their retry count as pending: a limit would let them stop the others.
      max_ack_pending: -1,
      num_replicas: streams.replicas,
      ...(own ? { inactive_threshold: OWN_CONSUMER_MS * NANOS } : {}),
    };
  }

  #warn(error: unknown): void {
    const known: RivuletError = toRivulet(error);
    if (!this.#stop.signal.aborted) this.#setup.events.emit('warning', { error: known });
  }
}

function isGroupLost(error: unknown): boolean {
  return error instanceof RivuletError && error.code === 'GROUP_LOST';
}

/** Where a consumer begins. */
export function start(from: Position): Partial<ConsumerConfig> {
  if (from === 'new') return { deliver_policy: 'new' };
  if (from === 'earliest') return { deliver_policy: 'all' };
  if ('time' in from) {
    return { deliver_policy: 'by_start_time', opt_start_time: from.time.toISOString() };
  }
  const sequence = Number(from.id);
  if (!Number.isSafeInteger(sequence)) return { deliver_policy: 'all' };
  return { deliver_policy: 'by_start_sequence', opt_start_seq: sequence + 1 };
}
