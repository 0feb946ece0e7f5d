/**
 * One topic of one subscription: its durable consumer, and the puller on it.
 *
 * Invariants: a missing consumer is made again at its last position, or from the start if the stream is a
 * new one, and is reported. A consumer that was replayed by another client is pulled from as it is.
 * In an ordered group only the holder of the lease pulls. It begins with everything that the previous
 * holder had not acknowledged.
 * Cost: one durable consumer at the server.
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
} from 'rivulet/adapter';
import { numberOf, toRivulet } from '../errors.ts';
import type { Link } from '../link.ts';
import { consumerOf, leadSubject } from '../names.ts';
import { originOf, type Streams } from '../streams.ts';
import { type DeliveryMark, isLaterDelivery, markOf, type NatsDelivery } from './in-flight.ts';
import { LeaderLease } from './leader-lease.ts';
import { Puller } from './puller.ts';
import type { StreamRest } from './trim-watch.ts';

const NANOS = 1_000_000;
const NO_CONSUMER = 10_014;
const NO_MESSAGE = 10_037;
/** The server deletes the consumer of a subscriber without a group after this long without a request. */
const OWN_CONSUMER_MS = 5 * 60_000;
/**
 * A replay deletes the consumer of a group and makes it again. A missing consumer is restored only after
 * this time, or up to three times as long, so that the replay can finish.
 */
const REPLAY_MS = 300;

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
  /** Everything that was delivered so far is lost. */
  readonly onLost: (topic: GroupTopic, reason: string) => void;
  /** Called when the topic was deleted. Without this the topic is made again. */
  readonly onDeleted?: (topic: GroupTopic) => void;
}

export class GroupTopic {
  readonly topic: string;
  readonly #setup: GroupTopicSetup;
  readonly #stop = new AbortController();
  readonly #left = new AbortController();
  /** null unless the group is ordered. */
  readonly #lease: LeaderLease | null;
  #stream = '';
  #origin = '';
  /** Aborts when the connection is lost while the lease is held. */
  #cut: AbortController | null = null;
  readonly #unwatch: () => void = () => {};
  #puller: Puller | null = null;
  #running: Promise<void> | null = null;
  #restoring: Promise<void> | null = null;
  /** The consumer or its stream is looked for: until it is known which stream there is, nothing is asked for. */
  #isRestoring = false;
  #made = false;
  /** It has lost the lease, or the connection while it had it: what still arrives is delivered again in order. */
  #isDeposed = false;
  #isReplaying = false;
  lastSequence = 0;
  /** The newest message that the consumer, as it is now, has delivered here. */
  newest = 0;
  /** The last message that was delivered to a holder of the lease which died without settling it. */
  suspectUpTo = 0;
  /** The first such message, which its handler had. */
  suspectFrom = 0;
  #takenOverUpTo = 0;
  /** The last message whose record is being read. In order, later ones wait for it. */
  lookingUp: Promise<void> | null = null;
  /** The deliveries in flight by their sequence, in the order of arrival. */
  readonly inFlight = new Map<number, NatsDelivery>();

  /** What an ordered group's leader has settled since its consumer was made, by sequence: the newer ones, and older. */
  #settled = new Map<number, DeliveryMark>();
  #settledBefore = new Map<number, DeliveryMark>();

  constructor(setup: GroupTopicSetup) {
    this.topic = setup.topic;
    this.#setup = setup;
    const { link, streams, broker, topic, group, consumerName } = setup;
    if (!setup.exclusive) {
      this.#lease = null;
      return;
    }
    const { scheduler } = broker;
    this.#lease = new LeaderLease({
      link,
      streams,
      scheduler,
      subject: leadSubject(topic, group),
      // Two processes may have the same client name.
      name: `${consumerName} ${scheduler.uniqueName()}`,
      warn: (error) => this.#warn(error),
    });
    this.#unwatch = link.onLost(() => this.#cut?.abort());
  }

  /** Identifies this stream among all that have had or will have its name. */
  get origin(): string {
    return this.#origin;
  }

  /** Whether a message was delivered before the consumer was made again, which counts from one since. */
  isTakenOver(sequence: number): boolean {
    return sequence >= this.suspectFrom && sequence <= this.#takenOverUpTo;
  }

  /** In order: a delivery is settled, and the server may have sent another one of it. */
  settled(raw: NatsDelivery): void {
    if (this.#lease === null) return;
    if (this.#settled.size >= this.#setup.options.maxInFlight) {
      this.#settledBefore = this.#settled;
      this.#settled = new Map();
    }
    this.#settled.set(raw.inFlight.sequence, markOf(raw));
  }

  /** Whether it was settled before the server delivered it again. */
  isSettled(raw: NatsDelivery): boolean {
    const { sequence } = raw.inFlight;
    const before = this.#settled.get(sequence) ?? this.#settledBefore.get(sequence);
    return before !== undefined && isLaterDelivery(markOf(raw), before);
  }

  /** The consumer may be another one from here on. */
  forgetSettled(): void {
    this.newest = 0;
    this.#settled = new Map();
    this.#settledBefore = new Map();
  }

  /** How many messages its puller has asked for and not received. */
  get asked(): number {
    return this.#puller?.asked ?? 0;
  }

  async start(from: Position): Promise<void> {
    const { name, origin } = await this.#setup.streams.topic(this.topic);
    this.#stream = name;
    this.#origin = origin;
    this.#made = await this.#ensure(from);
    if (this.#lease === null) this.#pullNow();
    else this.#running = this.#pullWithLease(this.#lease);
  }

  /** What is left in its stream; null where that is another stream, or no answer comes. */
  async streamRest(): Promise<StreamRest | null> {
    const { link } = this.#setup;
    if (!link.connected) return null;
    try {
      const { config, created, state } = await link.jsm.streams.info(this.#stream);
      if (originOf(config.name, created) !== this.#origin) return null;
      return { firstSequence: state.first_seq, hasGaps: (state.num_deleted ?? 0) > 0 };
    } catch {
      // Without an answer nothing is known; what the server refuses, the puller meets, too.
      return null;
    }
  }

  /** Whether the message is no longer in its stream; false where no answer comes. */
  async isDeleted(sequence: number): Promise<boolean> {
    const { link } = this.#setup;
    if (!link.connected) return false;
    try {
      return (await link.jsm.streams.getMessage(this.#stream, { seq: sequence })) === null;
    } catch (error) {
      return numberOf(error) === NO_MESSAGE;
    }
  }

  pull(): void {
    this.#puller?.pull();
  }

  /** Receives no more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#puller?.stop();
  }

  /** Releases the lease; called after everything in flight was given back. */
  async leave(): Promise<void> {
    this.#left.abort();
    this.#unwatch();
    await this.#restoring?.catch(() => {});
    await this.#running?.catch(() => {});
    if (this.#lease?.isHeld) {
      // The server must know what was given back before the next holder begins.
      await this.#setup.link.outgoing.flush();
      await this.#lease.release();
    }
    if (!this.#setup.own) return;
    const name = consumerOf(this.#setup.group);
    await this.#setup.link
      .try(() => this.#setup.link.jsm.consumers.delete(this.#stream, name))
      .catch(() => {});
  }

  /** This process replays the group: a missing consumer is not restored meanwhile. */
  beginReplay(): void {
    this.#isReplaying = true;
  }

  endReplay(): void {
    this.#isReplaying = false;
    this.restart();
  }

  /** Withdraws the open requests and asks again. */
  restart(): void {
    this.#puller?.restart();
  }

  #pullNow(): void {
    this.#isDeposed = false;
    const { link, broker, group, room, expiresMs, onRoom, onMessage } = this.#setup;
    this.#puller = new Puller({
      link,
      stream: this.#stream,
      consumer: consumerOf(group),
      scheduler: broker.scheduler,
      room: () => (this.#isRestoring ? 0 : room()),
      expiresMs,
      onRoom,
      onMessage: (message) => {
        if (!this.#isDeposed) onMessage(this, message);
      },
      onGone: () => this.#restoreSoon(),
      onSilent: () => void this.check(),
    });
    this.#puller.start();
  }

  async #pullWithLease(lease: LeaderLease): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const cut = new AbortController();
      this.#cut = cut;
      try {
        await lease.acquire(signal);
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
      // The lease is renewed until the handlers have finished.
      await lease.renew(AbortSignal.any([this.#left.signal, cut.signal]));
      if (this.#left.signal.aborted) return;
      // Messages that were lost with the connection would be redelivered after later ones. So everything
      // from the oldest unacknowledged message on is delivered again, in order.
      const reason = cut.signal.aborted
        ? 'the connection to NATS was lost'
        : 'another consumer holds the lease of the ordered group';
      this.#isDeposed = true;
      this.#setup.onLost(this, reason);
      await this.#puller?.stop();
      this.#puller = null;
    }
  }

  /** Makes the consumer again at the oldest unacknowledged message, so that all come in order. */
  async #takeOver(): Promise<void> {
    const { link, group } = this.#setup;
    const name = consumerOf(group);
    // What this process has acknowledged before.
    await link.outgoing.flush();
    const info = await link.try(() => link.jsm.consumers.info(this.#stream, name));
    if (info.num_ack_pending === 0) return;
    this.#takenOverUpTo = info.delivered.stream_seq;
    this.suspectFrom = info.ack_floor.stream_seq + 1;
    this.suspectUpTo = this.#lease?.isFromDead ? info.delivered.stream_seq : 0;
    await link.jsm.consumers.delete(this.#stream, name);
    await link.jsm.consumers.add(this.#stream, {
      ...this.#config(),
      deliver_policy: 'by_start_sequence',
      opt_start_seq: info.ack_floor.stream_seq + 1,
    });
  }

  /** Restores the consumer if it is missing. */
  async check(): Promise<void> {
    const { link, group } = this.#setup;
    try {
      await link.try(() => link.jsm.consumers.info(this.#stream, consumerOf(group)));
    } catch (error) {
      if (isGroupLost(error)) this.#restoreSoon();
    }
  }

  #restoreSoon(): void {
    this.forgetSettled();
    if (this.#stop.signal.aborted || this.#isReplaying || this.#isRestoring) return;
    this.#isRestoring = true;
    this.#restoring = this.#restore().finally(() => {
      this.#isRestoring = false;
      this.#restoring = null;
    });
  }

  async #restore(): Promise<void> {
    const { broker, streams, events, group, onLost, onDeleted } = this.#setup;
    const { signal } = this.#stop;
    for (let attempt = 1; !signal.aborted; attempt++) {
      const fraction = broker.scheduler.fraction();
      const wait = REPLAY_MS * (1 + 2 * fraction) + backoffMs(broker.reconnect, attempt, fraction);
      await pause(broker.scheduler, wait, signal).catch(() => {});
      if (signal.aborted || this.#isReplaying) return;
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
        // Another member may have made the consumer again before: what came from the old stream is lost here, too.
        if ((await this.#ensure(from)) || isNew) {
          onLost(this, 'its group was lost');
          if (isNew) this.lastSequence = 0;
          this.#origin = origin;
          events.emit('groupLost', { topic: this.topic, group });
        }
        this.#isRestoring = false;
        this.restart();
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

  /** Makes the consumer unless it exists. Resolves to true if it was missing. */
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
      if (numberOf(error) !== NO_CONSUMER) throw toRivulet(error);
    }
    await link.try(() =>
      link.jsm.consumers.add(this.#stream, { ...this.#config(), ...startAt(from) }),
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
      // Messages that wait for their retry count as pending: with a limit they would block new ones.
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

/** The configuration of a consumer that begins at a position. */
export function startAt(from: Position): Partial<ConsumerConfig> {
  if (from === 'new') return { deliver_policy: 'new' };
  if (from === 'earliest') return { deliver_policy: 'all' };
  if ('time' in from) {
    return { deliver_policy: 'by_start_time', opt_start_time: from.time.toISOString() };
  }
  const sequence = Number(from.id);
  if (!Number.isSafeInteger(sequence)) return { deliver_policy: 'all' };
  return { deliver_policy: 'by_start_sequence', opt_start_seq: sequence + 1 };
}
