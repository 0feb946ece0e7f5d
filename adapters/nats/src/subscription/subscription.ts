/**
 * One subscription: a durable consumer for each topic that it matches, and one dispatcher for all.
 *
 * Invariants: the deliveries in flight and those that were asked for are together at most
 * `maxInFlight`. A delivery that was lost is never acknowledged.
 * Cost: one object per delivery; acknowledgements of one turn are sent in one write.
 */
import type { Msg } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  type BrokerOptions,
  type DeliveryHandler,
  Dispatcher,
  deadLetterMessage,
  deadlineGraceMs,
  type Events,
  isOutage,
  isPattern,
  type PendingEntry,
  type Position,
  pause,
  type RawMessage,
  type Receipt,
  type ResolvedSubscribeOptions,
  RivuletError,
  type Settler,
  type SubscriptionHandle,
  type Tracing,
  trimmed,
} from 'rivulet/adapter';
import { numberOf, toRivulet } from '../errors.ts';
import type { Link } from '../link.ts';
import type { MessageCodec } from '../message-codec.ts';
import type { Streams } from '../streams.ts';
import { attemptOf } from './attempt-count.ts';
import type { Attempts, HandOverRecord, Place } from './attempts.ts';
import { storeCut } from './dead-letter.ts';
import { GroupTopic } from './group-topic.ts';
import {
  ACK,
  IN_PROGRESS,
  type InFlight,
  isLaterDelivery,
  markOf,
  NAK,
  type NatsDelivery,
  nakWithDelay,
  parseReply,
  TERM,
} from './in-flight.ts';
import { ProgressTimer } from './progress-timer.ts';
import { LONGEST_MS } from './puller.ts';
import { RecordRemoval } from './record-removal.ts';
import { TopicDiscovery } from './topic-discovery.ts';
import { TrimWatch } from './trim-watch.ts';
import { WaitingRetries } from './waiting-retries.ts';

const NO_MESSAGE = 10_037;
/** A record costs as much as a message: so far apart are those of a trusted consumer. */
const COUNT_EVERY_MS = 50;
/** How long a topic's request may wait for messages while other topics wait for room. */
const TURN_MS = 100;
/** A message that arrives without room comes again after this. */
const REFUSED_MS = 250;
/** How often the record of a redelivered message is read while the server gives no answer, and how far apart. */
const MOST_READS = 4;
const READ_AGAIN_MS = 200;

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: DeliveryHandler;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly link: Link;
  readonly streams: Streams;
  readonly attempts: Attempts;
  readonly codec: MessageCodec;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  readonly consumerName: string;
  readonly topics: () => Promise<readonly string[]>;
  /** Stores a message under an id, under which a second try stores nothing. */
  readonly store: (topic: string, message: RawMessage, id: string) => Promise<Receipt>;
}

export class Subscription implements SubscriptionHandle, Settler<NatsDelivery> {
  readonly #setup: SubscriptionSetup;
  readonly group: string;
  readonly #dispatcher: Dispatcher<NatsDelivery>;
  readonly #topics = new Map<string, GroupTopic>();
  readonly #retries = new WaitingRetries();
  readonly #progress: ProgressTimer;
  readonly #removal: RecordRemoval;
  readonly #discovery: TopicDiscovery;
  readonly #trims: TrimWatch;
  /** The topic that is asked first at the next pull. */
  #turn = 0;
  /** Messages whose attempts are being read: received, and not pushed yet. */
  #lookingUp = 0;
  #closed = false;
  readonly #unwatch: () => void;

  constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { pattern, options, broker, events, tracing, consume, link, streams, topics } = setup;
    const { scheduler } = broker;
    this.group = options.group ?? `own-${broker.scheduler.uniqueName()}`;
    this.#dispatcher = new Dispatcher<NatsDelivery>({
      options,
      consume,
      settler: this,
      scheduler: broker.scheduler,
      events,
      tracing,
      countEveryMs: COUNT_EVERY_MS,
      keepsWaiting: this.#exclusive,
      onFree: () => this.#pull(),
    });
    this.#progress = new ProgressTimer({
      scheduler,
      ackWaitMs: options.ackWaitMs,
      all: () => this.#allInFlight(),
      report: (inFlight) => this.#reply(inFlight, IN_PROGRESS),
      expire: (inFlight) => this.#expire(inFlight),
    });
    this.#removal = new RecordRemoval({
      scheduler,
      everyMs: this.#ownWaitMs,
      remove: (sequence) => this.#setup.attempts.remove(sequence),
    });
    this.#discovery = new TopicDiscovery({
      pattern,
      streams,
      scheduler,
      events,
      list: topics,
      has: (topic) => this.#topics.has(topic),
      add: (topic, from) => this.#add(topic, from),
    });
    this.#trims = new TrimWatch({
      scheduler,
      retries: this.#retries,
      restOf: async (topic) => (await this.#topics.get(topic)?.streamRest()) ?? null,
      isDeleted: async (topic, sequence) =>
        (await this.#topics.get(topic)?.isDeleted(sequence)) ?? false,
      onTrimmed: ({ topic, id }) =>
        events.emit('warning', { error: trimmed(topic, id, this.group) }),
    });
    this.#unwatch = link.onReady(() => this.#pull());
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  async start(): Promise<void> {
    const { pattern, options } = this.#setup;
    try {
      if (options.group !== null) {
        const { streams, link } = this.#setup;
        // Without the stream of records nothing is recorded, and messages get more attempts.
        await Promise.all([streams.attempts().catch(() => {}), link.outgoing.open()]);
      }
      if (isPattern(pattern)) await this.#discovery.start(options.from);
      else await this.#add(pattern, options.from);
    } catch (error) {
      await this.close(0);
      throw toRivulet(error);
    }
  }

  isOf(topic: string, group: string): boolean {
    return this.group === group && this.#topics.has(topic);
  }

  /** The group is being replayed: its deliveries are lost. */
  beginReplay(topic: string): void {
    const each = this.#topics.get(topic);
    each?.beginReplay();
    if (each !== undefined) this.#lose(each, 'its group was replayed');
    this.#retries.deleteTopic(topic);
  }

  endReplay(topic: string): void {
    this.#topics.get(topic)?.endReplay();
  }

  /** Checks whether the topic was deleted. */
  check(topic: string): void {
    void this.#topics.get(topic)?.check();
  }

  pending(topic: string): PendingEntry[] {
    const now = this.#now();
    const delivered = [...(this.#topics.get(topic)?.inFlight.values() ?? [])].map((raw) => ({
      id: raw.id,
      consumer: this.#setup.consumerName,
      idleMs: Math.round(now - raw.inFlight.since),
      attempts: raw.attempt,
    }));
    return [...this.#retries.pending(topic, now), ...delivered];
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    this.#unwatch();
    await this.#discovery.stop();
    // What arrives from here on is given back.
    await Promise.all([
      this.#dispatcher.close(timeoutMs),
      ...[...this.#topics.values()].map((each) => each.stop()),
    ]);
    // In the order of arrival, so that they are redelivered in that order.
    for (const each of this.#allInFlight()) this.#giveBack(each, 0);
    this.#progress.stop();
    this.#removal.stop();
    this.#trims.stop();
    if (this.#setup.link.connected) await this.#setup.link.outgoing.flush();
    await Promise.all([...this.#topics.values()].map((each) => each.leave()));
  }

  async ack(raw: NatsDelivery): Promise<void> {
    this.#mustBeOpen(raw.inFlight);
    this.#acknowledge(raw);
  }

  /** Skips those that were lost: the dispatcher knows of them. */
  async ackMany(raws: readonly NatsDelivery[]): Promise<void> {
    for (const raw of raws) if (!raw.inFlight.gone) this.#acknowledge(raw);
  }

  #acknowledge(raw: NatsDelivery): void {
    const { attempts, link } = this.#setup;
    const { inFlight } = raw;
    // In order, the next leader gets it again if an earlier message is unacknowledged.
    if (this.#exclusive && inFlight.isRecorded && link.connected)
      inFlight.record = attempts.clear(this.#placeOf(raw), inFlight.deliveries);
    this.#reply(inFlight, ACK);
    this.#topics.get(raw.topic)?.settled(raw);
    if (inFlight.record !== null) this.#removal.add(inFlight.record);
    this.#forget(inFlight);
  }

  async nack(raw: NatsDelivery, delayMs: number, _reason: string): Promise<void> {
    await this.#record(raw, raw.attempt, true);
    this.#mustBeOpen(raw.inFlight);
    this.#giveBack(raw.inFlight, delayMs);
    this.#retries.add(raw, delayMs, this.#now());
    if (delayMs > 0) this.#trims.start();
  }

  /** Records the count of hand-overs before the reply that gives the delivery back. */
  async #record(raw: NatsDelivery, count: number, isBack: boolean): Promise<void> {
    this.#mustBeOpen(raw.inFlight);
    if (this.#setup.options.group === null) return;
    const { deliveries } = raw.inFlight;
    await this.#setup.attempts.writeBeforeReply(this.#placeOf(raw), { count, deliveries, isBack });
  }

  #placeOf({ topic, inFlight: { sequence, from } }: NatsDelivery): Place {
    return { topic, group: this.group, sequence, origin: from.origin };
  }

  async deadLetter(raw: NatsDelivery, topic: string, reason: string): Promise<void> {
    const { inFlight } = raw;
    this.#mustBeOpen(inFlight);
    // If the process ends now, the server's count would include a delivery that no handler had.
    if (raw.attempt < inFlight.deliveries) await this.#record(raw, raw.attempt, true);
    const { store, options, broker, events } = this.#setup;
    const now = broker.scheduler.now();
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, now);
    // After a crash between storing and acknowledging, it is stored under the same id.
    const id = `dead:${inFlight.from.origin}:${raw.id}:${this.group}`;
    const add = async (letter: RawMessage) => {
      const { id: sequence, duplicate } = await store(topic, letter, id);
      // What no handler has had again is the letter that was stored before, also where that was redriven.
      if (!duplicate || raw.spent || (await this.#isStored(topic, Number(sequence)))) return;
      // It was dead before, redriven, and has failed again after a replay.
      await store(topic, letter, `${id}:${broker.scheduler.uniqueName()}`);
    };
    await storeCut(dead, raw.message, add, (cut) => {
      const text = `the dead letter of message ${raw.id} of ${raw.topic} does not fit into the server's max_payload with ${cut}, which is left out`;
      events.emit('warning', { error: new RivuletError('BODY_TOO_LARGE', text) });
    });
    if (inFlight.gone) return;
    this.#reply(inFlight, TERM);
    this.#topics.get(raw.topic)?.settled(raw);
    if (inFlight.record !== null) this.#removal.add(inFlight.record);
    this.#forget(inFlight);
  }

  /** Whether a message is still in the stream of a topic. */
  async #isStored(topic: string, sequence: number): Promise<boolean> {
    const { link, streams } = this.#setup;
    const { name } = await streams.topic(topic);
    const stored = await link.jsm.streams.getMessage(name, { seq: sequence }).catch((error) => {
      if (numberOf(error) === NO_MESSAGE) return null;
      throw toRivulet(error);
    });
    return stored !== null;
  }

  async extend({ inFlight }: NatsDelivery, ms: number): Promise<void> {
    this.#mustBeOpen(inFlight);
    inFlight.deadline = this.#now() + ms + deadlineGraceMs(this.#setup.options.ackWaitMs);
    this.#reply(inFlight, IN_PROGRESS);
    this.#progress.watch(inFlight);
  }

  async release(raw: NatsDelivery): Promise<void> {
    // In order, a message that is given back now would come before those still in flight.
    if (raw.inFlight.gone || (this.#closed && this.#exclusive)) return;
    await this.#record(raw, raw.attempt - 1, true);
    if (!raw.inFlight.gone) this.#giveBack(raw.inFlight, 0);
  }

  /** JetStream counts deliveries, and a retry in place is none. */
  async storeAttempt(raw: NatsDelivery): Promise<void> {
    this.#mustBeOpen(raw.inFlight);
    if (this.#setup.options.group === null) return;
    const { attempts } = this.#setup;
    const place = this.#placeOf(raw);
    const { inFlight } = raw;
    inFlight.isRecorded = true;
    inFlight.record = inFlight.isLate
      ? attempts.writeLate(place, handOverOf(raw))
      : attempts.write(place, handOverOf(raw));
    await inFlight.record;
  }

  async storeAttemptNow(raw: NatsDelivery): Promise<void> {
    this.#mustBeOpen(raw.inFlight);
    if (this.#setup.options.group === null) return;
    raw.inFlight.isRecorded = true;
    raw.inFlight.record = this.#setup.attempts.writeNow(this.#placeOf(raw), handOverOf(raw));
    try {
      await raw.inFlight.record;
    } catch (error) {
      raw.inFlight.isLate = true;
      throw error;
    }
  }

  /** The dispatcher keeps the deadline; this later one is a safeguard. */
  get #ownWaitMs(): number {
    const { ackWaitMs } = this.#setup.options;
    return ackWaitMs + deadlineGraceMs(ackWaitMs);
  }

  get #exclusive(): boolean {
    return this.#setup.options.ordered !== 'none' && this.#setup.options.group !== null;
  }

  async #add(topic: string, from: Position): Promise<void> {
    if (this.#topics.has(topic)) return;
    const { options, link, streams, broker, events, consumerName } = this.#setup;
    const each = new GroupTopic({
      topic,
      group: this.group,
      own: options.group === null,
      exclusive: this.#exclusive,
      consumerName,
      options,
      link,
      streams,
      broker,
      events,
      room: () => this.#roomFor(topic),
      expiresMs: () => (this.#crowded ? TURN_MS : LONGEST_MS),
      onRoom: () => this.#pull(),
      onMessage: (groupTopic, message) => this.#receive(groupTopic, message),
      onLost: (groupTopic, reason) => this.#lose(groupTopic, reason),
      ...(isPattern(this.#setup.pattern)
        ? { onDeleted: (groupTopic: GroupTopic) => this.#leaveOut(groupTopic) }
        : {}),
    });
    this.#topics.set(topic, each);
    // The other topics have asked for all the room: they ask again for their shares.
    for (const other of this.#topics.values()) if (other !== each) other.restart();
    try {
      await each.start(from);
    } catch (error) {
      this.#topics.delete(topic);
      throw error;
    }
  }

  /** The topics of a pattern share the room: each may ask for what the others have not asked for. */
  #roomFor(topic: string): number {
    if (this.#closed) return 0;
    let others = 0;
    for (const each of this.#topics.values()) if (each.topic !== topic) others += each.asked;
    const free = Math.max(0, this.#dispatcher.free - this.#lookingUp);
    if (this.#topics.size === 1) return free;
    const share = Math.max(1, Math.floor(this.#dispatcher.options.maxInFlight / this.#topics.size));
    return Math.max(0, Math.min(share, free - others));
  }

  /** There are more topics than room: they take turns. */
  get #crowded(): boolean {
    return this.#topics.size > this.#setup.options.maxInFlight;
  }

  #pull(): void {
    const all = [...this.#topics.values()];
    const first = this.#turn++ % Math.max(1, all.length);
    for (const each of [...all.slice(first), ...all.slice(0, first)]) each.pull();
  }

  #receive(from: GroupTopic, message: Msg): void {
    const facts = parseReply(message.reply ?? '');
    if (facts === null) return;
    const { sequence } = facts;
    const id = String(sequence);
    // A message that was acknowledged while the server delivered it again may come once more, counted from one.
    const isNewest = sequence > from.newest;
    from.newest = Math.max(from.newest, sequence);
    from.lastSequence = Math.max(from.lastSequence, sequence);
    const since = this.#now();
    const inFlight: InFlight = {
      from,
      delivered: message,
      sequence,
      deliveries: facts.deliveries,
      since,
      deadline: since + this.#ownWaitMs,
      replyAt: Number.POSITIVE_INFINITY,
      isRecorded: false,
      isLate: false,
      record: null,
      gone: false,
    };
    if (this.#closed) {
      // With a delay: at once it would be delivered to this subscription's open requests.
      this.#giveBack(inFlight, REFUSED_MS);
      return;
    }
    // In order it waits behind the handler: given back, it would come after later messages.
    if (this.#dispatcher.stuck && !this.#exclusive) {
      this.#giveBack(inFlight, REFUSED_MS);
      return;
    }
    const raw: NatsDelivery = {
      topic: from.topic,
      id,
      message: this.#setup.codec.decode(message.data, message.headers),
      attempt: facts.deliveries,
      // A subscription without a group ends with its process.
      counted: this.#setup.options.group === null,
      publishedAt: facts.timeMs,
      inFlight,
    };
    if (from.isSettled(raw)) {
      this.#reply(inFlight, ACK);
      return;
    }
    const earlier = from.inFlight.get(sequence);
    if (earlier !== undefined && this.#exclusive && isLaterDelivery(markOf(raw), markOf(earlier))) {
      // It stays at its place, before those that came after it.
      this.#reply(inFlight, IN_PROGRESS);
      return;
    }
    if (earlier !== undefined) {
      // The server has redelivered a message that is still in flight here.
      this.#forget(earlier.inFlight);
      this.#dispatcher.revoke(from.topic, id, 'its deadline has passed');
    }
    const retry = this.#retries.take(from.topic, id);
    from.inFlight.set(sequence, raw);
    this.#progress.watch(inFlight, since);
    const isFirst =
      isNewest &&
      facts.deliveries === 1 &&
      sequence > from.suspectUpTo &&
      !from.isTakenOver(sequence);
    const isOwnRetry = retry !== undefined && retry.deliveries === facts.deliveries - 1;
    if (from.lookingUp !== null || !(isFirst || isOwnRetry)) {
      this.#lookUp(from, raw, isFirst);
      return;
    }
    const known = isOwnRetry ? { ...raw, attempt: retry.attempts + 1 } : raw;
    from.inFlight.set(sequence, known);
    this.#dispatcher.push(known);
  }

  /** Reads the record of earlier hand-overs before it pushes; in order, later messages wait for that. */
  #lookUp(from: GroupTopic, raw: NatsDelivery, isFirst: boolean): void {
    this.#lookingUp++;
    const before = this.#exclusive ? from.lookingUp : null;
    const looking = (async () => {
      const known = isFirst ? raw : await this.#withAttempt(from, raw);
      await before;
      this.#lookingUp--;
      if (raw.inFlight.gone) return;
      if (from.inFlight.get(raw.inFlight.sequence) === raw)
        from.inFlight.set(raw.inFlight.sequence, known);
      this.#dispatcher.push(known);
    })();
    from.lookingUp = looking;
    void looking.then(() => {
      if (from.lookingUp === looking) from.lookingUp = null;
    });
  }

  async #withAttempt(from: GroupTopic, raw: NatsDelivery): Promise<NatsDelivery> {
    if (this.#setup.options.group === null) {
      return { ...raw, attempt: Math.min(2, raw.attempt), suspect: raw.attempt > 1 };
    }
    const record = await this.#readRecord(raw);
    raw.inFlight.isRecorded = record !== null;
    return { ...raw, ...attemptOf(from, raw.inFlight, record) };
  }

  /** Without its record the message may get attempts more, never fewer. */
  async #readRecord(raw: NatsDelivery): Promise<HandOverRecord | null> {
    const { attempts, broker, events } = this.#setup;
    for (let tries = 1; ; tries++) {
      try {
        return await attempts.read(this.#placeOf(raw));
      } catch (error) {
        const known = toRivulet(error);
        if (raw.inFlight.gone || this.#closed || !isOutage(known)) return null;
        if (tries >= MOST_READS) {
          events.emit('warning', { error: known });
          return null;
        }
      }
      await pause(broker.scheduler, READ_AGAIN_MS);
    }
  }

  #expire(inFlight: InFlight): void {
    // Every handler is past its deadline: the open requests are withdrawn, for other consumers.
    if (this.#dispatcher.stuck && !this.#exclusive) {
      for (const each of this.#topics.values()) each.restart();
    }
    this.#giveBack(inFlight, 0);
    const { topic } = inFlight.from;
    this.#dispatcher.revoke(topic, String(inFlight.sequence), 'its deadline has passed');
  }

  #allInFlight(): InFlight[] {
    return [...this.#topics.values()].flatMap((each) =>
      [...each.inFlight.values()].map(({ inFlight }) => inFlight),
    );
  }

  #giveBack(inFlight: InFlight, delayMs: number): void {
    this.#reply(inFlight, delayMs < 1 ? NAK : nakWithDelay(delayMs));
    this.#forget(inFlight);
  }

  #reply(inFlight: InFlight, what: Uint8Array): void {
    const { link } = this.#setup;
    const { reply } = inFlight.delivered;
    if (link.connected) link.outgoing.publish(reply as string, what);
    // Without a connection the message is redelivered; `nc` throws NOT_CONNECTED for a settlement.
    else if (what === ACK || what === TERM) void link.nc;
  }

  #forget(inFlight: InFlight): void {
    inFlight.gone = true;
    const { from, sequence } = inFlight;
    if (from.inFlight.get(sequence)?.inFlight === inFlight) from.inFlight.delete(sequence);
  }

  #lose(from: GroupTopic, reason: string): void {
    from.forgetSettled();
    for (const { topic, id, inFlight } of [...from.inFlight.values()]) {
      this.#forget(inFlight);
      this.#dispatcher.revoke(topic, id, reason);
    }
  }

  #mustBeOpen(inFlight: InFlight): void {
    if (!inFlight.gone) return;
    const text = 'the message is no longer delivered to this consumer';
    throw new RivuletError('DELIVERY_LOST', text);
  }

  /** A topic of the pattern was deleted. A new one of its name is discovered again. */
  #leaveOut(each: GroupTopic): void {
    if (this.#topics.get(each.topic) !== each) return;
    this.#lose(each, 'its topic was deleted');
    this.#topics.delete(each.topic);
    void each.stop().then(() => each.leave());
    this.#setup.events.emit('groupLost', { topic: each.topic, group: this.group });
  }

  #now(): number {
    return this.#setup.broker.scheduler.monotonic();
  }
}

/** The record that a handler has had the message. */
function handOverOf({ attempt, inFlight: { deliveries } }: NatsDelivery): HandOverRecord {
  return { count: attempt, deliveries, isBack: false };
}
