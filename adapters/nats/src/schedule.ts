/**
 * Messages for later: a work queue in JetStream, whose consumer is every connected client.
 *
 * A client that is handed a message that is not due gives it back with a delay, which the server
 * keeps; one that is handed a message that is due stores it in its topic and acknowledges it. The id
 * it is stored under is its place in the queue (or the id it was published with), so two clients, or
 * one that crashed between the two steps, add one message. When a message is due is the server's to
 * say: it is a duration after the server stored it, or a time on the server's clock.
 * Invariants: messages that are due at one time are stored in the order they were published, as far
 * as one client is handed them; what another program has put here goes to a dead letter.
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
} from 'rivulet';
import type { ServerClock } from './clock.ts';
import { numberOf, toRivulet } from './failures.ts';
import { parseAck } from './held.ts';
import type { Link } from './link.ts';
import { SCHEDULE_STREAM, SCHEDULE_SUBJECTS, scheduleSubject } from './names.ts';
import { Puller } from './puller.ts';
import type { Streams } from './streams.ts';

const NANOS = 1_000_000;
const CONSUMER = 'clients';
const BATCH = 256;
const ACK_WAIT_MS = 30_000;
/** Looked at again this often, so that a delay the server forgot in a restart is no matter. */
const LONGEST_NAP_MS = 60 * 60_000;
/** Messages that are due within this time are kept here, in order, until they are. */
const NEAR_MS = 100;
const AGAIN_MS = 250;

export const scheduleHeaders = {
  /** Milliseconds from when the server stored it. */
  delay: 'Rivulet-Delay',
  /** Or a time on the server's clock. */
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
  readonly bury: (message: Msg, reason: string) => Promise<void>;
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
  /** What is due soon. */
  #near: Near[] = [];
  #cancelNear: (() => void) | null = null;

  constructor(setup: ScheduleSetup) {
    this.#setup = setup;
  }

  /** Sees to it that this client helps; begins by itself where a schedule exists already. */
  start(): void {
    this.#starting ??= this.#begin().finally(() => {
      this.#starting = null;
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#starting;
    await this.#puller?.stop();
    this.#cancelNear?.();
    for (const { message } of this.#near.splice(0)) this.#nap(message, 0);
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
          onMessage: (message) => void this.#receive(message),
          onGone: () => this.#again(),
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

  #again(): void {
    void this.#puller?.stop();
    this.#puller = null;
    this.#setup.streams.forget();
    this.start();
  }

  async #ensure(): Promise<void> {
    const { streams, link } = this.#setup;
    const stream = await streams.schedule();
    const { consumers } = link.jsm;
    try {
      await consumers.info(stream, CONSUMER);
    } catch (error) {
      if (numberOf(error) !== 10_014) throw error;
      await consumers.add(stream, {
        durable_name: CONSUMER,
        ack_policy: 'explicit',
        ack_wait: ACK_WAIT_MS * NANOS,
        filter_subject: SCHEDULE_SUBJECTS,
        max_deliver: -1,
        max_ack_pending: -1,
        num_replicas: streams.replicas,
      });
    }
  }

  async #receive(message: Msg): Promise<void> {
    this.#busy++;
    try {
      const wanted = readSchedule(message);
      if (typeof wanted === 'string') {
        await this.#setup.bury(message, wanted);
        this.#acknowledge(message);
        this.#done();
        return;
      }
      const left = wanted.dueAt - (await this.#setup.clock.now());
      if (left > NEAR_MS) {
        this.#nap(message, left - NEAR_MS / 2);
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

  /** Null: something earlier has set the timer. */
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
    // All leave in this order; of one topic that has no stream yet, one after the other.
    const topics = new Map<string, Promise<void>>();
    for (const each of due) {
      const before = topics.get(each.topic);
      const isKnown = this.#setup.streams.known(each.topic) !== null;
      const stored =
        before === undefined || isKnown
          ? this.#storeOne(each)
          : before.then(() => this.#storeOne(each));
      topics.set(each.topic, stored);
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
    this.#nap(message, AGAIN_MS);
    this.#done();
  }

  #done(): void {
    this.#busy--;
    this.#puller?.pull();
  }

  #nap(message: Msg, ms: number): void {
    const delay = Math.ceil(Math.min(ms, LONGEST_NAP_MS)) * NANOS;
    const word = delay === 0 ? '-NAK' : `-NAK {"delay": ${delay}}`;
    try {
      this.#setup.link.nc.publish(message.reply as string, word);
    } catch (error) {
      if (!(error instanceof RivuletError)) throw error;
      // Without a connection it comes again after the server's own wait.
    }
  }
}

/** What a message asks for, or why it asks for nothing that can be done. */
function readSchedule(message: Msg): Near | string {
  const { headers, reply = '' } = message;
  const facts = parseAck(reply);
  const topic = decode(headers?.get(scheduleHeaders.topic) ?? '');
  const delay = headers?.get(scheduleHeaders.delay) || null;
  const at = headers?.get(scheduleHeaders.dueAt) || null;
  if (facts === null) return 'the server did not say when it was stored';
  const dueAt = delay === null ? Number(at ?? Number.NaN) : facts.timeMs + Number(delay);
  if (!Number.isFinite(dueAt)) return 'it does not say when it is due';
  try {
    checkTopic(topic);
  } catch (error) {
    return `it does not say to which topic it goes: ${(error as Error).message}`;
  }
  if (message.subject !== scheduleSubject(topic))
    return `it does not wait where those for ${topic} wait`;
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
