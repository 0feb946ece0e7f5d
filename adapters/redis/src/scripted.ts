/**
 * Redis and Valkey: what they have no command for, by scripts in the topic's own slot.
 *
 * All time is the server's own. A message given back stays pending, in the name of nobody, with its
 * time in the sorted set of deadlines: it survives the death of whoever gave it back.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  deadLetterMessage,
  deadlineGraceMs,
  type Events,
  type Message,
  type PublishPlan,
  type RawDelivery,
  type Receipt,
  type ResolvedSubscribeOptions,
} from 'rivulet';
import type { Argument, Connection } from './connection.ts';
import type { Dialect, Hold, Look, Recovery, Sweep, Taken } from './dialect.ts';
import type { EntryForm } from './entry.ts';
import { ServerError, toRivulet } from './failures.ts';
import type { GroupTopic } from './group-topic.ts';
import { type Keys, TOPICS } from './keys.ts';
import { Schedule, scheduledForm } from './schedule.ts';
import { PARKED, SUSPECT, scripts } from './scripts.ts';

const LOOK_EVERY_MS = 1000;
const NO_TIME = '';

export class Scripted implements Dialect {
  readonly capabilities;
  readonly looks = true;
  readonly boundsAll = false;
  readonly nobody: ReadonlySet<string> = new Set([PARKED, SUSPECT]);
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #form: EntryForm;
  readonly #broker: BrokerOptions;
  readonly #schedule: Schedule;
  /** At which of its streams the next sweep begins. */
  #turn = 0;

  constructor(
    commands: Connection,
    keys: Keys,
    form: EntryForm,
    broker: BrokerOptions,
    events: Events<BrokerEvents>,
  ) {
    this.#commands = commands;
    this.#keys = keys;
    this.#form = form;
    this.#broker = broker;
    this.#schedule = new Schedule(commands, keys, broker, events);
    this.capabilities = scriptedCapabilities(broker);
  }

  start(): void {
    this.#schedule.start();
  }

  stop(): Promise<void> {
    return this.#schedule.stop();
  }

  async announce(topics: readonly string[]): Promise<void> {
    await this.#commands.call('SADD', TOPICS, ...topics);
  }

  /** Those published to through this adapter. */
  async topics(): Promise<string[]> {
    const names = (await this.#commands.call('SMEMBERS', TOPICS)) as Buffer[];
    return names.map(String).sort();
  }

  async publishOnce(topic: string, message: Message, plan: PublishPlan): Promise<Receipt> {
    const keys = this.#keys;
    const fields = this.#form.write(topic, message);
    const delayed = plan.delayMs !== null || plan.deliverAt !== null;
    const { form } = scheduledForm(fields, plan.maxLength);
    const publish = () =>
      this.#commands.evaluate(
        scripts.publishOnce,
        keys.stream(topic),
        keys.publishIds(topic),
        keys.publishIdTimes(topic),
        keys.schedule(topic),
        plan.id as string,
        Math.ceil(this.#broker.idWindowMs),
        plan.maxLength ?? 0,
        plan.delayMs ?? NO_TIME,
        plan.deliverAt ?? NO_TIME,
        delayed ? form : NO_TIME,
        ...fields,
      ) as Promise<[Buffer, number, number]>;
    const [id, before] = delayed
      ? await this.#schedule.add(topic, this.#waitOf(plan), publish, ([, , first]) => first === 1)
      : await publish();
    return { id: id.toString(), duplicate: before === 1 };
  }

  async publishLater(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const forms = messages.map((message) =>
      scheduledForm(this.#form.write(topic, message), plan.maxLength),
    );
    const publish = () =>
      this.#commands.evaluate(
        scripts.schedule,
        this.#keys.schedule(topic),
        plan.delayMs ?? NO_TIME,
        plan.deliverAt ?? NO_TIME,
        ...forms.map(({ form }) => form),
      );
    await this.#schedule.add(topic, this.#waitOf(plan), publish, (first) => first === 1);
    return forms.map(({ name }) => ({ id: name, duplicate: false }));
  }

  async redrive(dead: string, id: Buffer, topic: string, message: Message): Promise<boolean> {
    const fields = this.#form.write(topic, message);
    const keys = [dead, this.#keys.stream(topic)];
    return (await this.#commands.run(scripts.redrive, ...keys, id, ...fields)) === 1;
  }

  async restart({ stream, group, deadlines }: GroupTopic, from: string): Promise<void> {
    // A new group in the old one's place: SETID alone would keep what is pending.
    await this.#commands.transact([
      ['XGROUP', 'DESTROY', stream, group],
      ['XGROUP', 'CREATE', stream, group, from],
      ['DEL', deadlines],
    ]);
  }

  async deleteTopic(topic: string, groups: readonly string[]): Promise<void> {
    const keys = this.#keys;
    const ofGroups = groups.flatMap((group) => [
      keys.deadlines(topic, group),
      keys.leader(topic, group),
    ]);
    const ofTopic = [keys.schedule(topic), keys.publishIds(topic), keys.publishIdTimes(topic)];
    await this.#commands.call('DEL', keys.stream(topic), ...ofTopic, ...ofGroups);
    await this.#commands.call('SREM', TOPICS, topic);
  }

  async adopt(): Promise<void> {
    // Nothing: Redis does nothing for a group of its own accord.
  }

  readOptions(perStream: number): Argument[] {
    return ['COUNT', perStream];
  }

  async sweep(
    topics: readonly GroupTopic[],
    consumer: string,
    room: number,
    connection: Connection,
  ): Promise<Sweep> {
    const [{ group }] = topics as readonly [GroupTopic];
    const [found, upTo] = (await connection.run(
      scripts.sweep,
      topics.length,
      ...topics.map(({ stream }) => stream),
      group,
      consumer,
      room,
      this.#turn++ % topics.length,
    )) as [[Buffer, Buffer[]][][], (Buffer | Buffer[])[]];
    for (const place of upTo) {
      if (Array.isArray(place)) throw toRivulet(new ServerError(String(place[0])));
    }
    return { found, upTo: upTo.map(String) };
  }

  async take(at: GroupTopic, consumer: string, ackWaitMs: number, count: number): Promise<Look> {
    const { stream, deadlines, group } = at;
    const [now, due, cursor, taken, gone] = (await this.#commands.run(
      scripts.take,
      stream,
      deadlines,
      group,
      consumer,
      Math.ceil(ackWaitMs) + deadlineGraceMs(ackWaitMs),
      count,
      at.cursor,
    )) as [number, number, Buffer, Taken[], Buffer[]];
    at.cursor = cursor.toString();
    let waitMs = Math.min(LOOK_EVERY_MS, Math.max(20, ackWaitMs / 4));
    if (due >= 0) waitMs = Math.min(waitMs, Math.max(1, due - now));
    if (taken.length === count || at.cursor !== '-') waitMs = 0;
    return { waitMs, taken, gone };
  }

  async recover(
    at: GroupTopic,
    consumer: string,
    ofAll: boolean,
    count: number,
    held: readonly string[],
  ): Promise<Recovery> {
    const { stream, deadlines, group, recoverAfter } = at;
    const [last, taken, gone] = (await this.#commands.run(
      scripts.recover,
      stream,
      deadlines,
      group,
      consumer,
      ofAll ? 1 : 0,
      count,
      recoverAfter ?? '',
      ...held,
    )) as [Buffer, Taken[], Buffer[]];
    return { after: last.length === 0 ? null : last.toString(), taken, gone };
  }

  async tidy({ stream, group }: GroupTopic, silentMs: number): Promise<void> {
    await this.#commands.run(scripts.tidy, stream, group, silentMs);
  }

  async lead({ leader }: GroupTopic, consumer: string, ms: number): Promise<boolean> {
    return (await this.#commands.run(scripts.lead, leader, consumer, ms)) === 1;
  }

  async yieldLead({ leader }: GroupTopic, consumer: string): Promise<void> {
    await this.#commands.run(scripts.yieldLead, leader, consumer);
  }

  nack(hold: Hold, delayMs: number): Promise<boolean> {
    return this.#hold(hold, PARKED, 0, hold.raw.attempt, Math.round(delayMs));
  }

  release(hold: Hold): Promise<boolean> {
    return this.#hold(hold, PARKED, 0, Math.max(0, hold.raw.attempt - 1), 0);
  }

  extend(hold: Hold, ms: number, ackWaitMs: number): Promise<boolean> {
    // The idle time says it where it can: then there is nothing to remember.
    if (ms <= ackWaitMs) return this.#hold(hold, hold.consumer, ackWaitMs - ms, '', '');
    return this.#hold(hold, hold.consumer, 0, '', ms);
  }

  recount(hold: Hold): Promise<boolean> {
    return this.#hold(hold, hold.consumer, 0, hold.raw.attempt, '');
  }

  async bury(
    { at, consumer }: Hold,
    raw: RawDelivery,
    options: ResolvedSubscribeOptions,
    to: string,
    reason: string,
  ): Promise<boolean> {
    const now = this.#broker.scheduler.now();
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, now);
    const mine = await this.#commands.run(
      scripts.bury,
      at.stream,
      this.#keys.stream(to),
      at.group,
      consumer,
      raw.id,
      ...this.#form.write(to, dead),
    );
    return mine !== 0;
  }

  async #hold(
    { at, consumer, raw }: Hold,
    newConsumer: string,
    idleMs: number,
    deliveryCount: number | '',
    ownDeadlineMs: number | '',
  ): Promise<boolean> {
    const mine = await this.#commands.run(
      scripts.hold,
      at.stream,
      at.deadlines,
      at.group,
      consumer,
      raw.id,
      newConsumer,
      Math.round(idleMs),
      deliveryCount,
      ownDeadlineMs,
    );
    return mine !== 0;
  }

  #waitOf({ delayMs, deliverAt }: PublishPlan): number {
    return delayMs ?? (deliverAt ?? 0) - this.#broker.scheduler.now();
  }
}

/** Also what is claimed before anybody has asked the server. */
export function scriptedCapabilities({ idWindowMs }: BrokerOptions): Dialect['capabilities'] {
  return {
    delayedNack: 'emulated',
    delayedPublish: 'emulated',
    dedup: { windowMs: idWindowMs, maxIds: Number.MAX_SAFE_INTEGER },
  };
}
