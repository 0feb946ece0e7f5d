/**
 * The dialect of Redis and Valkey: scripts, whose keys share the topic's slot.
 *
 * All times are the server's. A message that is given back stays pending under the name `~`, and its
 * retry time is in the sorted set of deadlines: so it does not depend on the client that gave it back.
 * Cost: one script per settlement except acknowledgements, which are plain XACKs.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  deadLetterMessage,
  deadlineGraceMs,
  type Events,
  type PublishPlan,
  type RawDelivery,
  type RawMessage,
  type Receipt,
  type ResolvedSubscribeOptions,
} from 'rivulet/adapter';
import type { Argument, Connection } from '../connection.ts';
import { ServerError, toRivulet } from '../errors.ts';
import { type Keys, TOPICS } from '../keys.ts';
import type { MessageCodec } from '../message-codec.ts';
import { Schedule, scheduledForm } from '../schedule.ts';
import type { GroupTopic } from '../subscription/group-topic.ts';
import type { Claim, Dialect, DueScan, Recovery, Sweep, Taken } from './dialect.ts';
import { PARKED, SUSPECT, scripts } from './lua-scripts.ts';

const LOOK_EVERY_MS = 1000;
const NO_TIME = '';

export class LuaDialect implements Dialect {
  readonly capabilities;
  readonly scansForDue = true;
  readonly hasTotalBound = false;
  readonly unowned: ReadonlySet<string> = new Set([PARKED, SUSPECT]);
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #codec: MessageCodec;
  readonly #broker: BrokerOptions;
  readonly #schedule: Schedule;
  /** The stream that the next sweep begins at. */
  #turn = 0;

  constructor(
    commands: Connection,
    keys: Keys,
    codec: MessageCodec,
    broker: BrokerOptions,
    events: Events<BrokerEvents>,
  ) {
    this.#commands = commands;
    this.#keys = keys;
    this.#codec = codec;
    this.#broker = broker;
    this.#schedule = new Schedule(commands, keys, broker, events);
    this.capabilities = luaCapabilities(broker);
  }

  start(): void {
    this.#schedule.start();
  }

  stop(): Promise<void> {
    return this.#schedule.stop();
  }

  async registerTopics(topics: readonly string[]): Promise<void> {
    await this.#commands.call('SADD', TOPICS, ...topics);
  }

  /** The topics that were published to through this adapter. */
  async topics(): Promise<string[]> {
    const names = (await this.#commands.call('SMEMBERS', TOPICS)) as Buffer[];
    return names.map(String).sort();
  }

  async publishOnce(topic: string, message: RawMessage, plan: PublishPlan): Promise<Receipt> {
    const keys = this.#keys;
    const fields = this.#codec.encode(topic, message);
    const delayed = plan.delayMs !== null || plan.deliverAt !== null;
    const { form } = scheduledForm(fields, plan.maxLength);
    const publish = () =>
      this.#commands.evaluate(
        scripts.publishOnce,
        keys.stream(topic),
        keys.publishIds(topic),
        keys.publishIdTimes(topic),
        keys.schedule(topic),
        plan.dedupId as string,
        Math.ceil(this.#broker.dedupWindowMs),
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
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const forms = messages.map((message) =>
      scheduledForm(this.#codec.encode(topic, message), plan.maxLength),
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

  async redrive(dead: string, id: Buffer, topic: string, message: RawMessage): Promise<boolean> {
    const fields = this.#codec.encode(topic, message);
    const keys = [dead, this.#keys.stream(topic)];
    return (await this.#commands.run(scripts.redrive, ...keys, id, ...fields)) === 1;
  }

  async resetGroup({ stream, group, deadlines }: GroupTopic, from: string): Promise<void> {
    // XGROUP SETID would keep the pending messages, so the group is made again.
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

  async applyPolicy(): Promise<void> {
    // Redis has no policies of groups.
  }

  readOptions(perStream: number): Argument[] {
    return ['COUNT', perStream];
  }

  async sweep(
    topics: readonly GroupTopic[],
    consumer: string,
    room: number,
    connection: Connection,
    counted: boolean,
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
      counted ? 1 : 0,
    )) as [[Buffer, Buffer[]][][], (Buffer | Buffer[])[]];
    const refused = upTo.find((place) => Array.isArray(place));
    const refusal = refused === undefined ? null : toRivulet(new ServerError(String(refused[0])));
    return {
      found,
      upTo: upTo.map((place) => (Array.isArray(place) ? '' : String(place))),
      refusal,
    };
  }

  async claimDue(
    at: GroupTopic,
    consumer: string,
    ackWaitMs: number,
    count: number,
  ): Promise<DueScan> {
    const { stream, deadlines, group } = at;
    const [now, due, cursor, taken, gone] = (await this.#commands.run(
      scripts.claimDue,
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

  async removeIdleConsumers({ stream, group }: GroupTopic, silentMs: number): Promise<void> {
    await this.#commands.run(scripts.removeIdleConsumers, stream, group, silentMs);
  }

  async lead({ leader }: GroupTopic, consumer: string, ms: number): Promise<boolean> {
    return (await this.#commands.run(scripts.lead, leader, consumer, ms)) === 1;
  }

  async yieldLead({ leader }: GroupTopic, consumer: string): Promise<void> {
    await this.#commands.run(scripts.yieldLead, leader, consumer);
  }

  nack(claim: Claim, delayMs: number): Promise<boolean> {
    return this.#changeClaim(claim, PARKED, 0, claim.raw.attempt, Math.ceil(delayMs));
  }

  release(claim: Claim): Promise<boolean> {
    return this.#changeClaim(claim, PARKED, 0, Math.max(0, claim.raw.attempt - 1), 0);
  }

  extend(claim: Claim, ms: number, ackWaitMs: number): Promise<boolean> {
    // Up to `ackWaitMs` the idle time expresses the deadline, without an entry among the deadlines.
    if (ms <= ackWaitMs) return this.#changeClaim(claim, claim.consumer, ackWaitMs - ms, '', '');
    return this.#changeClaim(claim, claim.consumer, 0, '', ms);
  }

  storeAttempt(claim: Claim): Promise<boolean> {
    return this.#changeClaim(claim, claim.consumer, 0, claim.raw.attempt, '');
  }

  /** With the text of the script: EVALSHA may need a second command. */
  async storeAttemptNow({ at, consumer, raw }: Claim): Promise<boolean> {
    const change = [consumer, raw.id, consumer, 0, raw.attempt, NO_TIME] as const;
    const { stream, deadlines, group } = at;
    const script = scripts.changeClaim;
    return (await this.#commands.evaluate(script, stream, deadlines, group, ...change)) !== 0;
  }

  async deadLetter(
    { at, consumer }: Claim,
    raw: RawDelivery,
    options: ResolvedSubscribeOptions,
    to: string,
    reason: string,
  ): Promise<boolean> {
    const now = this.#broker.scheduler.now();
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, now);
    const mine = await this.#commands.run(
      scripts.deadLetter,
      at.stream,
      this.#keys.stream(to),
      at.group,
      consumer,
      raw.id,
      ...this.#codec.encode(to, dead),
    );
    return mine !== 0;
  }

  async #changeClaim(
    { at, consumer, raw }: Claim,
    newConsumer: string,
    idleMs: number,
    deliveryCount: number | '',
    ownDeadlineMs: number | '',
  ): Promise<boolean> {
    const mine = await this.#commands.run(
      scripts.changeClaim,
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

/** Also the capabilities before the first connect. */
export function luaCapabilities({ dedupWindowMs }: BrokerOptions): Dialect['capabilities'] {
  return {
    delayedNack: 'emulated',
    delayedPublish: 'emulated',
    dedup: { windowMs: dedupWindowMs, maxIds: Number.MAX_SAFE_INTEGER },
  };
}
