/**
 * Publishes to our own server, each with a number by which the server recognises it when it is sent
 * again.
 *
 * A stream remembers `IDS_OF_A_PRODUCER` ids of each producer (stream-idmp-maxsize) for the time
 * stream-idmp-duration. So this process spreads its numbers over several producers.
 * Invariants: from the oldest publish without an outcome to the newest number there are never more
 * numbers than all producers together remember. A publish that waits to be sent again has no outcome.
 * Publishes get their numbers, and are sent, in the order of the calls.
 * Cost: a publish is one command; those of one turn of the event loop leave in one write.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Pending } from '../../client/connection.ts';
import { type Reply, ReplyError, ReplyMap } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import type { Receipt } from '../broker.ts';
import type { PublishPlan } from '../broker-base.ts';
import { encodeMessage } from '../message/entry.ts';
import type { RawMessage } from '../message/message.ts';
import { type Command, notConnected, type RemoteClient } from './remote-client.ts';

const IDS_OF_A_PRODUCER = 100;
const PRODUCERS = 64;
const MOST_UNKNOWN = IDS_OF_A_PRODUCER * (PRODUCERS - 2);
/** Producers for publishes with a `dedupId`: equal ids always use the same one. */
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
  /** Publishes without an outcome, with their first number, in order. */
  readonly #unknown = new Map<PublishPlan, number>();
  /** Publishes that wait for a number, in order. */
  readonly #waiting: Waiter[] = [];

  constructor(name: string) {
    this.#producers = Array.from({ length: PRODUCERS }, (_, index) => `${name}-${index}`);
  }

  /** Calls `stored` or `failed` once. */
  store(
    client: RemoteClient,
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    stored: (receipts: Receipt[]) => void,
    failed: (error: unknown) => void,
  ): void {
    if (plan.dedupId !== null) {
      const [message] = messages as readonly [RawMessage];
      this.#storeOnce(client, topic, message, plan).then(stored, failed);
      return;
    }
    const send = () => {
      if (messages.length > MOST_UNKNOWN) {
        this.#sendParts(client, topic, messages, plan).then(stored, failed);
      } else this.#send(client, topic, messages, plan, 0, stored, failed);
    };
    if (plan.mark !== undefined) send();
    else if (this.#waiting.length === 0 && this.#hasRoom(messages.length)) {
      this.#admit(plan, messages.length);
      send();
    } else {
      plan.ended = this.#ended;
      this.#waiting.push({ plan, size: messages.length, admitted: send });
    }
  }

  #hasRoom(size: number): boolean {
    const oldest = this.#unknown.values().next().value;
    return oldest === undefined || this.#nextNumber + size - oldest <= MOST_UNKNOWN;
  }

  #admit(plan: PublishPlan, size: number): void {
    plan.mark = this.#nextNumber;
    this.#nextNumber += size;
    this.#unknown.set(plan, plan.mark);
    plan.ended = this.#ended;
  }

  /** Stored, refused or aborted: its numbers are free. */
  readonly #ended = (plan: PublishPlan): void => {
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
  };

  /** A batch larger than what the producers remember is sent in parts; stored parts are not sent again. */
  async #sendParts(
    client: RemoteClient,
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const ids = [...(plan.ids ?? [])];
    while (ids.length < messages.length) {
      const part = messages.slice(ids.length, ids.length + MOST_UNKNOWN);
      const at = ids.length;
      const stored = await new Promise<Receipt[]>((resolve, reject) => {
        this.#send(client, topic, part, plan, at, resolve, reject);
      });
      for (const { id } of stored) ids.push(id);
      plan.ids = [...ids];
    }
    return ids.map((id) => ({ id, duplicate: false }));
  }

  /** In order, in one write. The server recognises what it stored before the connection was lost. */
  #send(
    client: RemoteClient,
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    offset: number,
    stored: (receipts: Receipt[]) => void,
    failed: (error: unknown) => void,
  ): void {
    const from = (plan.mark as number) + offset;
    const pending = new StoredReplies(messages.length, offset, stored, failed);
    try {
      for (let i = 0; i < messages.length; i++) {
        const number = from + i;
        const producer = this.#producers[Math.floor(number / IDS_OF_A_PRODUCER) % PRODUCERS];
        const message = messages[i] as RawMessage;
        client.send(addCommand(topic, producer as string, number, message, plan), pending);
      }
    } catch (error) {
      // Of those that were sent before it, replies may come.
      pending.fail(error as RivuletError);
    }
  }

  /** A publish with a `dedupId` is a duplicate where the topic's count of duplicates has grown. */
  async #storeOnce(
    client: RemoteClient,
    topic: string,
    message: RawMessage,
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const id = plan.dedupId as string;
    const producer = `${BY_ID}${hash(id) % PRODUCERS_BY_ID}`;
    const replies = await client.pipeline([
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

/** Receives the ids of the messages of one write, in order; calls back once. */
class StoredReplies implements Pending {
  readonly #receipts: Receipt[] = [];
  readonly #size: number;
  readonly #offset: number;
  readonly #resolve: (receipts: Receipt[]) => void;
  readonly #reject: (error: RivuletError) => void;
  #isOver = false;

  constructor(
    size: number,
    offset: number,
    resolve: (receipts: Receipt[]) => void,
    reject: (error: RivuletError) => void,
  ) {
    this.#size = size;
    this.#offset = offset;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  reply(value: Reply): void {
    if (value instanceof ReplyError) {
      this.#end(inBatch(value, this.#size, this.#offset + this.#receipts.length));
      return;
    }
    if (this.#isOver) return;
    const id = (value as Buffer).toString('latin1');
    if (this.#receipts.push({ id, duplicate: false }) === this.#size) this.#resolve(this.#receipts);
  }

  fail(error: RivuletError): void {
    this.#end(notConnected(error));
  }

  #end(error: RivuletError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reject(error);
  }
}

function addCommand(
  topic: string,
  producer: string,
  id: string | number,
  message: RawMessage,
  plan: PublishPlan,
): Command {
  const command: CommandArgument[] = ['XADD', topic, 'IDMP', producer, id];
  if (plan.maxLength !== null) command.push('MAXLEN', '~', plan.maxLength);
  if (plan.delayMs !== null) command.push('DELAY', Math.ceil(plan.delayMs));
  else if (plan.deliverAt !== null) command.push('AT', Math.max(0, plan.deliverAt));
  command.push('*');
  encodeMessage(command, message);
  return command;
}

function inBatch(error: ReplyError, size: number, at: number): RivuletError {
  if (size === 1) return error;
  return new RivuletError(error.code, `message ${at} of a batch: ${error.message}`, {
    cause: error,
  });
}

/** How often the stream has recognised an id; 0 where the stream does not exist. */
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
