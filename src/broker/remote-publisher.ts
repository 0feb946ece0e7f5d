/**
 * Publishes to our own server, each with a number by which the server knows it when it comes again.
 *
 * A stream remembers `IDS_OF_A_PRODUCER` ids of each producer (stream-idmp-maxsize), for a while
 * (stream-idmp-duration). So the numbers of this process go round several producers.
 * Invariants: between the oldest publish whose fate is unknown and the newest number there are never
 * more numbers than the producers remember together: a publish that waits to be sent again counts as
 * unknown. Publishes get their numbers, and are sent, in the order of the calls.
 * Cost: a publish is one command; those of one turn of the event loop leave in one write.
 */
import type { CommandArgument } from '../client/command-encoder.ts';
import { type Reply, ReplyError, ReplyMap } from '../client/reply.ts';
import { RivuletError } from '../errors.ts';
import type { Receipt } from './broker.ts';
import type { PublishPlan } from './broker-base.ts';
import { pushFields } from './entry.ts';
import type { Message } from './message.ts';
import type { Command, RemoteLink } from './remote-link.ts';

const IDS_OF_A_PRODUCER = 100;
const PRODUCERS = 64;
const MOST_UNKNOWN = IDS_OF_A_PRODUCER * (PRODUCERS - 2);
/** Publishes that have an id share producers, each id always the same one. */
const BY_ID = 'rivulet-id-';
const PRODUCERS_BY_ID = 128;

export const ID_WINDOW_MS = 100_000;
export const MOST_PUBLISH_IDS = (IDS_OF_A_PRODUCER * PRODUCERS_BY_ID) / 2;

interface Waiter {
  readonly plan: PublishPlan;
  readonly size: number;
  readonly admitted: () => void;
}

export class RemotePublisher {
  readonly #producers: readonly string[];
  #nextNumber = 1;
  /** Publishes whose fate is unknown, with their first number, in order. */
  readonly #unknown = new Map<PublishPlan, number>();
  /** Publishes that have no number yet, in order. */
  readonly #waiting: Waiter[] = [];

  constructor(name: string) {
    this.#producers = Array.from({ length: PRODUCERS }, (_, index) => `${name}-${index}`);
  }

  store(
    link: RemoteLink,
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (plan.id !== null) return this.#storeOnce(link, topic, messages[0] as Message, plan);
    if (plan.mark !== undefined) return this.#sendParts(link, topic, messages, plan);
    const size = messages.length;
    if (this.#waiting.length === 0 && this.#hasRoom(size)) {
      this.#admit(plan, size);
      return this.#sendParts(link, topic, messages, plan);
    }
    return new Promise((resolve, reject) => {
      const admitted = () => {
        this.#sendParts(link, topic, messages, plan).then(resolve, reject);
      };
      this.#waiting.push({ plan, size, admitted });
      plan.ended = () => this.#ended(plan);
    });
  }

  #hasRoom(size: number): boolean {
    const [oldest] = this.#unknown.values();
    return oldest === undefined || this.#nextNumber + size - oldest <= MOST_UNKNOWN;
  }

  #admit(plan: PublishPlan, size: number): void {
    plan.mark = this.#nextNumber;
    this.#nextNumber += size;
    this.#unknown.set(plan, plan.mark);
    plan.ended = () => this.#ended(plan);
  }

  /** Stored, refused or given up: its numbers need not be remembered. */
  #ended(plan: PublishPlan): void {
    if (!this.#unknown.delete(plan)) {
      const at = this.#waiting.findIndex((waiter) => waiter.plan === plan);
      if (at >= 0) this.#waiting.splice(at, 1);
    }
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (!this.#hasRoom(next.size)) return;
      this.#waiting.shift();
      this.#admit(next.plan, next.size);
      next.admitted();
    }
  }

  /** A batch of more than the producers remember goes in parts; what is stored is not sent again. */
  async #sendParts(
    link: RemoteLink,
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (messages.length <= MOST_UNKNOWN) return this.#send(link, topic, messages, plan, 0);
    const ids = [...(plan.ids ?? [])];
    while (ids.length < messages.length) {
      const part = messages.slice(ids.length, ids.length + MOST_UNKNOWN);
      const stored = await this.#send(link, topic, part, plan, ids.length);
      for (const { id } of stored) ids.push(id);
      plan.ids = [...ids];
    }
    return ids.map((id) => ({ id, duplicate: false }));
  }

  /** In order, in one write. What was stored before the connection was cut is recognised again. */
  #send(
    link: RemoteLink,
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
    offset: number,
  ): Promise<Receipt[]> {
    const from = (plan.mark as number) + offset;
    return new Promise((resolve, reject) => {
      const receipts: Receipt[] = [];
      const pending = {
        reply(value: Reply) {
          if (value instanceof ReplyError) {
            reject(inBatch(value, messages.length, offset + receipts.length));
            return;
          }
          const id = (value as Buffer).toString('latin1');
          if (receipts.push({ id, duplicate: false }) === messages.length) resolve(receipts);
        },
        fail: reject,
      };
      for (let i = 0; i < messages.length; i++) {
        const number = from + i;
        const producer = this.#producers[Math.floor(number / IDS_OF_A_PRODUCER) % PRODUCERS];
        const command = addCommand(topic, producer as string, number, messages[i] as Message, plan);
        link.send(command, pending);
      }
    });
  }

  /** A publish with an id: what the topic counts of duplicates tells whether it was one. */
  async #storeOnce(
    link: RemoteLink,
    topic: string,
    message: Message,
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const id = plan.id as string;
    const producer = `${BY_ID}${hash(id) % PRODUCERS_BY_ID}`;
    const replies = await link.pipeline([
      ['MULTI'],
      ['XINFO', 'STREAM', topic],
      addCommand(topic, producer, id, message, plan),
      ['XINFO', 'STREAM', topic],
      ['EXEC'],
    ]);
    const result = replies.at(-1) as Reply;
    if (!Array.isArray(result)) throw replies.find((reply) => reply instanceof ReplyError);
    const [before, added, after] = result as [Reply, Reply, Reply];
    if (added instanceof ReplyError) throw added;
    return [{ id: String(added), duplicate: duplicates(after) > duplicates(before) }];
  }
}

function addCommand(
  topic: string,
  producer: string,
  id: string | number,
  message: Message,
  plan: PublishPlan,
): Command {
  const command: CommandArgument[] = ['XADD', topic, 'IDMP', producer, id];
  if (plan.maxLength !== null) command.push('MAXLEN', '~', plan.maxLength);
  if (plan.delayMs !== null) command.push('DELAY', Math.ceil(plan.delayMs));
  else if (plan.deliverAt !== null) command.push('AT', Math.max(0, plan.deliverAt));
  command.push('*');
  pushFields(command, message);
  return command;
}

function inBatch(error: ReplyError, size: number, at: number): RivuletError {
  if (size === 1) return error;
  return new RivuletError(error.code, `message ${at} of a batch: ${error.message}`, {
    cause: error,
  });
}

/** How often the stream has recognised an id; a stream that is not there has not. */
function duplicates(facts: Reply): number {
  return facts instanceof ReplyMap ? Number(facts.get('iids-duplicates')) : 0;
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  return value >>> 0;
}
