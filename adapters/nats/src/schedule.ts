/**
 * Delayed messages: a work queue in JetStream, which every connected client consumes.
 *
 * A client that receives a message before it is due gives it back with a delay, which the server keeps.
 * A client that receives a message that is due stores it in its topic and acknowledges it. The message
 * is stored under the id it was published with, or under its sequence in the queue. So two clients, or
 * one that crashed between the two steps, store one message. A message is due at a time on the server's
 * clock, or a duration after the server stored it.
 * Invariants: messages that one client receives and that are due at the same time are stored in the
 * order in which they were published. A message that another program has put here becomes a dead letter.
 * Cost: each message is received again at least every hour until it is due.
 */
import type { Msg } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  backoffMs,
  checkTopic,
  type Events,
  pause,
  RivuletError,
  type Scheduler,
} from 'rivulet/adapter';
import type { ServerClock } from './clock.ts';
import { numberOf, toRivulet } from './errors.ts';
import type { Link } from './link.ts';
import { SCHEDULE_STREAM, SCHEDULE_SUBJECTS, scheduleSubject } from './names.ts';
import type { Streams } from './streams.ts';
import { parseReply } from './subscription/in-flight.ts';
import { Puller } from './subscription/puller.ts';

const NANOS = 1_000_000;
const NO_CONSUMER = 10_014;
const CONSUMER = 'clients';
const BATCH = 256;
/**
 * A client keeps a message for `NEAR_MS` and while it is stored. The server redelivers it after this
 * time; its id prevents that it is stored twice.
 */
const ACK_WAIT_MS = 5000;
/** The longest delay of a message that is given back: a restarted server may have lost the delay. */
const LONGEST_DELAY_MS = 60 * 60_000;
/** Messages that are due within this time are kept in memory, in order. */
const NEAR_MS = 100;
const RETRY_MS = 250;
/** The longest time that stopping waits for what is being stored or given back. */
const STOP_MS = 2000;

export const scheduleHeaders = {
  /** Milliseconds after the server stored it. */
  delay: 'Rivulet-Delay',
  /** Or Unix time in ms, on the server's clock. */
  dueAt: 'Rivulet-Due-At',
  topic: 'Rivulet-Due-Topic',
  id: 'Rivulet-Due-Id',
} as const;

export interface ScheduleSetup {
  readonly link: Link;
  readonly streams: Streams;
  readonly scheduler: Scheduler;
  readonly clock: ServerClock;
  readonly events: Events<BrokerEvents>;
  readonly store: (topic: string, message: Msg, id: string) => Promise<void>;
  readonly deadLetter: (message: Msg, reason: string) => Promise<void>;
}

interface Near {
  readonly message: Msg;
  readonly topic: string;
  readonly id: string;
  readonly dueAt: number;
  readonly sequence: number;
}

export class Schedule {
  readonly #setup: ScheduleSetup;
  readonly #stop = new AbortController();
  #puller: Puller | null = null;
  #starting: Promise<void> | null = null;
  #busy = 0;
  /** What is done with messages that this client has received, until each is stored or given back. */
  readonly #handling = new Set<Promise<void>>();
  /** Messages that are due soon. */
  #near: Near[] = [];
  #cancelNear: (() => void) | null = null;

  constructor(setup: ScheduleSetup) {
    this.#setup = setup;
  }

  /** Begins to consume the delayed messages, unless this client does so already. */
  start(): void {
    this.#starting ??= this.#begin().finally(() => {
      this.#starting = null;
    });
  }

  /**
   * Gives back every message that is not stored: the server would redeliver one that is kept only after
   * `ACK_WAIT_MS`, which is as late as it would come.
   */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#starting;
    await this.#puller?.stop();
    this.#cancelNear?.();
    for (const { message } of this.#near.splice(0)) this.#giveBack(message, 0);
    const { scheduler } = this.#setup;
    const ended = new AbortController();
    await Promise.race([
      Promise.allSettled(this.#handling),
      pause(scheduler, STOP_MS, ended.signal).catch(() => {}),
    ]);
    ended.abort();
  }

  async #begin(): Promise<void> {
    const { link, scheduler, events } = this.#setup;
    const { signal } = this.#stop;
    for (let attempt = 1; this.#puller === null && !signal.aborted; attempt++) {
      try {
        await this.#ensure();
        if (signal.aborted) return;
        this.#puller = new Puller({
          link,
          stream: SCHEDULE_STREAM,
          consumer: CONSUMER,
          scheduler,
          room: () => BATCH - this.#busy,
          onMessage: (message) => this.#handle(this.#receive(message)),
          onGone: () => this.#restart(),
        });
        this.#puller.start();
      } catch (error) {
        const known = toRivulet(error);
        if (known.code !== 'NOT_CONNECTED') events.emit('warning', { error: known });
        const backoff = { minMs: 100, maxMs: 5000, factor: 2, jitter: true };
        const wait = backoffMs(backoff, attempt, scheduler.fraction());
        await pause(scheduler, wait, signal).catch(() => {});
      }
    }
  }

  #restart(): void {
    void this.#puller?.stop();
    this.#puller = null;
    this.#setup.streams.forget();
    this.start();
  }

  async #ensure(): Promise<void> {
    const { streams, link } = this.#setup;
    const stream = await streams.schedule();
    const { consumers } = link.jsm;
    const ack_wait = ACK_WAIT_MS * NANOS;
    try {
      const { config } = await consumers.info(stream, CONSUMER);
      if (config.ack_wait !== ack_wait) await consumers.update(stream, CONSUMER, { ack_wait });
    } catch (error) {
      if (numberOf(error) !== NO_CONSUMER) throw error;
      await consumers.add(stream, {
        durable_name: CONSUMER,
        ack_policy: 'explicit',
        ack_wait,
        filter_subject: SCHEDULE_SUBJECTS,
        max_deliver: -1,
        max_ack_pending: -1,
        num_replicas: streams.replicas,
      });
    }
  }

  #handle(work: Promise<void>): void {
    this.#handling.add(work);
    void work.finally(() => this.#handling.delete(work));
  }

  async #receive(message: Msg): Promise<void> {
    this.#busy++;
    try {
      const wanted = readSchedule(message);
      if (typeof wanted === 'string') {
        await this.#setup.deadLetter(message, wanted);
        this.#acknowledge(message);
        this.#done();
        return;
      }
      const left = wanted.dueAt - (await this.#setup.clock.now());
      if (this.#stop.signal.aborted) {
        this.#giveBack(message, 0);
        this.#done();
        return;
      }
      if (left > NEAR_MS) {
        this.#giveBack(message, left - NEAR_MS / 2);
        this.#done();
        return;
      }
      this.#near.push(wanted);
      this.#near.sort((a, b) => a.dueAt - b.dueAt || a.sequence - b.sequence);
      this.#storeDueIn(this.#near[0] === wanted ? left : null);
    } catch (error) {
      this.#failed(message, error);
    }
  }

  /** Sets the timer; null: the timer is set for an earlier message. */
  #storeDueIn(ms: number | null): void {
    if (ms === null && this.#cancelNear !== null) return;
    this.#cancelNear?.();
    const wait = Math.max(0, Math.ceil(ms ?? 0));
    this.#cancelNear = this.#setup.scheduler.after(wait, () => void this.#storeDue());
  }

  async #storeDue(): Promise<void> {
    this.#cancelNear = null;
    let now: number;
    try {
      now = await this.#setup.clock.now();
    } catch (error) {
      for (const { message } of this.#near.splice(0)) this.#failed(message, error);
      return;
    }
    const later = this.#near.findIndex(({ dueAt }) => dueAt > now);
    const due = this.#near.splice(0, later < 0 ? this.#near.length : later);
    const [next] = this.#near;
    if (next !== undefined) this.#storeDueIn(next.dueAt - now);
    // They are sent in this order. If a topic has no stream yet, each waits for the one before.
    const topics = new Map<string, Promise<void>>();
    for (const each of due) {
      const before = topics.get(each.topic);
      const isKnown = this.#setup.streams.known(each.topic) !== null;
      const stored =
        before === undefined || isKnown
          ? this.#storeOne(each)
          : before.then(() => this.#storeOne(each));
      topics.set(each.topic, stored);
      this.#handle(stored);
    }
  }

  async #storeOne({ message, topic, id }: Near): Promise<void> {
    try {
      await this.#setup.store(topic, message, id);
      this.#acknowledge(message);
      this.#done();
    } catch (error) {
      this.#failed(message, error);
    }
  }

  #acknowledge(message: Msg): void {
    this.#setup.link.nc.publish(message.reply as string, '+ACK');
  }

  #failed(message: Msg, error: unknown): void {
    const known = toRivulet(error);
    if (known.code !== 'NOT_CONNECTED' && known.code !== 'CLOSED') {
      this.#setup.events.emit('warning', { error: known });
    }
    this.#giveBack(message, RETRY_MS);
    this.#done();
  }

  #done(): void {
    this.#busy--;
    this.#puller?.pull();
  }

  #giveBack(message: Msg, ms: number): void {
    const delay = Math.ceil(Math.min(ms, LONGEST_DELAY_MS)) * NANOS;
    const reply = delay === 0 ? '-NAK' : `-NAK {"delay": ${delay}}`;
    try {
      this.#setup.link.nc.publish(message.reply as string, reply);
    } catch (error) {
      if (!(error instanceof RivuletError)) throw error;
      // Without a connection the server redelivers it after ACK_WAIT_MS.
    }
  }
}

/** When and where a message is due, or why it is no delayed message. */
function readSchedule(message: Msg): Near | string {
  const { headers, reply = '' } = message;
  const facts = parseReply(reply);
  const topic = decode(headers?.get(scheduleHeaders.topic) ?? '');
  const delay = headers?.get(scheduleHeaders.delay) || null;
  const at = headers?.get(scheduleHeaders.dueAt) || null;
  if (facts === null) return 'it has no reply subject of JetStream';
  const dueAt = delay === null ? Number(at ?? Number.NaN) : facts.timeMs + Number(delay);
  if (!Number.isFinite(dueAt)) return 'its headers do not say when it is due';
  try {
    checkTopic(topic);
  } catch (error) {
    return `its headers do not name a topic: ${(error as Error).message}`;
  }
  if (message.subject !== scheduleSubject(topic))
    return `its subject is not the one for delayed messages of ${topic}`;
  const id = headers?.get(scheduleHeaders.id) || `scheduled:${facts.sequence}`;
  return { message, topic, id, dueAt, sequence: facts.sequence };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
