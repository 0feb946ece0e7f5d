/**
 * Rivulet's own server, which any Redis client reaches: its commands instead of scripts.
 *
 * What a subscription asks for is its group's policy (XGROUP SETPOLICY), so the server redelivers,
 * waits and moves to the dead letter of its own accord, whether this process lives or not. Streams,
 * groups and leaders are named as `rivulet://` names them: both may serve one group side by side.
 */
import {
  deadLetterTopic,
  deadlineGraceMs,
  type Message,
  type PublishPlan,
  type RawDelivery,
  type Receipt,
  type ResolvedSubscribeOptions,
  RivuletError,
} from 'rivulet';
import type { Argument, Connection } from './connection.ts';
import type { Dialect, Hold, Look, Recovery, Sweep, Taken } from './dialect.ts';
import type { EntryForm } from './entry.ts';
import type { GroupTopic } from './group-topic.ts';
import type { Keys } from './keys.ts';

/** A stream remembers so many ids of each producer, for so long, unless it was configured otherwise. */
const IDS_OF_A_PRODUCER = 100;
const ID_WINDOW_MS = 100_000;
/** Publish ids share producers, each id always the same one: as `rivulet://` does it. */
const PRODUCERS = 128;
const BY_ID = 'rivulet-id-';
const SCHEDULED_PAGE = 1000;
const KEYS_PAGE = 1000;
/** One reply's size, beyond which the rest comes with the next one. */
const MOST_BYTES = 4 * 1024 * 1024;

const NEVER: Look = { waitMs: Number.POSITIVE_INFINITY, taken: [], gone: [] };

export class Native implements Dialect {
  readonly capabilities: Dialect['capabilities'] = {
    delayedNack: 'native',
    delayedPublish: 'native',
    dedup: { windowMs: ID_WINDOW_MS, maxIds: (IDS_OF_A_PRODUCER * PRODUCERS) / 2 },
  };
  readonly looks = false;
  readonly boundsAll = true;
  readonly nobody: ReadonlySet<string> = new Set(['']);
  readonly #commands: Connection;
  readonly #keys: Keys;
  readonly #form: EntryForm;

  constructor(commands: Connection, keys: Keys, form: EntryForm) {
    this.#commands = commands;
    this.#keys = keys;
    this.#form = form;
  }

  start(): void {}

  async stop(): Promise<void> {}

  async announce(): Promise<void> {
    // Every stream is a topic.
  }

  async topics(): Promise<string[]> {
    const topics = new Set<string>();
    for (let cursor = '0'; ; ) {
      const [next, keys] = (await this.#commands.call(
        'SCAN',
        cursor,
        'TYPE',
        'stream',
        'COUNT',
        KEYS_PAGE,
      )) as [Buffer, Buffer[]];
      for (const key of keys) {
        const topic = this.#keys.topic(key.toString());
        if (topic !== null) topics.add(topic);
      }
      cursor = next.toString();
      if (cursor === '0') return [...topics].sort();
    }
  }

  /** What the stream counts of duplicates tells whether it was one. */
  async publishOnce(topic: string, message: Message, plan: PublishPlan): Promise<Receipt> {
    const stream = this.#keys.stream(topic);
    const id = plan.id as string;
    const add = this.#add(topic, message, plan, ['IDMP', `${BY_ID}${hash(id) % PRODUCERS}`, id]);
    const look: [string, ...Argument[]] = ['XINFO', 'STREAM', stream];
    // Where there is no stream yet, the first look is an error and nothing else.
    const [before, added, after] = await this.#commands.transactAll([look, add, look]);
    if (added instanceof Error) throw added;
    return { id: String(added), duplicate: duplicates(after) > duplicates(before) };
  }

  async publishLater(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const names = await this.#commands.transact(
      messages.map((message) => this.#add(topic, message, plan, [])),
    );
    return names.map((name) => ({ id: String(name), duplicate: false }));
  }

  async redrive(dead: string, id: Buffer, topic: string, message: Message): Promise<boolean> {
    // Two who redrive at once add it once: its id among the dead is its number.
    const number = ['IDMP', 'redrive', `${dead} ${id}`];
    const [, removed] = await this.#commands.transact([
      ['XADD', this.#keys.stream(topic), ...number, '*', ...this.#form.write(topic, message)],
      ['XDEL', dead, id],
    ]);
    return removed === 1;
  }

  async restart({ stream, group }: GroupTopic, from: string): Promise<void> {
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

  async adopt({ topic, stream, group }: GroupTopic, options: ResolvedSubscribeOptions) {
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

  readOptions(
    _perStream: number,
    room: number,
    options: ResolvedSubscribeOptions,
    idle: number,
  ): Argument[] {
    const bounds = ['COUNT', room, 'MAXCOUNT', room, 'MAXSIZE', MOST_BYTES];
    return [...bounds, 'CLAIM', this.#serverAckWaitMs(options), 'HANDOVER', idle];
  }

  /** The deadline itself is kept by the consumer: the server's is for consumers that are dead. */
  #serverAckWaitMs({ ackWaitMs }: ResolvedSubscribeOptions): number {
    return Math.ceil(ackWaitMs) + deadlineGraceMs(ackWaitMs);
  }

  async sweep(): Promise<Sweep> {
    throw new RivuletError('INTERNAL', 'one read bounds all its streams here');
  }

  async take(): Promise<Look> {
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
    )) as [Buffer, Buffer, number, number][];
    const missing = pending.filter(([id]) => !known.has(id.toString('latin1')));
    const mine = missing.slice(0, count);
    const claimed = await Promise.all(
      mine.map(
        ([id, , , count]) =>
          this.#commands.call(
            ...(['XCLAIM', stream, group, consumer, 0, id] as const),
            ...(['RETRYCOUNT', count] as const),
          ) as Promise<[Buffer, Buffer[]][]>,
      ),
    );
    const taken: Taken[] = [];
    const gone: Buffer[] = [];
    mine.forEach(([id, owner, , count], i) => {
      const [entry] = claimed[i];
      if (entry === undefined) {
        gone.push(id);
        return;
      }
      // What was this consumer's came in a reply that was lost: no handler has had it.
      const isOwn = owner.toString() === consumer;
      const attempt = isOwn ? Math.max(1, count) : count + 1;
      const isSuspect = !isOwn && owner.length > 0;
      taken.push([id, attempt, entry[1], isSuspect ? 1 : 0, count === attempt]);
    });
    const isAll = pending.length < most && mine.length === missing.length;
    const last = mine.at(-1) ?? pending.at(-1);
    return { after: isAll || last === undefined ? null : String(last[0]), taken, gone };
  }

  async tidy({ stream, group }: GroupTopic, silentMs: number): Promise<void> {
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
    // Ours until its time is up, and renewed within each turn: nobody else has it meanwhile.
    if (String(await this.#commands.call('GET', leader)) === consumer) {
      await this.#commands.call('DEL', leader);
    }
  }

  nack(hold: Hold, delayMs: number, reason: string): Promise<boolean> {
    const delay = ['DELAY', Math.round(delayMs), 'REASON', reason];
    return this.#giveBack(hold, 'SILENT', [...delay, 'RETRYCOUNT', hold.raw.attempt]);
  }

  release(hold: Hold): Promise<boolean> {
    const count = hold.raw.attempt - 1;
    return this.#giveBack(hold, 'SILENT', ['DELAY', 0, 'RETRYCOUNT', Math.max(0, count)]);
  }

  extend(hold: Hold, ms: number, ackWaitMs: number): Promise<boolean> {
    // Idle for less than nothing where the deadline is to lie further off than ackWait.
    return this.#claim(hold, ['IDLE', Math.round(ackWaitMs - ms)]);
  }

  recount(hold: Hold): Promise<boolean> {
    return this.#claim(hold, ['RETRYCOUNT', hold.raw.attempt]);
  }

  bury(
    hold: Hold,
    _raw: RawDelivery,
    _options: ResolvedSubscribeOptions,
    _to: string,
    reason: string,
  ): Promise<boolean> {
    // Where to is in the group's policy.
    return this.#giveBack(hold, 'DEADLETTER', ['REASON', reason, 'RETRYCOUNT', hold.raw.attempt]);
  }

  async #giveBack({ at, consumer, raw }: Hold, mode: string, options: Argument[]) {
    const ids = ['IDS', 1, raw.id, 'OWNER', consumer];
    const done = await this.#commands.call('XNACK', at.stream, at.group, mode, ...ids, ...options);
    return done !== 0;
  }

  async #claim({ at, consumer, raw }: Hold, options: Argument[]): Promise<boolean> {
    const claim = [at.stream, at.group, consumer, 0, raw.id, 'OWNER', consumer, 'JUSTID'];
    const done = (await this.#commands.call('XCLAIM', ...claim, ...options)) as Buffer[];
    return done.length > 0;
  }

  #add(
    topic: string,
    message: Message,
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
      ...this.#form.write(topic, message),
    ];
  }
}

/** The command that gives a group the policy that GETPOLICY told. */
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

/** How often the stream has recognised an id; a stream that is not there has not. */
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
