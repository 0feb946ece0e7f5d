/**
 * One subscription: a durable consumer per topic it matches, one dispatcher for all of them.
 *
 * The server redelivers what is not acknowledged within `ackWaitMs`. That deadline cannot be moved by
 * an arbitrary time, so a delivery in hand is kept by `+WPI` (in progress) until its own deadline, at
 * which it is given back. Invariants: what the pullers may bring and what is in hand is at most
 * `maxInFlight`; what is not held any more is never acknowledged from here.
 * Cost: one object per delivery and one timer for all of them; acknowledgements of one turn leave in
 * one write.
 */
import type { Msg } from '@nats-io/transport-node';
import {
  type Attachment,
  type BrokerEvents,
  type BrokerOptions,
  type Consume,
  compilePattern,
  Dispatcher,
  deadLetterMessage,
  deadlineGraceMs,
  type Events,
  isOutage,
  isPattern,
  type Message,
  type PendingEntry,
  type Position,
  type ResolvedSubscribeOptions,
  RivuletError,
  type Settler,
  type Tracing,
} from 'rivulet';
import type { Attempts, HandOverRecord, Place } from './attempts.ts';
import { storeCut } from './dead-letter.ts';
import { toRivulet } from './failures.ts';
import type { Form } from './form.ts';
import { GroupTopic } from './group-topic.ts';
import {
  ACK,
  type Held,
  IN_PROGRESS,
  NAK,
  type NatsDelivery,
  nakWithDelay,
  parseAck,
  TERM,
} from './held.ts';
import type { Link } from './link.ts';
import { LONGEST_MS } from './puller.ts';
import type { Streams } from './streams.ts';

const DISCOVER_EVERY_MS = 1000;
/** Topics of a pattern that are begun at once. */
const SIDE_BY_SIDE = 16;
/** The dispatcher notices first that a handler is too slow. */
const GRACE_MS = 20;
/** How long a topic may wait for messages while others wait for their turn. */
const TURN_MS = 100;
const REFUSED_MS = 250;
const MOST_PARKED = 10_000;
const MOST_REFUSED = 1000;
const REFUSED_TOPIC_MS = 30_000;

interface Parked extends PendingEntry {
  readonly topic: string;
  readonly deliveries: number;
  readonly since: number;
  readonly until: number;
}

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: Consume;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly link: Link;
  readonly streams: Streams;
  readonly attempts: Attempts;
  readonly form: Form;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  readonly consumerName: string;
  readonly topics: () => Promise<readonly string[]>;
  /** Stores a message; its own id makes a second try harmless. */
  readonly store: (topic: string, message: Message, id: string) => Promise<void>;
}

export class Subscription implements Attachment, Settler<NatsDelivery> {
  readonly #setup: SubscriptionSetup;
  readonly group: string;
  readonly #dispatcher: Dispatcher<NatsDelivery>;
  readonly #topics = new Map<string, GroupTopic>();
  readonly #parked = new Map<string, Parked>();
  /** Topics of a pattern that could not be consumed, and when they are tried again. */
  readonly #refused = new Map<string, number>();
  #turn = 0;
  /** Messages whose attempts are being looked up: in hand, and not yet the dispatcher's. */
  #lookingUp = 0;
  #cancelDiscovery = () => {};
  #discovering: Promise<void> | null = null;
  #cancelSweep = () => {};
  #sweepAt = Number.POSITIVE_INFINITY;
  #closed = false;
  readonly #unwatch: () => void;

  constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { options, broker, events, tracing, consume, link } = setup;
    this.group = options.group ?? `own-${broker.scheduler.uniqueName()}`;
    this.#dispatcher = new Dispatcher<NatsDelivery>({
      options,
      consume,
      settler: this,
      scheduler: broker.scheduler,
      events,
      tracing,
      countsReads: true,
      onFree: () => this.#pull(),
    });
    this.#unwatch = link.onReady(() => this.#pull());
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  async start(): Promise<void> {
    const { pattern, options } = this.#setup;
    try {
      if (isPattern(pattern)) {
        await this.#discover(options.from);
        this.#discoverLater();
      } else {
        await this.#add(pattern, options.from);
      }
    } catch (error) {
      await this.close(0);
      throw toRivulet(error);
    }
  }

  isOf(topic: string, group: string): boolean {
    return this.group === group && this.#topics.has(topic);
  }

  /** The group moves: what is in hand is dropped. */
  drop(topic: string): void {
    const each = this.#topics.get(topic);
    each?.hold();
    if (each !== undefined) this.#lose(each, 'its group was moved');
    for (const [name, parked] of this.#parked) {
      if (parked.topic === topic) this.#parked.delete(name);
    }
  }

  /** Its topic may have been deleted. */
  check(topic: string): void {
    void this.#topics.get(topic)?.check();
  }

  resume(topic: string): void {
    this.#topics.get(topic)?.moved();
  }

  pending(topic: string): PendingEntry[] {
    const now = this.#now();
    const inHand = [...(this.#topics.get(topic)?.held.values() ?? [])].map((raw) => ({
      id: raw.id,
      consumer: this.#setup.consumerName,
      idleMs: Math.round(now - raw.held.since),
      attempts: raw.attempt,
    }));
    const parked = [...this.#parked.values()]
      .filter((each) => each.topic === topic && each.until > now)
      .map(({ id, attempts, since }) => {
        return { id, consumer: '', idleMs: Math.round(now - since), attempts };
      });
    return [...parked, ...inHand];
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    this.#unwatch();
    this.#cancelDiscovery();
    await this.#discovering?.catch(() => {});
    // What still comes is given back, so the handlers need not be waited for after that.
    await Promise.all([
      this.#dispatcher.close(timeoutMs),
      ...[...this.#topics.values()].map((each) => each.stop()),
    ]);
    // In the order they came, so that they are redelivered in that order.
    for (const held of this.#everythingHeld()) this.#giveBack(held, 0);
    this.#cancelSweep();
    await Promise.all([...this.#topics.values()].map((each) => each.leave()));
  }

  async ack({ held }: NatsDelivery): Promise<void> {
    this.#mustHold(held);
    this.#say(held, ACK);
    this.#forget(held);
  }

  /** What is not held any more is left alone: the dispatcher has heard so. */
  async ackMany(raws: readonly NatsDelivery[]): Promise<void> {
    for (const { held } of raws) {
      if (held.gone) continue;
      this.#say(held, ACK);
      this.#forget(held);
    }
  }

  async nack(raw: NatsDelivery, delayMs: number, _reason: string): Promise<void> {
    await this.#tell(raw, raw.attempt, true);
    this.#mustHold(raw.held);
    this.#giveBack(raw.held, delayMs);
    this.#park(raw, delayMs);
  }

  /** Before the server is told what becomes of a delivery: what its count of them does not say. */
  async #tell(raw: NatsDelivery, count: number, isBack: boolean): Promise<void> {
    this.#mustHold(raw.held);
    if (this.#setup.options.group === null) return;
    const { deliveries } = raw.held;
    await this.#setup.attempts.tell(this.#placeOf(raw), { count, deliveries, isBack });
  }

  #placeOf({ topic, held: { sequence, from } }: NatsDelivery): Place {
    return { topic, group: this.group, sequence, origin: from.origin };
  }

  async deadLetter(raw: NatsDelivery, topic: string, reason: string): Promise<void> {
    const { held } = raw;
    this.#mustHold(held);
    const { store, options, broker, events } = this.#setup;
    const now = broker.scheduler.now();
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, now);
    // Stored twice, after a crash in between, it is stored once.
    const id = `dead:${held.from.origin}:${raw.id}:${this.group}`;
    await storeCut(
      dead,
      raw.message,
      (fitting) => store(topic, fitting, id),
      (cut) => {
        const text = `the dead letter of message ${raw.id} of ${raw.topic} does not fit into max_payload of the server with ${cut}, which is left out`;
        events.emit('warning', { error: new RivuletError('BODY_TOO_LARGE', text) });
      },
    );
    if (held.gone) return;
    this.#say(held, TERM);
    this.#forget(held);
  }

  async extend({ held }: NatsDelivery, ms: number): Promise<void> {
    this.#mustHold(held);
    held.deadline = this.#now() + ms + deadlineGraceMs(this.#setup.options.ackWaitMs);
    this.#say(held, IN_PROGRESS);
    this.#arm(held);
  }

  async release(raw: NatsDelivery): Promise<void> {
    // Order: what is given back now would come back before what is still in hand.
    if (raw.held.gone || (this.#closed && this.#exclusive)) return;
    await this.#tell(raw, raw.attempt - 1, true);
    if (!raw.held.gone) this.#giveBack(raw.held, 0);
  }

  /** JetStream counts what it delivers; a retry in place it does not see. */
  async recount(raw: NatsDelivery): Promise<void> {
    this.#mustHold(raw.held);
    if (this.#setup.options.group === null) return;
    const { deliveries } = raw.held;
    const record = { count: raw.attempt, deliveries, isBack: false };
    await this.#setup.attempts.write(this.#placeOf(raw), record);
  }

  /** The dispatcher keeps the deadline; this one is for when it could not. */
  get #ownWaitMs(): number {
    const { ackWaitMs } = this.#setup.options;
    return ackWaitMs + deadlineGraceMs(ackWaitMs);
  }

  get #exclusive(): boolean {
    return this.#setup.options.ordered !== 'no' && this.#setup.options.group !== null;
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
    // The others have asked for all the room there is; now it is shared anew.
    for (const other of this.#topics.values()) if (other !== each) other.restart();
    try {
      await each.start(from);
    } catch (error) {
      this.#topics.delete(topic);
      throw error;
    }
  }

  /** Room is shared by the topics of a pattern; each may ask for what the others have not. */
  #roomFor(topic: string): number {
    if (this.#closed) return 0;
    let others = 0;
    for (const each of this.#topics.values()) if (each.topic !== topic) others += each.asked;
    const free = Math.max(0, this.#dispatcher.free - this.#lookingUp);
    if (this.#topics.size === 1) return free;
    const share = Math.max(1, Math.floor(this.#dispatcher.options.maxInFlight / this.#topics.size));
    return Math.max(0, Math.min(share, free - others));
  }

  /** More topics than room: they take turns. */
  get #crowded(): boolean {
    return this.#topics.size > this.#setup.options.maxInFlight;
  }

  #pull(): void {
    const all = [...this.#topics.values()];
    const first = this.#turn++ % Math.max(1, all.length);
    for (const each of [...all.slice(first), ...all.slice(0, first)]) each.pull();
  }

  #receive(from: GroupTopic, message: Msg): void {
    const facts = parseAck(message.reply ?? '');
    if (facts === null) return;
    const { sequence } = facts;
    const id = String(sequence);
    from.lastSequence = Math.max(from.lastSequence, sequence);
    const since = this.#now();
    const held: Held = {
      from,
      delivered: message,
      sequence,
      deliveries: facts.deliveries,
      since,
      deadline: since + this.#ownWaitMs,
      dueAt: Number.POSITIVE_INFINITY,
      gone: false,
    };
    if (this.#closed) {
      // Later, or it would come to this one again as long as its requests stand.
      this.#giveBack(held, REFUSED_MS);
      return;
    }
    // In order it waits behind the handler: given back, it would come after its successors.
    if (this.#dispatcher.stuck && !this.#exclusive) {
      this.#giveBack(held, REFUSED_MS);
      return;
    }
    const earlier = from.held.get(sequence);
    if (earlier !== undefined) {
      // The server has given up on an earlier delivery of it that is still in hand here.
      this.#forget(earlier.held);
      this.#dispatcher.lose(from.topic, id, 'its deadline has passed');
    }
    const name = `${from.topic} ${id}`;
    const parked = this.#parked.get(name);
    this.#parked.delete(name);
    const raw: NatsDelivery = {
      topic: from.topic,
      id,
      message: this.#setup.form.read(message.data, message.headers),
      attempt: facts.deliveries,
      publishedAt: facts.timeMs,
      held,
    };
    from.held.set(sequence, raw);
    this.#arm(held, since);
    const isFirst =
      facts.deliveries === 1 && sequence > from.suspectUpTo && !from.isTakenOver(sequence);
    const isParked = parked !== undefined && parked.deliveries === facts.deliveries - 1;
    if (from.lookingUp !== null || !(isFirst || isParked)) {
      this.#lookUp(from, raw, isFirst);
      return;
    }
    const known = isParked ? { ...raw, attempt: parked.attempts + 1 } : raw;
    from.held.set(sequence, known);
    this.#dispatcher.push(known);
  }

  /** What is known of earlier hand-overs decides its attempt; in order, what comes later waits. */
  #lookUp(from: GroupTopic, raw: NatsDelivery, isFirst: boolean): void {
    this.#lookingUp++;
    const before = this.#exclusive ? from.lookingUp : null;
    const looking = (async () => {
      const known = isFirst ? raw : await this.#withAttempts(from, raw);
      await before;
      this.#lookingUp--;
      if (raw.held.gone) return;
      if (from.held.get(raw.held.sequence) === raw) from.held.set(raw.held.sequence, known);
      this.#dispatcher.push(known);
    })();
    from.lookingUp = looking;
    void looking.then(() => {
      if (from.lookingUp === looking) from.lookingUp = null;
    });
  }

  async #withAttempts(from: GroupTopic, raw: NatsDelivery): Promise<NatsDelivery> {
    const { sequence, deliveries } = raw.held;
    const isTakenFromDead = sequence <= from.suspectUpTo;
    let record: HandOverRecord | null = null;
    try {
      if (this.#setup.options.group !== null) {
        record = await this.#setup.attempts.read(this.#placeOf(raw));
      }
    } catch {
      // Then the server's own count has to do.
    }
    // A consumer that was made again counts its deliveries from one.
    const isOther = from.isTakenOver(sequence);
    if (record === null) {
      const handed = isTakenFromDead && sequence === from.suspectFrom ? 1 : 0;
      const count = isOther ? handed + deliveries - 1 : deliveries - 1;
      return { ...raw, attempt: count + 1, suspect: deliveries > 1 || isTakenFromDead };
    }
    const vanished = isOther ? deliveries - 1 : Math.max(0, deliveries - record.deliveries - 1);
    const suspect = vanished > 0 || !record.isBack || (isOther && isTakenFromDead);
    return { ...raw, attempt: record.count + vanished + 1, suspect };
  }

  /** "In progress" is said often enough for the server, and given up at the deadline. */
  #arm(held: Held, now = this.#now()): void {
    const every = this.#setup.options.ackWaitMs / 3;
    const left = held.deadline - now;
    held.dueAt = left > every ? now + every : Math.max(held.deadline, now) + GRACE_MS;
    this.#sweepBy(held.dueAt);
  }

  #sweepBy(time: number): void {
    if (time >= this.#sweepAt) return;
    this.#cancelSweep();
    this.#sweepAt = time;
    const wait = Math.max(1, Math.ceil(time - this.#now()));
    this.#cancelSweep = this.#setup.broker.scheduler.after(wait, () => this.#sweep());
  }

  #sweep(): void {
    this.#sweepAt = Number.POSITIVE_INFINITY;
    const now = this.#now();
    let next = Number.POSITIVE_INFINITY;
    for (const held of this.#everythingHeld()) {
      if (held.gone) continue;
      if (held.dueAt > now) {
        next = Math.min(next, held.dueAt);
      } else if (held.deadline > now) {
        this.#say(held, IN_PROGRESS);
        this.#arm(held);
      } else {
        this.#expire(held);
      }
    }
    this.#sweepBy(next);
  }

  #expire(held: Held): void {
    // Every handler is overdue: what was asked for is for others, this one included.
    if (this.#dispatcher.stuck && !this.#exclusive) {
      for (const each of this.#topics.values()) each.restart();
    }
    this.#giveBack(held, 0);
    const { topic } = held.from;
    this.#dispatcher.lose(topic, String(held.sequence), 'its deadline has passed');
  }

  #everythingHeld(): Held[] {
    return [...this.#topics.values()].flatMap((each) =>
      [...each.held.values()].map(({ held }) => held),
    );
  }

  #giveBack(held: Held, delayMs: number): void {
    this.#say(held, delayMs < 1 ? NAK : nakWithDelay(delayMs));
    this.#forget(held);
  }

  #say(held: Held, what: Uint8Array): void {
    const { link } = this.#setup;
    if (link.connected) held.delivered.respond(what);
    // Without a connection it stays unsaid, and the message comes again.
    else if (what === ACK || what === TERM) void link.nc;
  }

  #forget(held: Held): void {
    held.gone = true;
    const { from, sequence } = held;
    if (from.held.get(sequence)?.held === held) from.held.delete(sequence);
  }

  #park({ topic, id, attempt, held: { deliveries } }: NatsDelivery, ms: number): void {
    const since = this.#now();
    if (this.#parked.size >= MOST_PARKED) {
      for (const [each, { until }] of this.#parked) if (until <= since) this.#parked.delete(each);
    }
    if (this.#parked.size >= MOST_PARKED) return;
    const until = since + ms;
    this.#parked.set(`${topic} ${id}`, {
      topic,
      id,
      deliveries,
      consumer: '',
      idleMs: 0,
      attempts: attempt,
      since,
      until,
    });
  }

  #lose(from: GroupTopic, reason: string): void {
    for (const { topic, id, held } of [...from.held.values()]) {
      this.#forget(held);
      this.#dispatcher.lose(topic, id, reason);
    }
  }

  #mustHold(held: Held): void {
    if (!held.gone) return;
    throw new RivuletError('DELIVERY_LOST', "the message is no longer this consumer's");
  }

  async #discover(from: Position): Promise<void> {
    const { pattern, topics } = this.#setup;
    const matches = compilePattern(pattern);
    const found = (await topics())
      .filter((topic) => matches(topic) && !this.#topics.has(topic))
      // A pattern over everything does not mean the dead letters of everything.
      .filter((topic) => !topic.endsWith('.dead') || pattern.endsWith('.dead'))
      .filter((topic) => this.#now() >= (this.#refused.get(topic) ?? 0));
    // A consumer takes a cluster a second to make.
    for (let at = 0; at < found.length && !this.#closed; at += SIDE_BY_SIDE) {
      const some = found.slice(at, at + SIDE_BY_SIDE);
      await Promise.all(some.map((topic) => this.#addFound(topic, from)));
    }
  }

  /** One topic that cannot be consumed keeps no other from being found. */
  async #addFound(topic: string, from: Position): Promise<void> {
    const { streams, events } = this.#setup;
    try {
      // Deleted since it was listed, it is not made again.
      if (!(await streams.holds(topic))) return;
      await this.#add(topic, from);
      this.#refused.delete(topic);
    } catch (error) {
      const known = toRivulet(error);
      if (isOutage(known) && known.code !== 'GROUP_LOST') throw known;
      if (this.#refused.size >= MOST_REFUSED) this.#refused.clear();
      this.#refused.set(topic, this.#now() + REFUSED_TOPIC_MS);
      const text = `topic ${topic} is left out of ${this.#setup.pattern}, to be tried again: ${known.message}`;
      events.emit('warning', { error: new RivuletError(known.code, text, { cause: error }) });
    }
  }

  /** A topic of the pattern has been deleted: it is found again when there is one of its name. */
  #leaveOut(each: GroupTopic): void {
    if (this.#topics.get(each.topic) !== each) return;
    this.#lose(each, 'its topic was deleted');
    this.#topics.delete(each.topic);
    void each.stop().then(() => each.leave());
    this.#setup.events.emit('groupLost', { topic: each.topic, group: this.group });
  }

  #discoverLater(): void {
    const { scheduler } = this.#setup.broker;
    this.#cancelDiscovery = scheduler.after(DISCOVER_EVERY_MS, () => {
      this.#discovering = this.#discover('earliest')
        .catch((error) => this.#setup.events.emit('warning', { error: toRivulet(error) }))
        .finally(() => {
          if (!this.#closed) this.#discoverLater();
        });
    });
  }

  #now(): number {
    return this.#setup.broker.scheduler.monotonic();
  }
}
