/**
 * Pulls messages of one durable consumer: as many as there is room for, and never more.
 *
 * JetStream's pull protocol as it is: a request names how many are wanted and how long it stands; the
 * server answers with messages, heartbeats and, at its end, how many were not needed. Invariants:
 * what is asked for and has not come is at most `room()`. A request that falls silent (no message and
 * no heartbeat for three times `HEARTBEAT_MS`) or was made before a reconnect is forgotten together
 * with its inbox, and what it might still bring comes again to whoever asks. So a consumer cannot
 * look alive and not be.
 */
import { createInbox, type Msg, type Subscription } from '@nats-io/transport-node';
import type { Scheduler } from 'rivulet';
import type { Link } from './link.ts';

const NANOS = 1_000_000;
const HEARTBEAT_MS = 1000;
const EXPIRES_MS = 20_000;
/** After an answer that names no cause of ours. */
const REST_MS = 250;

export interface PullerSetup {
  readonly link: Link;
  readonly stream: string;
  readonly consumer: string;
  readonly scheduler: Scheduler;
  readonly room: () => number;
  readonly onMessage: (message: Msg) => void;
  /** The consumer or its stream is not there. */
  readonly onGone: () => void;
}

export class Puller {
  readonly #setup: PullerSetup;
  #subscription: Subscription | null = null;
  #inbox = '';
  #asked = 0;
  #heardAt = 0;
  #cancelWatch = () => {};
  #cancelRest: (() => void) | null = null;
  #stopped = false;
  readonly #unwatch: () => void;

  constructor(setup: PullerSetup) {
    this.#setup = setup;
    this.#unwatch = setup.link.onReady(() => this.restart());
  }

  /** What was asked for and has not come. */
  get asked(): number {
    return this.#asked;
  }

  start(): void {
    this.restart();
  }

  /** Asks for what there is room for beyond what was asked already. */
  pull(): void {
    const { link, room, stream, consumer } = this.#setup;
    if (this.#stopped || this.#subscription === null || !link.connected) return;
    if (this.#cancelRest !== null) return;
    const batch = room() - this.#asked;
    if (batch <= 0) return;
    this.#asked += batch;
    if (this.#asked === batch) this.#heardAt = this.#now();
    const wanted = {
      batch,
      expires: EXPIRES_MS * NANOS,
      idle_heartbeat: HEARTBEAT_MS * NANOS,
    };
    link.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, JSON.stringify(wanted), {
      reply: this.#inbox,
    });
  }

  /** Forgets what was asked for and asks anew, on another inbox. */
  restart(): void {
    this.#clear();
    const { link } = this.#setup;
    if (this.#stopped || !link.connected) return;
    this.#inbox = createInbox();
    const inbox = this.#inbox;
    this.#subscription = link.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error === null && inbox === this.#inbox) this.#receive(message);
      },
    });
    this.#watch();
    this.pull();
  }

  stop(): void {
    this.#stopped = true;
    this.#unwatch();
    this.#clear();
  }

  #clear(): void {
    this.#cancelWatch();
    this.#cancelRest?.();
    this.#cancelRest = null;
    this.#asked = 0;
    this.#inbox = '';
    try {
      this.#subscription?.unsubscribe();
    } catch {
      // The connection is closed, and with it every subscription.
    }
    this.#subscription = null;
  }

  #receive(message: Msg): void {
    this.#heardAt = this.#now();
    const code = message.headers?.code ?? 0;
    if (code === 0 || message.reply?.startsWith('$JS.ACK.')) {
      this.#asked = Math.max(0, this.#asked - 1);
      this.#setup.onMessage(message);
      this.pull();
      return;
    }
    if (code === 100) return;
    const text = message.headers?.description ?? '';
    const left = Number(message.headers?.get('Nats-Pending-Messages') || 0);
    this.#asked = code === 408 && left > 0 ? Math.max(0, this.#asked - left) : 0;
    if (code === 408) this.pull();
    else if (code === 503 || code === 404 || /deleted/i.test(text)) this.#setup.onGone();
    else this.#rest();
  }

  #rest(): void {
    this.#cancelRest ??= this.#setup.scheduler.after(REST_MS, () => {
      this.#cancelRest = null;
      this.pull();
    });
  }

  #watch(): void {
    this.#cancelWatch = this.#setup.scheduler.after(HEARTBEAT_MS, () => {
      const silent = this.#now() - this.#heardAt > 3 * HEARTBEAT_MS;
      if (this.#asked > 0 && silent) return this.restart();
      this.pull();
      this.#watch();
    });
  }

  #now(): number {
    return this.#setup.scheduler.monotonic();
  }
}
