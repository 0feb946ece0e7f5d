/**
 * Messages for later: a work queue in JetStream, whose consumer is every connected client.
 *
 * Whoever is handed a message that is not due gives it back with a delay, which the server keeps; who
 * is handed one that is due stores it in its topic and acknowledges. The id it is stored under is its
 * place in the queue (or the id it was published with), so two clients, or one that crashed between
 * the two steps, add one message. Nothing is held in a client's memory.
 */
import type { Msg } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  backoffMs,
  type Events,
  pause,
  RivuletError,
  type Scheduler,
} from 'rivulet';
import { numberOf, toRivulet } from './failures.ts';
import type { Link } from './link.ts';
import { SCHEDULE_STREAM, SCHEDULE_SUBJECT } from './names.ts';
import { Puller } from './puller.ts';
import type { Streams } from './streams.ts';

const NANOS = 1_000_000;
const CONSUMER = 'clients';
const BATCH = 256;
const ACK_WAIT_MS = 30_000;
/** Looked at again this often, so that a delay the server forgot in a restart is no matter. */
const LONGEST_NAP_MS = 60 * 60_000;

export const scheduleHeaders = {
  dueAt: 'Rivulet-Due-At',
  topic: 'Rivulet-Due-Topic',
  id: 'Rivulet-Due-Id',
} as const;

export type StoreDue = (topic: string, message: Msg, id: string) => Promise<void>;

export class Schedule {
  readonly #link: Link;
  readonly #streams: Streams;
  readonly #scheduler: Scheduler;
  readonly #events: Events<BrokerEvents>;
  readonly #store: StoreDue;
  readonly #stop = new AbortController();
  #puller: Puller | null = null;
  #starting: Promise<void> | null = null;
  #busy = 0;

  constructor(
    link: Link,
    streams: Streams,
    scheduler: Scheduler,
    events: Events<BrokerEvents>,
    store: StoreDue,
  ) {
    this.#link = link;
    this.#streams = streams;
    this.#scheduler = scheduler;
    this.#events = events;
    this.#store = store;
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
  }

  async #begin(): Promise<void> {
    const { signal } = this.#stop;
    for (let attempt = 1; this.#puller === null && !signal.aborted; attempt++) {
      try {
        await this.#ensure();
        if (signal.aborted) return;
        this.#puller = new Puller({
          link: this.#link,
          stream: SCHEDULE_STREAM,
          consumer: CONSUMER,
          scheduler: this.#scheduler,
          room: () => BATCH - this.#busy,
          onMessage: (message) => void this.#receive(message),
          onGone: () => this.#again(),
        });
        this.#puller.start();
      } catch (error) {
        this.#events.emit('warning', { error: toRivulet(error) });
        const backoff = { minMs: 100, maxMs: 5000, factor: 2, jitter: true };
        const wait = backoffMs(backoff, attempt, this.#scheduler.fraction());
        await pause(this.#scheduler, wait, signal).catch(() => {});
      }
    }
  }

  #again(): void {
    void this.#puller?.stop();
    this.#puller = null;
    this.#streams.forget();
    this.start();
  }

  async #ensure(): Promise<void> {
    const stream = await this.#streams.schedule();
    const { consumers } = this.#link.jsm;
    try {
      await consumers.info(stream, CONSUMER);
    } catch (error) {
      if (numberOf(error) !== 10_014) throw error;
      await consumers.add(stream, {
        durable_name: CONSUMER,
        ack_policy: 'explicit',
        ack_wait: ACK_WAIT_MS * NANOS,
        filter_subject: SCHEDULE_SUBJECT,
        max_deliver: -1,
        max_ack_pending: -1,
        num_replicas: this.#streams.replicas,
      });
    }
  }

  async #receive(message: Msg): Promise<void> {
    this.#busy++;
    try {
      const dueAt = Number(message.headers?.get(scheduleHeaders.dueAt));
      const topic = message.headers?.get(scheduleHeaders.topic) ?? '';
      const left = dueAt - this.#scheduler.now();
      if (left > 0) {
        this.#nap(message, left);
        return;
      }
      const place = message.reply?.split('.').at(-4);
      const id = message.headers?.get(scheduleHeaders.id) || `scheduled:${place}`;
      await this.#store(topic, message, id);
      this.#link.nc.publish(message.reply as string, '+ACK');
    } catch (error) {
      const known = toRivulet(error);
      if (known.code !== 'NOT_CONNECTED' && known.code !== 'CLOSED') {
        this.#events.emit('warning', { error: known });
      }
      this.#nap(message, 250);
    } finally {
      this.#busy--;
      this.#puller?.pull();
    }
  }

  #nap(message: Msg, ms: number): void {
    const delay = Math.ceil(Math.min(ms, LONGEST_NAP_MS)) * NANOS;
    try {
      this.#link.nc.publish(message.reply as string, `-NAK {"delay": ${delay}}`);
    } catch (error) {
      if (!(error instanceof RivuletError)) throw error;
      // Without a connection it comes again after the server's own wait.
    }
  }
}
