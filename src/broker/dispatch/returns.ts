/**
 * How a delivery leaves its consumer without success: to the dead letter, or back to the broker.
 *
 * Invariant: what a handler has had is counted as an attempt; what no handler had is not.
 */
import { RivuletError } from '../../errors.ts';
import type { BrokerEvents } from '../broker.ts';
import type { Events } from '../events.ts';
import { deadLetterTopic, type ResolvedSubscribeOptions } from '../options/options.ts';
import type { HeldDelivery, RawDelivery, Settler } from './delivery.ts';

export class Returns<Raw extends RawDelivery> {
  readonly #settler: Settler<Raw>;
  readonly #options: ResolvedSubscribeOptions;
  readonly #events: Events<BrokerEvents>;

  constructor(
    settler: Settler<Raw>,
    options: ResolvedSubscribeOptions,
    events: Events<BrokerEvents>,
  ) {
    this.#settler = settler;
    this.#options = options;
    this.#events = events;
  }

  /** Moves it to the dead letter, or drops it with a warning where the subscription has none. */
  async deadLetter(held: HeldDelivery<Raw>, reason: string): Promise<void> {
    const { topic, id } = held;
    held.settledBy = 'dead letter';
    const to = deadLetterTopic(topic, this.#options);
    if (to === null) {
      await this.#settler.ack(held.raw);
      const error = droppedMessage(topic, id, reason);
      this.#events.emit('warning', { error });
    } else {
      await this.#settler.deadLetter(held.raw, to, reason);
      this.#events.emit('deadLettered', { topic, id, reason });
    }
  }

  /** For another consumer of the group, at once. */
  async giveBack(held: HeldDelivery<Raw>): Promise<void> {
    if (!held.handedOver) return this.#settler.release(held.raw);
    const reason = 'its consumer left without settling it';
    if (held.attempt >= this.#options.attempts) return this.deadLetter(held, reason);
    return this.#settler.nack(held.raw, 0, reason);
  }
}

/** A message that used up its attempts in a subscription without a dead letter. */
function droppedMessage(topic: string, id: string, reason: string): RivuletError {
  const text = `message ${id} of ${topic} was dropped, because its subscription has no dead letter: ${reason}`;
  return new RivuletError('HANDLER_FAILED', text);
}
