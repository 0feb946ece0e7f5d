/**
 * The unacknowledged deliveries of one consumer, in the order of their tags.
 *
 * Invariant: a delivery is settled or lost once, and nothing is sent for it afterwards.
 * Cost: one map entry per delivery; acknowledgements of one turn take one frame if no older delivery
 * is unacknowledged.
 */
import type { Channel } from 'amqplib';
import { RivuletError } from 'rivulet/adapter';
import type { LinkChannel } from '../link.ts';
import { type AmqpDelivery, type InFlight, tagOf } from './in-flight.ts';

export class Deliveries<Raw extends AmqpDelivery = AmqpDelivery> {
  readonly #byInFlight = new Map<InFlight, Raw>();
  /** Channels with deliveries that are not in this table: an ack of many must not include those. */
  readonly #incomplete = new WeakSet<LinkChannel<Channel>>();
  #ended = 0;

  /** How many deliveries were settled or lost. */
  get ended(): number {
    return this.#ended;
  }

  get size(): number {
    return this.#byInFlight.size;
  }

  add(raw: Raw): void {
    this.#byInFlight.set(raw.inFlight, raw);
  }

  /** The attempt of a delivery is known now. */
  update(raw: Raw): void {
    if (this.#byInFlight.has(raw.inFlight)) this.#byInFlight.set(raw.inFlight, raw);
  }

  all(): Raw[] {
    return [...this.#byInFlight.values()];
  }

  /** The channel has deliveries that are not in this table. */
  markIncomplete(on: LinkChannel<Channel>): void {
    this.#incomplete.add(on);
  }

  end(inFlight: InFlight): void {
    inFlight.gone = true;
    this.#ended++;
    this.#byInFlight.delete(inFlight);
  }

  /** Acknowledges a delivery unless it was lost meanwhile; then its message is delivered again. */
  ackIfOpen(inFlight: InFlight): void {
    if (inFlight.gone || !inFlight.on.open) return;
    inFlight.on.channel.ack(inFlight.message);
    this.end(inFlight);
  }

  /**
   * Acknowledges with one frame those before the oldest unacknowledged delivery, and each other with its
   * own. Returns those whose channel was lost.
   */
  ackMany(raws: readonly Raw[]): Raw[] {
    const lost: Raw[] = [];
    const settled: InFlight[] = [];
    for (const raw of raws) {
      const { inFlight } = raw;
      if (inFlight.gone) continue;
      this.end(inFlight);
      if (inFlight.on.open) settled.push(inFlight);
      else lost.push(raw);
    }
    const [oldest] = this.#byInFlight.keys();
    let upTo: InFlight | null = null;
    for (const each of settled) {
      const precedes =
        oldest === undefined || (oldest.on === each.on && tagOf(each) < tagOf(oldest));
      if (!precedes || this.#incomplete.has(each.on)) each.on.channel.ack(each.message);
      else if (upTo === null) upTo = each;
      else if (upTo.on !== each.on) each.on.channel.ack(each.message);
      else if (tagOf(upTo) < tagOf(each)) upTo = each;
    }
    upTo?.on.channel.ack(upTo.message, true);
    return lost;
  }
}

/** Throws DELIVERY_LOST unless the delivery is still unacknowledged on an open channel. */
export function mustBeOpen({ gone, on }: InFlight): void {
  if (!gone && on.open) return;
  const text = 'the message was returned to its queue: it is no longer delivered to this consumer';
  throw new RivuletError('DELIVERY_LOST', text);
}
