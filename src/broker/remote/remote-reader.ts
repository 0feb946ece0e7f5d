/**
 * The reading side of one subscription on our own server: one dedicated connection, which blocks for
 * new messages.
 *
 * Each turn (1) claims again what was delivered to this consumer before its connection broke and has
 * not reached a handler, (2) reads messages, due retries first (the server finds them), blocking at
 * most `BLOCK_MS`. An error is reported; the reader then waits, longer after each failure, and starts
 * again with a new connection. A read without a reply in time ends the connection, so a reader never
 * waits on a dead one.
 * Invariants: it asks for no more than the dispatcher has room for. In an ordered group only the
 * leader of a topic reads it; a member reads the topics that it leads. A leader that stops renewing
 * loses its lead, and the next one starts with everything that is pending.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Connection } from '../../client/connection.ts';
import { pairsOf, type Reply, ReplyError } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import { pause } from '../../util/time/scheduler.ts';
import type { BrokerEvents } from '../broker.ts';
import type { Dispatcher } from '../dispatch/dispatcher.ts';
import type { Events } from '../events.ts';
import { decodeMessage } from '../message/entry.ts';
import { trimmed } from '../message/trimmed.ts';
import { type BrokerOptions, backoffMs } from '../options/options.ts';
import { notConnected, type RemoteClient } from './remote-client.ts';
import { type RemoteTopic, serverAckWaitMs, timeOf } from './remote-topic.ts';

/** Shorter than the idle timeouts of proxies and firewalls. */
const BLOCK_MS = 2000;
/** The largest reply. What does not fit comes with the next read. */
const MOST_BYTES = 4 * 1024 * 1024;
/** After how long an unrenewed lead expires. A leader renews each turn, at least once in LEAD_BLOCK_MS. */
const LEAD_MS = 5000;
const LEAD_BLOCK_MS = 1000;
/** How often a member without a lead asks for one. */
const ASK_FOR_LEAD_MS = 250;
const MOST_RECOVERED = 1000;
const UNBLOCK_AGAIN_MS = 5;

export interface ReaderSetup {
  readonly client: RemoteClient;
  readonly consumer: string;
  readonly dispatcher: Dispatcher;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
  /** One consumer of the group at a time. */
  readonly exclusive: boolean;
  /** The subscription has a pattern: a deleted topic is not created again. */
  readonly wildcards: boolean;
}

export class RemoteReader {
  readonly topics: RemoteTopic[] = [];
  readonly #setup: ReaderSetup;
  readonly #closing = new AbortController();
  #connection: Connection | null = null;
  #running: Promise<void> | null = null;
  #whenFree: (() => void) | null = null;
  #whenTopics: (() => void) | null = null;
  #isBlocked = false;

  constructor(setup: ReaderSetup) {
    this.#setup = setup;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** The dispatcher has room again. */
  free(): void {
    this.#whenFree?.();
  }

  /** Reads these topics too, from now on. */
  add(topics: readonly RemoteTopic[]): void {
    this.topics.push(...topics);
    this.#whenTopics?.();
    this.#interrupt();
  }

  /** Stops reading. The dispatcher returns what the last read brings. */
  async stop(): Promise<void> {
    this.#closing.abort();
    this.free();
    this.#whenTopics?.();
    this.#interrupt();
    await this.#running;
  }

  /** After the dispatcher has drained: releases the leads and deletes the consumer. */
  async leave(): Promise<void> {
    const { client, consumer } = this.#setup;
    for (const each of this.topics) {
      const { topic, group } = each;
      try {
        if (each.leading) await this.#releaseLead(each);
        const own = await client.call('XPENDING', topic, group, '-', '+', 1, consumer);
        if (Array.isArray(own) && own.length > 0) continue;
        await client.call('XGROUP', 'DELCONSUMER', topic, group, consumer);
      } catch (error) {
        // The server is unreachable, or the group is gone: other consumers get what is pending.
        if (!isGroupLost(error)) this.#warn(error);
      }
    }
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    const { broker, client } = this.#setup;
    for (let failures = 0; !this.#closed; ) {
      let opened: Connection | null = null;
      try {
        opened = await client.openDedicated({ push() {}, room() {}, closed() {} });
        this.#connection = opened;
        for (const each of this.topics) each.recovering = true;
        while (!this.#closed) {
          await this.#turn(opened);
          failures = 0;
        }
      } catch (error) {
        if (this.#closed) break;
        if (isGroupLost(error) && (await this.#restoreGroups())) continue;
        this.#warn(error);
        failures++;
      } finally {
        this.#connection = null;
        opened?.destroy();
      }
      await this.#pause(backoffMs(broker.reconnect, failures, broker.scheduler.fraction()));
    }
  }

  async #turn(connection: Connection): Promise<void> {
    if (this.topics.length === 0) return this.#untilTopics();
    const { dispatcher, exclusive } = this.#setup;
    if (exclusive) await this.#acquireLeads(connection);
    // Other members lead the other topics of the group.
    const own = exclusive ? this.topics.filter((each) => each.leading) : [...this.topics];
    if (own.length === 0) return this.#pause(ASK_FOR_LEAD_MS);
    for (const each of own) {
      if (each.recovering && dispatcher.free > 0) await this.#recover(each);
    }
    const { free } = dispatcher;
    if (free === 0) return this.#untilFree();
    if (own.some((each) => each.recovering)) return;
    // Half of `maxInFlight`, so that the server reads on while these messages are handled and acknowledged.
    const most = Math.min(free, Math.ceil(dispatcher.options.maxInFlight / 2));
    await this.#read(connection, own, most);
  }

  async #read(connection: Connection, own: readonly RemoteTopic[], most: number): Promise<void> {
    const { consumer, dispatcher, exclusive } = this.#setup;
    const blockMs = exclusive ? LEAD_BLOCK_MS : BLOCK_MS;
    const [first] = own as [RemoteTopic];
    const command: CommandArgument[] = [
      ...['XREADGROUP', 'GROUP', first.group, consumer, 'COUNT', most, 'MAXCOUNT', most],
      ...[
        'MAXSIZE',
        MOST_BYTES,
        'BLOCK',
        blockMs,
        'CLAIM',
        serverAckWaitMs(dispatcher.options),
        // The reply may be lost, so nothing is counted here: hand-overs are counted when they happen.
        'HANDOVER',
        0,
      ],
      'STREAMS',
    ];
    for (const each of own) command.push(each.topic);
    for (let i = 0; i < own.length; i++) command.push('>');
    this.#isBlocked = true;
    let reply: Reply;
    try {
      reply = await ask(connection, command, blockMs);
    } finally {
      this.#isBlocked = false;
    }
    for (const [key, entries] of pairsOf(reply)) this.#receive(String(key), entries as Entry[]);
  }

  #receive(topic: string, entries: readonly Entry[]): void {
    const { dispatcher } = this.#setup;
    const from = this.topics.find((each) => each.topic === topic);
    if (from === undefined) return;
    for (const [name, fields, idleMs, before, flags] of entries) {
      const id = name.toString('latin1');
      if (fields === null) {
        this.#reportTrimmed(from, id);
        continue;
      }
      // New entries have never been idle.
      if (before === 0 && idleMs === 0 && (flags & UNSETTLED) === 0) from.lastId = id;
      else dispatcher.revoke(topic, id, 'its deadline has passed');
      this.#push(topic, id, Number(before) + 1, fields, (flags & UNSETTLED) !== 0);
    }
  }

  #push(
    topic: string,
    id: string,
    attempt: number,
    fields: readonly Buffer[],
    suspect: boolean,
  ): void {
    const { dispatcher } = this.#setup;
    dispatcher.push({
      topic,
      id,
      attempt,
      counted: false,
      suspect,
      message: decodeMessage(fields),
      publishedAt: timeOf(id),
    });
  }

  #reportTrimmed({ topic, group }: RemoteTopic, id: string): void {
    this.#setup.dispatcher.revoke(topic, id, 'it was trimmed or deleted');
    this.#warn(trimmed(topic, id, group));
  }

  /**
   * Takes again, in order of id, what this consumer (a new leader: any consumer) was given and this
   * process does not hold. What was this consumer's came in a reply that was lost, so no handler has
   * had it; what another consumer left is a suspect.
   */
  async #recover(each: RemoteTopic): Promise<void> {
    const { client, consumer, dispatcher, exclusive } = this.#setup;
    const { topic, group } = each;
    const held = new Set([...dispatcher.heldIds(topic), ...dispatcher.idsInHandlers(topic)]);
    const query = ['XPENDING', topic, group, '-', '+', MOST_RECOVERED + held.size];
    const rows = (await client.call(...query, ...(exclusive ? [] : [consumer]))) as PendingRow[];
    const missing = rows.filter(([id]) => !held.has(id.toString('latin1')));
    const taken = missing.slice(0, dispatcher.free);
    // Another consumer may have claimed it since, and have counted a hand-over: it keeps it.
    const replies = await client.pipeline(
      taken.flatMap(([id, owner]) => [
        ['XCLAIM', topic, group, consumer, 0, id, 'OWNER', owner, 'JUSTID'],
        ['XPENDING', topic, group, id, id, 1],
        ['XRANGE', topic, id, id],
      ]),
    );
    const me = Buffer.from(consumer);
    taken.forEach(([name, before], index) => {
      const [claimed, pending, range] = replies.slice(3 * index, 3 * index + 3);
      for (const reply of [claimed, pending, range]) if (reply instanceof ReplyError) throw reply;
      const id = name.toString('latin1');
      const [entry] = range as [id: Buffer, fields: Buffer[]][];
      const [row] = pending as PendingRow[];
      if (entry === undefined) this.#reportTrimmed(each, id);
      else if (row?.[1].equals(me)) {
        this.#push(topic, id, row[3] + 1, entry[1], !before.equals(me) && before.length > 0);
      }
    });
    each.recovering = taken.length < missing.length;
  }

  /** Acquires or renews the lead of every topic that no other member leads. */
  async #acquireLeads(connection: Connection): Promise<void> {
    const { dispatcher } = this.#setup;
    if (dispatcher.stuck) {
      // Handlers that do not return must not block the other members of the group.
      await dispatcher.countHandOvers();
      for (const each of this.topics) if (each.leading) await this.#releaseLead(each);
      return;
    }
    for (const each of [...this.topics]) {
      const leads = await this.#acquireLead(connection, each);
      if (leads && !each.leading) each.recovering = true;
      if (!leads && each.leading) {
        for (const id of dispatcher.heldIds(each.topic)) {
          dispatcher.revoke(each.topic, id, 'another consumer leads the ordered group');
        }
      }
      each.leading = leads;
    }
  }

  async #acquireLead(connection: Connection, { leaderKey }: RemoteTopic): Promise<boolean> {
    const { consumer } = this.#setup;
    const taken = await ask(connection, ['SET', leaderKey, consumer, 'NX', 'PX', LEAD_MS]);
    if (taken !== null) return true;
    // Another member may acquire it between GET and PEXPIRE: then EXEC does nothing.
    const [, leader] = await Promise.all([
      ask(connection, ['WATCH', leaderKey]),
      ask(connection, ['GET', leaderKey]),
    ]);
    if (String(leader) !== consumer) {
      await ask(connection, ['UNWATCH']);
      return false;
    }
    const [, , renewed] = await Promise.all([
      ask(connection, ['MULTI']),
      ask(connection, ['PEXPIRE', leaderKey, LEAD_MS]),
      ask(connection, ['EXEC']),
    ]);
    return renewed !== null;
  }

  async #releaseLead(each: RemoteTopic): Promise<void> {
    each.leading = false;
    const { client, consumer } = this.#setup;
    // The lead cannot expire between GET and DEL: it was renewed in this turn.
    const leader = await client.call('GET', each.leaderKey);
    if (String(leader) === consumer) await client.call('DEL', each.leaderKey);
  }

  /** Creates lost groups again. False where the server could not be asked. */
  async #restoreGroups(): Promise<boolean> {
    const { client, dispatcher, events } = this.#setup;
    try {
      for (const each of [...this.topics]) {
        const { topic, group } = each;
        if (this.#setup.wildcards && (await client.call('EXISTS', topic)) === 0) {
          // The topic was deleted. If it is created again, the subscription finds it as a new topic.
          this.topics.splice(this.topics.indexOf(each), 1);
          for (const id of dispatcher.heldIds(topic)) {
            dispatcher.revoke(topic, id, 'its topic was deleted');
          }
          continue;
        }
        const isNew = await each.restore(client);
        for (const id of dispatcher.heldIds(topic)) {
          dispatcher.revoke(topic, id, isNew ? 'its group was lost' : 'its group was moved');
        }
        if (isNew) events.emit('groupLost', { topic, group });
      }
      return true;
    } catch (error) {
      this.#warn(error);
      return false;
    }
  }

  /** Ends a blocked read. Repeats where the read has not reached the server yet. */
  #interrupt(): void {
    const connection = this.#connection;
    if (connection === null || !this.#isBlocked) return;
    const { client, broker } = this.#setup;
    client.call('CLIENT', 'UNBLOCK', connection.id).then(
      (done) => {
        if (done === 0) broker.scheduler.after(UNBLOCK_AGAIN_MS, () => this.#interrupt());
      },
      () => connection.destroy(),
    );
  }

  async #untilFree(): Promise<void> {
    // At most LEAD_BLOCK_MS, so that a leader renews in time.
    await new Promise<void>((resolve) => {
      const cancel = this.#setup.broker.scheduler.after(LEAD_BLOCK_MS, () => this.#whenFree?.());
      this.#whenFree = () => {
        this.#whenFree = null;
        cancel();
        resolve();
      };
      if (this.#closed || this.#setup.dispatcher.free > 0) this.#whenFree();
    });
  }

  async #untilTopics(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#whenTopics = resolve;
      if (this.#closed || this.topics.length > 0) resolve();
    });
    this.#whenTopics = null;
  }

  async #pause(ms: number): Promise<void> {
    if (this.#closed) return;
    await pause(this.#setup.broker.scheduler, ms, this.#closing.signal).catch(() => {});
  }

  #warn(error: unknown): void {
    const reported =
      error instanceof RivuletError
        ? error
        : new RivuletError('INTERNAL', 'reading from the server failed', { cause: error });
    this.#setup.events.emit('warning', { error: reported });
  }
}

/**
 * Because of CLAIM and HANDOVER: idle time, earlier hand-overs, flags. Without fields: it was pending and
 * is no longer in the stream.
 */
type Entry = [id: Buffer, fields: Buffer[] | null, idleMs: number, before: number, flags: number];
/** Flag: its last consumer neither settled nor returned it. */
const UNSETTLED = 2;
type PendingRow = [id: Buffer, consumer: Buffer, idleMs: number, count: number];

function ask(
  connection: Connection,
  args: readonly CommandArgument[],
  blockMs = 0,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const reply = (value: Reply) => (value instanceof ReplyError ? reject(value) : resolve(value));
    connection.send(args, { reply, fail: (error) => reject(notConnected(error)) }, blockMs);
  });
}

export function isGroupLost(error: unknown): boolean {
  return error instanceof ReplyError && error.prefix === 'NOGROUP';
}
