/**
 * One topic as one subscription in this process reads it: a blocked reader that never ends.
 *
 * The engine tries it whenever the topic is touched or something of the group falls due; it then takes
 * what the dispatcher has room for: what is due first, then what is new. Deliveries reach the
 * dispatcher when the log holds them.
 * In an ordered group only the leader takes; a new leader begins with everything that is pending.
 * Invariants: what is taken and has not reached the dispatcher yet counts against its room, which all
 * readers of a subscription share. What its handlers do not take at once is fetched ahead, and its
 * delivery count stays as it is. What a consumer left unsettled is handed over as a suspect.
 */
import type { ClaimSink, HandOverBudget } from '../consumer-groups/claim.ts';
import type { Consumer } from '../consumer-groups/consumer.ts';
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import { PendingCursor } from '../consumer-groups/pending-cursor.ts';
import { NOBODY, PARKED } from '../consumer-groups/pending-page.ts';
import type { BlockedReader } from '../engine/blocked-readers.ts';
import { DAMAGE_RETRY_MS } from '../engine/damaged-streams.ts';
import type { Database } from '../engine/database.ts';
import { assignEntry, deliverDue, hasDue } from '../engine/group-policy.ts';
import type { KeyEntry } from '../engine/key-entry.ts';
import { acknowledge, Delivery, type GroupTurn, release } from '../engine/stream-deliveries.ts';
import { createConsumer, createGroup, deleteConsumer } from '../engine/stream-groups.ts';
import type { StreamValue } from '../engine/stream-value.ts';
import { IdList } from '../stream/id-list.ts';
import { StreamId } from '../stream/stream-id.ts';
import { StreamIterator } from '../stream/stream-iterator.ts';
import { scratch, scratchRecord } from '../util/scratch.ts';
import type { RawDelivery } from './delivery.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { EmbeddedEngine, GroupMember } from './embedded-engine.ts';
import { messageOf } from './entry.ts';

const NEVER = Number.POSITIVE_INFINITY;
/** A leader whose handlers do not return is looked at this often, ms, while others wait for the lead. */
const STUCK_LOOK_MS = 100;
/** While the disk takes no records, nothing can be delivered; then it is tried again. */
const REFUSED_MS = 500;

/** A delivery, and where it came from: settling it looks whether that is still so. */
export interface EmbeddedDelivery extends RawDelivery {
  readonly entryId: StreamId;
  readonly groupAtDelivery: ConsumerGroup;
}

export interface ReaderSetup {
  readonly shell: EmbeddedEngine;
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  readonly dispatcher: Dispatcher<EmbeddedDelivery>;
  /** One consumer of the group at a time. */
  readonly exclusive: boolean;
  /** Gives a group that was just made (again) what the subscription wants of it. */
  readonly prepare: (entry: KeyEntry, group: ConsumerGroup) => void;
  readonly onLost: () => void;
  readonly onTrimmed: (topic: string, id: string) => void;
  readonly onBuried: (topic: string, id: string, reason: string, moved: boolean) => void;
}

export class EmbeddedReader implements BlockedReader, GroupMember {
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  readonly database: Database;
  readonly keys: readonly Buffer[];
  readonly deadline = NEVER;
  wakeAt = NEVER;
  /** There may be more than there was room for. */
  hungry = false;
  readonly #setup: ReaderSetup;
  readonly #consumerName: Buffer;
  readonly #groupName: string;
  /** Taken, on its way to the dispatcher. */
  #coming = 0;
  #leads = false;
  /** There may be more that is due than one search has seen. */
  #unfinished = false;
  /** A new leader takes over what is pending after this id; null = that is done. */
  #takeOverAfter: StreamId | null = null;
  #closed = false;

  constructor(setup: ReaderSetup) {
    this.#setup = setup;
    this.topic = setup.topic;
    this.group = setup.group;
    this.consumer = setup.consumer;
    this.database = setup.shell.database;
    this.keys = [Buffer.from(setup.topic)];
    this.#consumerName = Buffer.from(setup.consumer);
    this.#groupName = Buffer.from(setup.group).toString('latin1');
  }

  /** Within a turn; the group is there. */
  start(): void {
    const { shell } = this.#setup;
    shell.engine.blocked.add(this);
    shell.join(this);
    this.#again();
  }

  /** There is room again. Within a turn. */
  free(): void {
    if (this.hungry) this.#again();
  }

  lead(leads: boolean): void {
    if (this.#leads === leads) return;
    this.#leads = leads;
    if (!this.#setup.exclusive) return;
    if (leads) {
      this.#takeOverAfter = StreamId.min();
      const { shell } = this.#setup;
      shell.run(() => shell.engine.blocked.again(this));
    } else {
      void this.#setup.dispatcher.countHandOvers();
      this.loseAll('another consumer leads the ordered group');
    }
  }

  loseAll(reason: string): void {
    const { dispatcher } = this.#setup;
    for (const id of dispatcher.heldIds(this.topic)) dispatcher.lose(this.topic, id, reason);
  }

  trimmed(id: string): void {
    this.#setup.onTrimmed(this.topic, id);
  }

  buried(id: string, reason: string, moved: boolean): void {
    this.#setup.onBuried(this.topic, id, reason, moved);
  }

  /** The engine's call: takes what there is; never done. */
  retry(): boolean {
    const { shell, dispatcher, exclusive } = this.#setup;
    this.#unfinished = false;
    this.hungry = false;
    this.wakeAt = NEVER;
    if (this.#closed || (exclusive && !this.#leads)) return false;
    const entry = this.database.findKey(this.keys[0] as Buffer);
    if (entry === undefined || entry.value.type !== 'stream') return false;
    const { steady, time } = shell.engine;
    if (shell.refusal !== null) {
      this.wakeAt = time.monotonic + REFUSED_MS;
      return false;
    }
    const group = entry.value.groups.get(this.#groupName) ?? this.#restore(entry);
    if (dispatcher.stuck && exclusive && this.#coming === 0 && shell.yieldLead(this)) return false;
    let room = dispatcher.free;
    if (room > 0) {
      let taken = 0;
      const { value } = entry;
      const sound = shell.engine.damaged.guard(entry, () => {
        taken = this.#take(entry, value, group, room);
      });
      if (!sound) {
        this.wakeAt = time.monotonic + DAMAGE_RETRY_MS;
        return false;
      }
      room -= taken;
      if (taken > 0) shell.engine.blocked.moveToEnd(this);
    }
    this.hungry = room <= 0;
    this.wakeAt = this.#unfinished
      ? time.monotonic
      : time.whenSteady(this.#nextLook(group, steady));
    return false;
  }

  timedOut(): void {}

  /** Takes nothing more. */
  stop(): void {
    this.#closed = true;
    this.#setup.shell.engine.blocked.remove(this);
  }

  /** After the dispatcher has drained, within a turn: gives up what nobody has seen, and its name. */
  leave(): void {
    const { shell, dispatcher } = this.#setup;
    const entry = this.database.findKey(this.keys[0] as Buffer);
    if (entry?.value.type === 'stream') {
      const group = entry.value.groups.get(this.#groupName);
      const consumer = group?.findConsumer(this.#consumerName.toString('latin1'));
      if (group !== undefined && consumer !== undefined) {
        // One whose handler still runs is left to its deadline.
        const busy = new Set(dispatcher.idsInHandlers(this.topic));
        releaseAll(this.database, entry, group, consumer, busy);
        if (consumer.pendingCount === 0) deleteConsumer(this.database, entry, group, consumer);
      }
    }
    shell.leave(this);
  }

  #again(): void {
    this.#setup.shell.engine.blocked.again(this);
  }

  /** Somebody deleted the topic or the group: whatever is there now is new. */
  #restore(entry: KeyEntry): ConsumerGroup {
    const { prepare, onLost, shell } = this.#setup;
    const name = Buffer.from(this.group);
    const group = createGroup(this.database, entry, name, StreamId.min(), -1);
    prepare(entry, group);
    shell.whenSafe(() => {
      this.loseAll('its group was lost');
      onLost();
    });
    return group;
  }

  #take(entry: KeyEntry, value: StreamValue, group: ConsumerGroup, room: number): number {
    const { engine } = this.#setup.shell;
    turn.database = this.database;
    turn.entry = entry;
    turn.value = value;
    turn.group = group;
    turn.consumer = this.#consumerOf(entry, group);
    turn.consumer.seenTime = engine.steady;
    taken.length = 0;
    budget.left = this.#setup.dispatcher.idle;
    if (this.#takeOverAfter !== null) this.#takeOver(room);
    if (this.#takeOverAfter === null) {
      const ackWait = group.policy?.ackWait ?? NEVER;
      sink.reader = this;
      const found = hasDue(turn, ackWait, engine.steady);
      this.#unfinished = found === 'unfinished';
      if (found === 'due') {
        deliverDue(turn, ackWait, room - taken.length, engine.steady, sink, budget);
      }
      if (taken.length < room) this.#takeNew(room);
    }
    const count = taken.length;
    if (count > 0) this.#handOver(taken.splice(0));
    return count;
  }

  /** `>`: up to `room` deliveries in all. */
  #takeNew(room: number): void {
    const { stream } = turn.value;
    if (stream.length === 0 || stream.lastId.compare(turn.group.lastId) <= 0) return;
    start.copy(turn.group.lastId).increment();
    iterator.seek(stream, start, LAST_ID);
    const { steady } = this.#setup.shell.engine;
    let counted = true;
    delivery.begin(turn, false, steady);
    while (taken.length < room && iterator.next()) {
      if (counted && budget.left-- <= 0) {
        counted = false;
        delivery.end();
        delivery.begin(turn, false, steady, 0);
      }
      taken.push(this.#read(iterator, 1, counted, false));
      delivery.deliver(iterator.id);
    }
    delivery.end();
  }

  /** What others of the group have left pending, in order of id; what is this consumer's own stays. */
  #takeOver(room: number): void {
    const { group, consumer, value } = turn;
    const { engine } = this.#setup.shell;
    const held = new Set(this.#setup.dispatcher.heldIds(this.topic));
    const after = this.#takeOverAfter as StreamId;
    const gone = new IdList();
    let more = group.pending.seek(start.copy(after), cursor);
    for (; more && taken.length < room; more = cursor.next()) {
      after.copy(cursor.id).increment();
      if (held.has(cursor.id.toString())) continue;
      iterator.seek(value.stream, cursor.id, cursor.id);
      if (!iterator.next()) {
        gone.push(cursor.id);
        continue;
      }
      const { count, consumer: owner } = cursor;
      const isOwn = owner === consumer.index;
      const suspect = !isOwn && owner !== NOBODY && owner !== PARKED;
      const attempt = isOwn ? Math.max(1, count) : count + 1;
      taken.push(this.#read(iterator, attempt, count === attempt, suspect));
      assignEntry(turn, cursor.id, engine.steady, count);
    }
    if (gone.count > 0) acknowledge(this.database, turn.entry, group, gone);
    if (!more) this.#takeOverAfter = null;
  }

  /** A due entry is delivered again. `before` is its delivery count until then. */
  takeDue(pending: PendingCursor, before: number, suspect: boolean): void {
    iterator.seek(turn.value.stream, pending.id, pending.id);
    if (!iterator.next()) return;
    taken.push(this.#read(iterator, before + 1, pending.count > before, suspect));
  }

  #read(
    from: StreamIterator,
    attempt: number,
    counted: boolean,
    suspect: boolean,
  ): EmbeddedDelivery {
    fields.length = 0;
    while (from.nextField()) {
      fields.push(
        from.fieldBuffer.subarray(from.fieldOffset, from.fieldOffset + from.fieldLength),
        from.valueBuffer.subarray(from.valueOffset, from.valueOffset + from.valueLength),
      );
    }
    const message = messageOf(fields);
    return {
      topic: this.topic,
      id: from.id.toString(),
      // The stream's own bytes may move.
      message: { ...message, body: Buffer.from(message.body) },
      attempt,
      counted,
      suspect,
      publishedAt: from.id.ms,
      entryId: from.id.clone(),
      groupAtDelivery: turn.group,
    };
  }

  #handOver(deliveries: EmbeddedDelivery[]): void {
    const { shell, dispatcher } = this.#setup;
    this.#coming += deliveries.length;
    dispatcher.reserve(deliveries.length);
    shell.whenSafe((error) => {
      this.#coming -= deliveries.length;
      dispatcher.unreserve(deliveries.length);
      if (error !== null) return;
      for (const each of deliveries) {
        // Whoever in this process had it before has it no longer.
        for (const member of shell.members(this.topic, this.group)) {
          if (each.attempt > 1) (member as EmbeddedReader).#lose(each.id);
        }
        dispatcher.push(each);
      }
    });
  }

  #lose(id: string): void {
    this.#setup.dispatcher.lose(this.topic, id, 'its deadline has passed');
  }

  #nextLook(group: ConsumerGroup, now: number): number {
    const { policy } = group;
    const { shell, exclusive } = this.#setup;
    const others = shell.members(this.topic, this.group).length > 1;
    if (this.hungry && exclusive) return others ? now + STUCK_LOOK_MS : NEVER;
    // Whoever is given something is not alone in having room, or is tried before those who have.
    if (policy === null || group.pending.size === 0) return NEVER;
    // What others are given from now on is due only later.
    const later = others ? now + policy.ackWait : NEVER;
    return this.hungry
      ? later
      : Math.min(later, group.pending.order.nextIdleAt(policy.ackWait, now));
  }

  #consumerOf(entry: KeyEntry, group: ConsumerGroup): Consumer {
    return (
      group.findConsumer(this.#consumerName.toString('latin1')) ??
      createConsumer(
        this.database,
        entry,
        group,
        this.#consumerName,
        this.#setup.shell.engine.steady,
      )
    );
  }
}

/** Releases what is pending for a consumer, but for `kept`. */
export function releaseAll(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  consumer: Consumer,
  kept: ReadonlySet<string>,
): void {
  if (consumer.pendingCount === 0 || entry.value.type !== 'stream') return;
  const ids = new IdList();
  let more = group.pending.seekConsumer(consumer.index, FIRST_ID, cursor);
  for (; more; more = cursor.nextOf(consumer.index)) {
    if (!kept.has(cursor.id.toString())) ids.push(cursor.id);
  }
  if (ids.count === 0) return;
  // What was counted for handlers that never got it is counted no longer.
  release(database, entry, entry.value, group, ids, {
    mode: 'SILENT',
    retryCount: -1,
    force: false,
  });
}

/** Makes due what a consumer that is gone has left unsettled; it stays that consumer's. */
export function expireAll(
  database: Database,
  entry: KeyEntry,
  group: ConsumerGroup,
  consumer: Consumer,
): void {
  if (consumer.pendingCount === 0 || entry.value.type !== 'stream') return;
  const left: { readonly id: StreamId; readonly count: number }[] = [];
  let more = group.pending.seekConsumer(consumer.index, FIRST_ID, cursor);
  for (; more; more = cursor.nextOf(consumer.index)) {
    left.push({ id: cursor.id.clone(), count: cursor.count });
  }
  const place = { database, entry, value: entry.value, group, consumer };
  for (const { id, count } of left) assignEntry(place, id, 0, count);
  database.wake(entry);
}

class DueSink implements ClaimSink {
  reader!: EmbeddedReader;

  claimed(pending: PendingCursor, _idle: number, before: number, unsettled: boolean): void {
    this.reader.takeDue(pending, before, unsettled);
  }

  deleted(): void {}
}

const FIRST_ID = StreamId.min();
const LAST_ID = StreamId.max();

// Scratch: never held across calls.
const turn = scratchRecord({} as GroupTurn);
const taken: EmbeddedDelivery[] = [];
const fields: Uint8Array[] = [];
const start = new StreamId();
const iterator = scratch(new StreamIterator());
const cursor = scratch(new PendingCursor());
const delivery = new Delivery();
const sink = new DueSink();
const budget: HandOverBudget = { left: 0 };
