/**
 * One topic as one subscription in this process reads it: a blocked reader that never ends.
 *
 * The engine calls it when the topic changes or an entry of the group becomes due. It then reads what
 * the dispatcher has room for: due entries first, then new ones. Deliveries reach the dispatcher when
 * the log holds them. In an ordered group only the leader reads; a new leader starts with everything
 * that is pending.
 * Invariants: what was read and has not reached the dispatcher counts against its room, which all
 * readers of a subscription share. What the handlers do not take at once is fetched ahead, and its
 * delivery count is unchanged. What a consumer left unsettled is delivered as a suspect.
 */
import type { ClaimSink, HandOverBudget } from '../../consumer-groups/claim.ts';
import type { Consumer } from '../../consumer-groups/consumer.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { PendingCursor } from '../../consumer-groups/pending/pending-cursor.ts';
import { DELAYED, UNOWNED } from '../../consumer-groups/pending/pending-page.ts';
import type { BlockedReader } from '../../engine/keyspace/blocked-readers.ts';
import type { Database } from '../../engine/keyspace/database.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import { DAMAGE_RETRY_MS } from '../../engine/streams/damaged-streams.ts';
import { assignEntry, deliverDue, hasDue } from '../../engine/streams/group-policy.ts';
import {
  acknowledge,
  type ConsumerRef,
  Delivery,
  release,
} from '../../engine/streams/stream-deliveries.ts';
import { createConsumer, createGroup, deleteConsumer } from '../../engine/streams/stream-groups.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import { IdList } from '../../stream/id-list.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StreamIterator } from '../../stream/stream-iterator.ts';
import { scratch, scratchRecord } from '../../util/scratch.ts';
import type { RawDelivery } from '../dispatch/delivery.ts';
import type { Dispatcher } from '../dispatch/dispatcher.ts';
import { decodeMessage } from '../message/entry.ts';
import type { EngineHost, GroupMember } from './engine-host.ts';
import { HandOverMarks } from './hand-over-marks.ts';
import { keptName } from './kept-name.ts';

const NEVER = Number.POSITIVE_INFINITY;
/** While other members wait: how often a leader checks whether its handlers are stuck, ms. */
const STUCK_LOOK_MS = 100;
/** While the log refuses records, nothing can be delivered: the reader tries again after this time, ms. */
const REFUSED_MS = 500;

/** A delivery, and the group that delivered it: a settlement checks that the group is still there. */
export interface EmbeddedDelivery extends RawDelivery {
  readonly entryId: StreamId;
  readonly groupAtDelivery: ConsumerGroup;
}

export interface ReaderSetup {
  readonly host: EngineHost;
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  readonly dispatcher: Dispatcher<EmbeddedDelivery>;
  /** One consumer of the group at a time. */
  readonly exclusive: boolean;
  /** Sets the subscription's policy on a group that was created (again). */
  readonly prepare: (entry: KeyEntry, group: ConsumerGroup) => void;
  readonly onLost: () => void;
  readonly onTrimmed: (topic: string, id: string) => void;
  readonly onAttemptsUsed: (topic: string, id: string, reason: string, moved: boolean) => void;
}

export class EmbeddedReader implements BlockedReader, GroupMember {
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  readonly database: Database;
  readonly keys: readonly Buffer[];
  readonly deadline = NEVER;
  wakeAt = NEVER;
  /** There may be more entries than there was room for. */
  wantsMore = false;
  readonly #setup: ReaderSetup;
  readonly #consumerName: Buffer;
  readonly #groupName: string;
  /** Read, and waiting for the log before they reach the dispatcher. */
  #arriving = 0;
  #leads = false;
  /** The last search for due entries did not see all of them. */
  #unfinished = false;
  /** A new leader takes over what is pending after this id; null = it has taken over everything. */
  #takeOverAfter: StreamId | null = null;
  #closed = false;

  constructor(setup: ReaderSetup) {
    this.#setup = setup;
    this.topic = setup.topic;
    this.group = setup.group;
    this.consumer = setup.consumer;
    this.database = setup.host.database;
    this.keys = [Buffer.from(setup.topic)];
    this.#consumerName = Buffer.from(setup.consumer);
    this.#groupName = keptName(setup.group);
  }

  /** Within a turn; the group exists. */
  start(): void {
    const { host } = this.#setup;
    host.engine.blocked.add(this);
    host.join(this);
    this.#again();
  }

  /** The dispatcher has room again. Within a turn. */
  free(): void {
    if (this.wantsMore) this.#again();
  }

  get isStuck(): boolean {
    return this.#setup.dispatcher.stuck;
  }

  onLead(leads: boolean): void {
    if (this.#leads === leads) return;
    this.#leads = leads;
    if (!this.#setup.exclusive) return;
    if (leads) {
      this.#takeOverAfter = StreamId.min();
      const { host } = this.#setup;
      host.run(() => host.engine.blocked.retryNow(this));
    } else {
      void this.#setup.dispatcher.countHandOvers();
      this.revokeAll('another consumer leads the ordered group');
    }
  }

  revokeAll(reason: string): void {
    const { dispatcher } = this.#setup;
    for (const id of dispatcher.heldIds(this.topic)) dispatcher.revoke(this.topic, id, reason);
  }

  onTrimmed(id: string): void {
    this.#setup.onTrimmed(this.topic, id);
  }

  onAttemptsUsed(id: string, reason: string, moved: boolean): void {
    this.#setup.onAttemptsUsed(this.topic, id, reason, moved);
  }

  /** Called by the engine: reads what there is. Never done, so it always returns false. */
  retry(): boolean {
    const { host, dispatcher, exclusive } = this.#setup;
    this.#unfinished = false;
    this.wantsMore = false;
    this.wakeAt = NEVER;
    if (this.#closed || (exclusive && !this.#leads)) return false;
    const entry = this.database.findKey(this.keys[0] as Buffer);
    if (entry === undefined || entry.value.type !== 'stream') return false;
    const { steady, time } = host.engine;
    if (host.refusal !== null) {
      this.wakeAt = time.monotonic + REFUSED_MS;
      return false;
    }
    const group = entry.value.groups.get(this.#groupName) ?? this.#restore(entry);
    if (dispatcher.stuck && exclusive && this.#arriving === 0 && host.yieldLead(this)) return false;
    let room = dispatcher.free;
    if (room > 0) {
      let taken = 0;
      const { value } = entry;
      const sound = host.engine.damaged.guard(entry, () => {
        taken = this.#take(entry, value, group, room);
      });
      if (!sound) {
        this.wakeAt = time.monotonic + DAMAGE_RETRY_MS;
        return false;
      }
      room -= taken;
      if (taken > 0) host.engine.blocked.moveToEnd(this);
    }
    this.wantsMore = room <= 0;
    this.wakeAt = this.#unfinished
      ? time.monotonic
      : time.whenSteady(this.#nextLook(group, steady));
    return false;
  }

  timedOut(): void {}

  /** Reads nothing more. */
  stop(): void {
    this.#closed = true;
    this.#setup.host.engine.blocked.remove(this);
  }

  /** After the dispatcher has drained, within a turn: releases what no handler had, deletes the consumer. */
  leave(): void {
    const { host, dispatcher } = this.#setup;
    const entry = this.database.findKey(this.keys[0] as Buffer);
    if (entry?.value.type === 'stream') {
      const group = entry.value.groups.get(this.#groupName);
      const consumer = group?.findConsumer(this.#consumerName.toString('latin1'));
      if (group !== undefined && consumer !== undefined) {
        // A message whose handler still runs keeps its deadline.
        const busy = new Set(dispatcher.idsInHandlers(this.topic));
        releaseAll(this.database, entry, group, consumer, busy);
        if (consumer.pendingCount === 0) deleteConsumer(this.database, entry, group, consumer);
      }
    }
    host.leave(this);
  }

  #again(): void {
    this.#setup.host.engine.blocked.retryNow(this);
  }

  /** The topic or the group was deleted: creates the group again, at the topic's beginning. */
  #restore(entry: KeyEntry): ConsumerGroup {
    const { prepare, onLost, host } = this.#setup;
    const name = Buffer.from(this.group);
    const group = createGroup(this.database, entry, name, StreamId.min(), -1);
    prepare(entry, group);
    host.whenDurable(() => {
      this.revokeAll('its group was lost');
      onLost();
    });
    return group;
  }

  #take(entry: KeyEntry, value: StreamValue, group: ConsumerGroup, room: number): number {
    const { engine } = this.#setup.host;
    turn.database = this.database;
    turn.entry = entry;
    turn.value = value;
    turn.group = group;
    turn.consumer = this.#consumerOf(entry, group);
    turn.consumer.seenTime = engine.steady;
    taken.length = 0;
    let again = 0;
    // With marks a hand-over is counted when it happens.
    budget.left = this.#setup.host.marks === null ? this.#setup.dispatcher.idle : 0;
    if (this.#takeOverAfter !== null) this.#takeOver(room);
    if (this.#takeOverAfter === null) {
      const ackWait = group.policy?.ackWait ?? NEVER;
      sink.reader = this;
      const found = hasDue(turn, ackWait, engine.steady);
      this.#unfinished = found === 'unfinished';
      if (found === 'due') {
        deliverDue(turn, ackWait, room - taken.length, engine.steady, sink, budget);
      }
      again = taken.length;
      if (again < room) this.#takeNew(room);
    } else {
      again = taken.length;
    }
    const count = taken.length;
    if (count > 0) this.#handOver(taken.splice(0), again);
    return count;
  }

  /** `>`: up to `room` deliveries in all. */
  #takeNew(room: number): void {
    const { stream } = turn.value;
    if (stream.length === 0 || stream.lastId.compare(turn.group.lastId) <= 0) return;
    start.copy(turn.group.lastId).increment();
    iterator.seek(stream, start, LAST_ID);
    const { steady } = this.#setup.host.engine;
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

  /** Takes over what other consumers left pending, in order of id. This consumer's own entries stay. */
  #takeOver(room: number): void {
    const { group, consumer, value } = turn;
    const { engine } = this.#setup.host;
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
      const suspect = !isOwn && owner !== UNOWNED && owner !== DELAYED;
      const isCounted = isOwn && this.#setup.host.marks === null;
      const attempt = isCounted ? Math.max(1, count) : count + 1;
      taken.push(this.#read(iterator, attempt, count === attempt, suspect));
      assignEntry(turn, cursor.id, engine.steady, count);
    }
    if (gone.count > 0) acknowledge(this.database, turn.entry, group, gone);
    if (!more) this.#takeOverAfter = null;
  }

  /** Delivers a due entry again. `before` is its delivery count until now. */
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
    const message = decodeMessage(fields);
    return {
      topic: this.topic,
      id: from.id.toString(),
      // A copy: the stream may move its bytes.
      message: { ...message, body: Buffer.from(message.body) },
      attempt,
      counted,
      suspect,
      publishedAt: from.id.ms,
      entryId: from.id.clone(),
      groupAtDelivery: turn.group,
    };
  }

  /** The first `again` of them were delivered before. */
  #handOver(deliveries: EmbeddedDelivery[], again: number): void {
    const { host, dispatcher, exclusive } = this.#setup;
    this.#arriving += deliveries.length;
    dispatcher.reserve(deliveries.length);
    host.whenDurable((error) => {
      this.#arriving -= deliveries.length;
      dispatcher.unreserve(deliveries.length);
      if (error !== null) return;
      // In order, what is held here stays at its place: pushed again, it would come after later messages.
      const kept = new Set(exclusive ? dispatcher.heldIds(this.topic) : []);
      const pushed = deliveries.filter(({ id }) => !kept.has(id));
      // One that no handler has had may still wait for its handler here: its attempt says nothing.
      for (const { id } of deliveries.slice(0, again)) if (!kept.has(id)) this.#revokeBefore(id);
      for (const each of pushed) dispatcher.push(each);
    });
  }

  /** Another member of this process may have had it before: it is redelivered now. */
  #revokeBefore(id: string): void {
    for (const member of this.#setup.host.members(this.topic, this.group)) {
      (member as EmbeddedReader).#revoke(id);
    }
  }

  #revoke(id: string): void {
    this.#setup.dispatcher.revoke(this.topic, id, 'its deadline has passed');
  }

  #nextLook(group: ConsumerGroup, now: number): number {
    const { policy } = group;
    const { host, exclusive } = this.#setup;
    const others = host.members(this.topic, this.group).length > 1;
    if (this.wantsMore && exclusive) return others ? now + STUCK_LOOK_MS : NEVER;
    // Without a policy, or without pending entries, nothing becomes due by time.
    if (policy === null || group.pending.size === 0) return NEVER;
    // What other members read from now on is due after `ackWait` at the earliest.
    const later = others ? now + policy.ackWait : NEVER;
    return this.wantsMore
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
        this.#setup.host.engine.steady,
      )
    );
  }
}

/** Releases what is pending for a consumer, but for `kept`. */
function releaseAll(
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
  // The count of the hand-over is taken back: no handler got the message.
  release(database, entry, entry.value, group, ids, {
    mode: 'SILENT',
    retryCount: -1,
    force: false,
  });
}

/**
 * Makes due what a consumer of an ended process left unsettled. The entries keep their owner, so they are
 * suspects. Hand-overs that the log does not hold are counted.
 */
export function expireAll(
  { database, marks }: EngineHost,
  entry: KeyEntry,
  group: ConsumerGroup,
  consumer: Consumer,
): void {
  if (consumer.pendingCount === 0 || entry.value.type !== 'stream') return;
  const left: { readonly id: StreamId; readonly count: number }[] = [];
  const key = HandOverMarks.keyOf(entry.key.toString(), group.name.toString('latin1'));
  let more = group.pending.seekConsumer(consumer.index, FIRST_ID, cursor);
  for (; more; more = cursor.nextOf(consumer.index)) {
    const { id, time, count } = cursor;
    left.push({ id: id.clone(), count: marks?.attemptOf(key, id, time, count) ?? count });
  }
  const place = { database, entry, value: entry.value, group, consumer };
  for (const { id, count } of left) assignEntry(place, id, 0, count);
  database.signalKeyReady(entry);
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
const turn = scratchRecord({} as ConsumerRef);
const taken: EmbeddedDelivery[] = [];
const fields: Uint8Array[] = [];
const start = new StreamId();
const iterator = scratch(new StreamIterator());
const cursor = scratch(new PendingCursor());
const delivery = new Delivery();
const sink = new DueSink();
const budget: HandOverBudget = { left: 0 };
