/**
 * Settling deliveries of one subscription in this process.
 *
 * A settlement first checks that the entry is still pending for this consumer in the group that
 * delivered it. Where it is not, it rejects with DELIVERY_LOST and changes nothing. Otherwise it
 * resolves when the log holds it.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { PendingCursor } from '../../consumer-groups/pending/pending-cursor.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import {
  assignEntry,
  deadLetterEntry,
  nackEntries,
  type PolicyNackOptions,
} from '../../engine/streams/group-policy.ts';
import { acknowledge } from '../../engine/streams/stream-deliveries.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import { RivuletError } from '../../errors.ts';
import { IdList } from '../../stream/id-list.ts';
import { scratch } from '../../util/scratch.ts';
import type { Settler } from '../dispatch/delivery.ts';
import { deadlineGraceMs } from '../options/options.ts';
import type { EmbeddedDelivery } from './embedded-reader.ts';
import type { EngineHost } from './engine-host.ts';
import { HandOverMarks } from './hand-over-marks.ts';
import { keptName } from './kept-name.ts';

/** Topics of a subscription whose keys are kept. */
const MOST_MARK_KEYS = 1000;

interface Place {
  readonly entry: KeyEntry;
  readonly value: StreamValue;
  readonly group: ConsumerGroup;
}

export class EmbeddedSettlements implements Settler<EmbeddedDelivery> {
  readonly sendsNoBytes = true;
  readonly #host: EngineHost;
  readonly #group: string;
  readonly #consumer: string;
  /** Of each topic, what a hand-over is marked by. */
  readonly #markKeys = new Map<string, Buffer>();
  readonly storeAttemptNow?: (raw: EmbeddedDelivery) => Promise<void>;

  constructor(host: EngineHost, group: string, consumer: string) {
    this.#host = host;
    this.#group = keptName(group);
    this.#consumer = keptName(consumer);
    if (host.marks !== null) this.storeAttemptNow = (raw) => this.#count(raw);
  }

  ack(raw: EmbeddedDelivery): Promise<void> {
    return this.#change(raw, ({ entry, group }) => {
      acknowledge(this.#host.database, entry, group, one(raw));
    });
  }

  /** One record for all. Entries that this consumer no longer owns are unchanged. */
  async ackMany(raws: readonly EmbeddedDelivery[]): Promise<void> {
    const [first] = raws as [EmbeddedDelivery];
    this.#host.change(() => {
      const found = this.#groupOf(first.topic);
      if (found === null) throw lost(first);
      const { entry, group } = found;
      ids.clear();
      for (const raw of raws) if (this.#isMine(group, raw)) ids.push(raw.entryId);
      if (ids.count === 0) throw lost(first);
      acknowledge(this.#host.database, entry, group, ids);
    });
    await this.#host.durable();
  }

  nack(raw: EmbeddedDelivery, delayMs: number, reason: string): Promise<void> {
    return this.#giveBack(raw, raw.attempt, Math.ceil(delayMs), reason);
  }

  release(raw: EmbeddedDelivery): Promise<void> {
    return this.#giveBack(raw, raw.attempt - 1, 0, null);
  }

  deadLetter(raw: EmbeddedDelivery, topic: string, reason: string): Promise<void> {
    return this.#change(raw, ({ entry, group }) => {
      const { database } = this.#host;
      const { entryId, attempt } = raw;
      const destination = Buffer.from(topic);
      if (deadLetterEntry(database, entry, group, entryId, destination, reason, true, attempt))
        return;
      throw new RivuletError('WRITES_REFUSED', `${topic} is a key of another type, not a topic`);
    });
  }

  extend(raw: EmbeddedDelivery, ms: number): Promise<void> {
    return this.#change(raw, (place) => {
      const { engine } = this.#host;
      // The delivery time from which the policy's deadline is the wanted one.
      const grace = deadlineGraceMs(ms);
      const ackWait = place.group.policy?.ackWait ?? 0;
      const time = Math.max(0, engine.steady + Math.round(ms) + grace - ackWait);
      this.#assign(place, raw, time, cursor.count);
      // It may be due earlier than the readers' timers.
      this.#host.database.signalKeyReady(place.entry);
    });
  }

  storeAttempt(raw: EmbeddedDelivery): Promise<void> {
    return this.#change(raw, (place) => {
      this.#assign(place, raw, this.#host.engine.steady, raw.attempt);
      // It may be due earlier than the readers' timers.
      this.#host.database.signalKeyReady(place.entry);
    });
  }

  /** Marked before the handler runs; the log has the count with its next records. */
  async #count(raw: EmbeddedDelivery): Promise<void> {
    const { marks, engine } = this.#host;
    let key = this.#markKeys.get(raw.topic);
    if (key === undefined) {
      if (this.#markKeys.size >= MOST_MARK_KEYS) this.#markKeys.clear();
      key = HandOverMarks.keyOf(raw.topic, this.#group);
      this.#markKeys.set(raw.topic, key);
    }
    marks?.write(key, raw.entryId, raw.attempt, engine.steady);
    this.#host.changeLater(() => {
      this.#assign(this.#placeOf(raw), raw, engine.steady, raw.attempt);
    });
  }

  #assign({ entry, value, group }: Place, raw: EmbeddedDelivery, time: number, count: number) {
    const { database } = this.#host;
    const consumer = group.consumerAt(cursor.consumer);
    if (consumer === undefined) throw lost(raw);
    assignEntry({ database, entry, value, group, consumer }, raw.entryId, time, count);
  }

  #giveBack(
    raw: EmbeddedDelivery,
    count: number,
    delay: number,
    reason: string | null,
  ): Promise<void> {
    return this.#change(raw, ({ entry, value, group }) => {
      options.retryCount = count;
      options.delay = delay;
      options.reason = reason;
      nackEntries(this.#host.database, entry, value, group, one(raw), options);
    });
  }

  /** Leaves `cursor` on the pending entry for `work`. */
  async #change(raw: EmbeddedDelivery, work: (place: Place) => void): Promise<void> {
    this.#host.change(() => work(this.#placeOf(raw)));
    await this.#host.durable();
  }

  #placeOf(raw: EmbeddedDelivery): Place {
    const place = this.#groupOf(raw.topic);
    if (place === null || !this.#isMine(place.group, raw)) throw lost(raw);
    return place;
  }

  #groupOf(topic: string): Place | null {
    const entry = this.#host.database.findKey(Buffer.from(topic));
    if (entry?.value.type !== 'stream') return null;
    const group = entry.value.groups.get(this.#group);
    return group === undefined ? null : { entry, value: entry.value, group };
  }

  /** Leaves `cursor` on the pending entry where it is. */
  #isMine(group: ConsumerGroup, raw: EmbeddedDelivery): boolean {
    if (group !== raw.groupAtDelivery || !group.pending.find(raw.entryId, cursor)) return false;
    return group.consumerAt(cursor.consumer)?.name.toString('latin1') === this.#consumer;
  }
}

function one(raw: EmbeddedDelivery): IdList {
  ids.clear();
  ids.push(raw.entryId);
  return ids;
}

function lost(raw: EmbeddedDelivery): RivuletError {
  const text = `message ${raw.id} of ${raw.topic} is no longer this consumer's: it was redelivered, or its group was moved`;
  return new RivuletError('DELIVERY_LOST', text);
}

// Scratch: never held across calls.
const cursor = scratch(new PendingCursor());
const ids = new IdList();
const options: PolicyNackOptions = {
  // The dispatcher decides whether attempts are used up.
  mode: 'SILENT',
  retryCount: -1,
  force: false,
  delay: -1,
  reason: null,
};
