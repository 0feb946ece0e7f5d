/**
 * The dialect of Rivulet's own server, which has commands where Redis needs scripts.
 *
 * A subscription's options become its group's policy (XGROUP SETPOLICY): the server redelivers, delays
 * and dead-letters by itself, also after this process has ended. Streams, groups and leaders have the
 * names that `rivulet://` gives them, so both clients may serve one group.
 * Cost: one command per settlement.
 */
import {
  deadLetterTopic,
  deadlineGraceMs,
  type PublishPlan,
  type RawDelivery,
  type RawMessage,
  type Receipt,
  type ResolvedSubscribeOptions,
  RivuletError,
} from 'rivulet/adapter';
import type { Argument, Connection } from '../connection.ts';
import type { Keys } from '../keys.ts';
import type { MessageCodec } from '../message-codec.ts';
import { scanKeys } from '../scan.ts';
import type { GroupTopic } from '../subscription/group-topic.ts';
import type { Claim, Dialect, DueScan, Recovery, Sweep, Taken } from './dialect.ts';

/** The server's defaults: how many ids a stream remembers of each producer, and for how long. */
const IDS_OF_A_PRODUCER = 100;
const ID_WINDOW_MS = 100_000;
/** Publish ids are spread over this many producers by their hash, as `rivulet://` does. */
const PRODUCERS = 128;
const BY_ID = 'rivulet-id-';
const SCHEDULED_PAGE = 1000;
const KEYS_PAGE = 1000;
/** The size of a reply; the rest follows in the next one. */
const MOST_BYTES = 4 * 1024 * 1024;

type PendingRow = [id: Buffer, consumer: Buffer, idleMs: number, count: number];

const NEVER: DueScan = { waitMs: Number.POSITIVE_INFINITY, taken: [], gone: [] };

export class RivuletDialect implements Dialect {
  readonly capabilities: Dialect['capabilities'] = {
    delayedNack: 'native',
    delayedPublish: 'native',
    dedup: { windowMs: ID_WINDOW_MS, maxIds: (IDS_OF_A_PRODUCER * PRODUCERS) / 2 },
  };
  readonly scansForDue = false;
  readonly hasTotalBound = true;
  readonly unowned: ReadonlySet<string> = new Set(['']);
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #codec: MessageCodec;

  constructor(commands: Connection, keys: Keys, codec: MessageCodec) {
    this.#commands = commands;
    this.#keys = keys;
    this.#codec = codec;
  }

  start(): void {}

  async stop(): Promise<void> {}

  async registerTopics(): Promise<void> {
    // Every stream is a topic.
  }

  async topics(): Promise<string[]> {
    const topics = new Set<string>();
    await scanKeys(
      (cursor) => this.#commands.call('SCAN', cursor, 'TYPE', 'stream', 'COUNT', KEYS_PAGE),
      (key) => {
        const topic = this.#keys.topic(key);
        if (topic !== null) topics.add(topic);
      },
    );
    return [...topics].sort();
  }

  /** The stream counts duplicates: the difference shows whether this one was one. */
  async publishOnce(topic: string, message: RawMessage, plan: PublishPlan): Promise<Receipt> {
    const stream = this.#keys.stream(topic);
    const id = plan.dedupId as string;
    const add = this.#add(topic, message, plan, ['IDMP', `${BY_ID}${hash(id) % PRODUCERS}`, id]);
    const look: [string, ...Argument[]] = ['XINFO', 'STREAM', stream];
    // Where there is no stream yet, the first look is an error and nothing else.
    const [before, added, after] = await this.#commands.transactAll([look, add, look]);
    if (added instanceof Error) throw added;
    return { id: String(added), duplicate: duplicates(after) > duplicates(before) };
  }

  async publishLater(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const names = await this.#commands.transact(
      messages.map((message) => this.#add(topic, message, plan, [])),
    );
    return names.map((name) => ({ id: String(name), duplicate: false }));
  }

  async redrive(dead: string, id: Buffer, topic: string, message: RawMessage): Promise<boolean> {
    // Two clients that redrive at once add it once: its id among the dead is its number.
    const number = ['IDMP', 'redrive', `${dead} ${id}`];
    const fields = this.#codec.encode(topic, message);
    // Not one transaction: EXEC would delete the letter although its copy was refused.
    await this.#commands.call('XADD', this.#keys.stream(topic), ...number, '*', ...fields);
    return (await this.#commands.call('XDEL', dead, id)) === 1;
  }

  async resetGroup({ stream, group }: GroupTopic, from: string): Promise<void> {
    const policy = (await this.#commands.call('XGROUP', 'GETPOLICY', stream, group)) as
      | Buffer[]
      | null;
    await this.#commands.transact([
      ['XGROUP', 'DESTROY', stream, group],
      ['XGROUP', 'CREATE', stream, group, from],
      ...(policy === null ? [] : [policyAgain(stream, group, policy)]),
    ]);
  }

  async deleteTopic(topic: string): Promise<void> {
    const stream = this.#keys.stream(topic);
    for (;;) {
      const waiting = (await this.#commands.call(
        'XSCHEDULE',
        'LIST',
        stream,
        'COUNT',
        SCHEDULED_PAGE,
      )) as [Buffer][];
      if (waiting.length === 0) break;
      await this.#commands.call('XSCHEDULE', 'CANCEL', stream, ...waiting.map(([name]) => name));
    }
    await this.#commands.call('DEL', stream);
  }

  async applyPolicy({ topic, stream, group }: GroupTopic, options: ResolvedSubscribeOptions) {
    const { minMs, maxMs, factor, jitter } = options.backoff;
    const dead = deadLetterTopic(topic, options);
    const least = Math.round(minMs);
    await this.#commands.call(
      'XGROUP',
      'SETPOLICY',
      stream,
      group,
      ...['ACKWAIT', this.#serverAckWaitMs(options), 'MAXDELIVERIES', Math.floor(options.attempts)],
      ...['BACKOFF', least, Math.max(least, Math.round(maxMs)), factor],
      ...(jitter ? ['JITTER'] : []),
      ...(dead === null ? ['NODEADLETTER'] : ['DEADLETTER', this.#keys.stream(dead)]),
    );
  }

  readOptions(_perStream: number, room: number, options: ResolvedSubscribeOptions): Argument[] {
    const bounds = ['COUNT', room, 'MAXCOUNT', room, 'MAXSIZE', MOST_BYTES];
    // The reply may be lost, so nothing is counted here: hand-overs are counted when they happen.
    return [...bounds, 'CLAIM', this.#serverAckWaitMs(options), 'HANDOVER', 0];
  }

  /** The deadline itself is kept by the consumer: the server's is for consumers that are dead. */
  #serverAckWaitMs({ ackWaitMs }: ResolvedSubscribeOptions): number {
    return Math.ceil(ackWaitMs) + deadlineGraceMs(ackWaitMs);
  }

  async sweep(): Promise<Sweep> {
    throw new RivuletError('INTERNAL', 'one read bounds all its streams here');
  }

  async claimDue(): Promise<DueScan> {
    return NEVER;
  }

  async recover(
    { stream, group, recoverAfter }: GroupTopic,
    consumer: string,
    ofAll: boolean,
    count: number,
    held: readonly string[],
  ): Promise<Recovery> {
    const known = new Set(held);
    const most = count + known.size;
    const pending = (await this.#commands.call(
      'XPENDING',
      stream,
      group,
      recoverAfter ? `(${recoverAfter}` : '-',
      '+',
      most,
      ...(ofAll ? [] : [consumer]),
    )) as PendingRow[];
    const missing = pending.filter(([id]) => !known.has(id.toString('latin1')));
    const mine = missing.slice(0, count);
    const me = Buffer.from(consumer);
    const found: (Taken | undefined)[] = [];
    const gone: Buffer[] = [];
    await Promise.all(
      mine.map(async ([id, owner], at) => {
        // Another consumer may have claimed it since, and have counted a hand-over: it keeps it.
        const [, rows, entries] = (await Promise.all([
          this.#commands.call('XCLAIM', stream, group, consumer, 0, id, 'OWNER', owner, 'JUSTID'),
          this.#commands.call('XPENDING', stream, group, id, id, 1),
          this.#commands.call('XRANGE', stream, id, id),
        ])) as [unknown, PendingRow[], [Buffer, Buffer[]][]];
        const [row] = rows;
        const [entry] = entries;
        if (entry === undefined) gone.push(id);
        else if (row?.[1].equals(me)) {
          // What was this consumer's came in a reply that was lost: no handler has had it.
          const isSuspect = !owner.equals(me) && owner.length > 0;
          found[at] = [id, row[3] + 1, entry[1], isSuspect ? 1 : 0, false];
        }
      }),
    );
    const taken = found.filter((each) => each !== undefined);
    const isAll = pending.length < most && mine.length === missing.length;
    const last = mine.at(-1) ?? pending.at(-1);
    return { after: isAll || last === undefined ? null : String(last[0]), taken, gone };
  }

  async removeIdleConsumers({ stream, group }: GroupTopic, silentMs: number): Promise<void> {
    const rows = (await this.#commands.call('XINFO', 'CONSUMERS', stream, group)) as Buffer[][];
    for (const row of rows) {
      const idle = Number(factOf(row, 'idle'));
      if (Number(factOf(row, 'pending')) > 0 || idle < silentMs) continue;
      await this.#commands.call('XGROUP', 'DELCONSUMER', stream, group, factOf(row, 'name'));
    }
  }

  async lead(
    { leader }: GroupTopic,
    consumer: string,
    ms: number,
    own: Connection,
  ): Promise<boolean> {
    if ((await own.call('SET', leader, consumer, 'NX', 'PX', ms)) !== null) return true;
    // Between looking and renewing it may pass to another: then EXEC does nothing.
    const [, present] = await Promise.all([own.call('WATCH', leader), own.call('GET', leader)]);
    if (String(present) !== consumer) {
      await own.call('UNWATCH');
      return false;
    }
    return (await own.transact([['PEXPIRE', leader, ms]])).length > 0;
  }

  async yieldLead({ leader }: GroupTopic, consumer: string): Promise<void> {
    // Ours until its time is up, and renewed within each turn: no other member has it meanwhile.
    if (String(await this.#commands.call('GET', leader)) === consumer) {
      await this.#commands.call('DEL', leader);
    }
  }

  nack(claim: Claim, delayMs: number, reason: string): Promise<boolean> {
    const delay = ['DELAY', Math.ceil(delayMs), 'REASON', reason];
    return this.#giveBack(claim, 'SILENT', [...delay, 'RETRYCOUNT', claim.raw.attempt]);
  }

  release(claim: Claim): Promise<boolean> {
    const count = claim.raw.attempt - 1;
    return this.#giveBack(claim, 'SILENT', ['DELAY', 0, 'RETRYCOUNT', Math.max(0, count)]);
  }

  extend(claim: Claim, ms: number, ackWaitMs: number): Promise<boolean> {
    // Idle for less than nothing where the deadline is to lie further off than ackWait.
    return this.#claim(claim, ['IDLE', Math.round(ackWaitMs - ms)]);
  }

  storeAttempt(claim: Claim): Promise<boolean> {
    return this.#claim(claim, ['RETRYCOUNT', claim.raw.attempt]);
  }

  storeAttemptNow(claim: Claim): Promise<boolean> {
    return this.storeAttempt(claim);
  }

  deadLetter(
    claim: Claim,
    _raw: RawDelivery,
    _options: ResolvedSubscribeOptions,
    _to: string,
    reason: string,
  ): Promise<boolean> {
    // Where to is in the group's policy.
    return this.#giveBack(claim, 'DEADLETTER', ['REASON', reason, 'RETRYCOUNT', claim.raw.attempt]);
  }

  async #giveBack({ at, consumer, raw }: Claim, mode: string, options: Argument[]) {
    const ids = ['IDS', 1, raw.id, 'OWNER', consumer];
    const done = await this.#commands.call('XNACK', at.stream, at.group, mode, ...ids, ...options);
    return done !== 0;
  }

  async #claim({ at, consumer, raw }: Claim, options: Argument[]): Promise<boolean> {
    const claim = [at.stream, at.group, consumer, 0, raw.id, 'OWNER', consumer, 'JUSTID'];
    const done = (await this.#commands.call('XCLAIM', ...claim, ...options)) as Buffer[];
    return done.length > 0;
  }

  #add(
    topic: string,
    message: RawMessage,
    { delayMs, deliverAt, maxLength }: PublishPlan,
    number: readonly string[],
  ): [string, ...Argument[]] {
    const later: Argument[] = [];
    if (delayMs !== null) later.push('DELAY', Math.ceil(delayMs));
    else if (deliverAt !== null) later.push('AT', deliverAt);
    return [
      'XADD',
      this.#keys.stream(topic),
      ...number,
      ...(maxLength === null ? [] : ['MAXLEN', '~', maxLength]),
      ...later,
      '*',
      ...this.#codec.encode(topic, message),
    ];
  }
}

/** The command that sets the policy that GETPOLICY returned. */
function policyAgain(
  stream: string,
  group: string,
  policy: readonly Buffer[],
): [string, ...Argument[]] {
  const number = (name: string) => Number(factOf(policy, name));
  const rests = number('backoff-max') > 0;
  const dead = factOf(policy, 'deadletter');
  return [
    'XGROUP',
    ...['SETPOLICY', stream, group, 'ACKWAIT', number('ackwait')],
    ...['MAXDELIVERIES', number('maxdeliveries')],
    ...(rests
      ? ['BACKOFF', number('backoff-min'), number('backoff-max'), number('backoff-factor')]
      : ['NOBACKOFF']),
    ...(rests && number('backoff-jitter') === 1 ? ['JITTER'] : []),
    ...(dead instanceof Uint8Array ? ['DEADLETTER', dead] : ['NODEADLETTER']),
  ];
}

/** A value of a reply that lists names and values, alternating. */
function factOf(row: readonly Buffer[], name: string): Buffer {
  return row[row.findIndex((each, index) => index % 2 === 0 && String(each) === name) + 1];
}

/** How often the stream has recognised an id; 0 for a missing stream. */
function duplicates(facts: unknown): number {
  return Array.isArray(facts) ? Number(factOf(facts, 'iids-duplicates')) : 0;
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  return value >>> 0;
}
