/**
 * Pulls messages of one durable consumer: as many as there is room for, and never more.
 *
 * JetStream's pull protocol as it is: a request names how many are wanted and how long it stands; the
 * server answers with messages and, at its end, how many were not needed. Invariants: what is asked
 * for and has not come is at most `room()`. A request that falls silent (`SILENT_MS`) or was made
 * before a reconnect is forgotten together with its inbox, and what it might still bring comes again
 * to whoever asks; so a consumer cannot look alive and not be. Whoever stops leaves no request
 * behind that nobody listens to. Cost: two requests a second for a topic on which nothing comes.
 */
import { createInbox, type Msg, type Subscription } from '@nats-io/transport-node';
import type { Scheduler } from 'rivulet';
import type { Link } from './link.ts';

const NANOS = 1_000_000;
/** Whoever stops waits for the end of its requests, so these are short. */
export const LONGEST_MS = 500;
const WATCH_MS = 1000;
const SILENT_MS = 3000;
/** One part in so many of what was asked for is worth another request. */
const GOOD_PART = 3;
/** After an answer that names no cause of ours. */
const REST_MS = 250;

export interface PullerSetup {
  readonly link: Link;
  readonly stream: string;
  readonly consumer: string;
  readonly scheduler: Scheduler;
  readonly room: () => number;
  /** How long a request stands; short where others wait for the room that it takes. */
  readonly expiresMs?: () => number;
  /** A request has ended with room to spare: for this puller, unless others share it. */
  readonly onRoom?: () => void;
  readonly onMessage: (message: Msg) => void;
  /** The consumer or its stream is not there. */
  readonly onGone: () => void;
  /** Nothing was heard of a request: they may not be there. */
  readonly onSilent?: () => void;
}

export class Puller {
  readonly #setup: PullerSetup;
  #subscription: Subscription | null = null;
  #inbox = '';
  #asked = 0;
  #heardAt = 0;
  #cancelWatch = () => {};
  #cancelRest: (() => void) | null = null;
  #whenAnswered = () => {};
  #cancelLinger = () => {};
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

  /**
   * Asks for what there is room for beyond what was asked already: at once when nothing is asked
   * for, else when it is a good part of the room. So requests that stand are few, however singly
   * handlers finish, and the server's bound on them is never met.
   */
  pull(): void {
    const { link, room, stream, consumer } = this.#setup;
    if (this.#stopped || this.#subscription === null || !link.connected) return;
    if (this.#cancelRest !== null) return;
    const batch = room() - this.#asked;
    if (batch <= 0 || (this.#asked > 0 && batch < this.#asked / GOOD_PART)) return;
    this.#asked += batch;
    if (this.#asked === batch) this.#heardAt = this.#now();
    const wanted = { batch, expires: (this.#setup.expiresMs?.() ?? LONGEST_MS) * NANOS };
    link.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, JSON.stringify(wanted), {
      reply: this.#inbox,
    });
  }

  /** Forgets what was asked for and asks anew, on another inbox. */
  restart(ask = () => this.pull()): void {
    void this.#clear();
    const { link } = this.#setup;
    if (this.#stopped || !link.connected) return;
    this.#inbox = createInbox();
    const inbox = this.#inbox;
    this.#subscription = link.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error !== null) return;
        if (inbox === this.#inbox) this.#receive(message);
        else this.#refuse(message);
      },
    });
    this.#watch();
    ask();
  }

  /**
   * Takes no more; what is on its way is given back. The requests that stand are let run out: a
   * message for one that nobody listens to any more would be lost until its deadline, in a cluster
   * because another node has not heard of it yet, and on one server because NATS 2.9, when it finds
   * none but such requests, forgets that the message in its hand was to be delivered again.
   */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unwatch();
    if (this.#asked > 0 && this.#setup.link.connected) {
      await new Promise<void>((resolve) => {
        this.#whenAnswered = resolve;
        const { scheduler } = this.#setup;
        const cancel = scheduler.after(LONGEST_MS + REST_MS, resolve);
        this.#cancelLinger = cancel;
      });
      this.#cancelLinger();
    }
    await this.#clear();
  }

  async #clear(): Promise<void> {
    this.#cancelWatch();
    this.#cancelRest?.();
    this.#cancelRest = null;
    this.#asked = 0;
    this.#inbox = '';
    const subscription = this.#subscription;
    this.#subscription = null;
    // Unsubscribes, and hears what the server had sent until then.
    if (this.#setup.link.connected) await subscription?.drain().catch(() => {});
    else subscription?.unsubscribe();
  }

  #refuse(message: Msg): void {
    if (!message.reply?.startsWith('$JS.ACK.') || !this.#setup.link.connected) return;
    this.#setup.link.nc.publish(message.reply, '-NAK');
  }

  #receive(message: Msg): void {
    this.#heardAt = this.#now();
    this.#take(message);
    if (this.#asked === 0) this.#whenAnswered();
  }

  #take(message: Msg): void {
    const code = message.reply?.startsWith('$JS.ACK.') ? 0 : (message.headers?.code ?? 0);
    if (code === 0) {
      this.#asked = Math.max(0, this.#asked - 1);
      this.#setup.onMessage(message);
      this.pull();
      return;
    }
    const text = message.headers?.description ?? '';
    const left = Number(message.headers?.get('Nats-Pending-Messages') || 0);
    this.#asked = code === 408 && left > 0 ? Math.max(0, this.#asked - left) : 0;
    if (code === 408) (this.#setup.onRoom ?? (() => this.pull()))();
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
    this.#cancelWatch = this.#setup.scheduler.after(WATCH_MS, () => {
      if (this.#stopped) return;
      const silent = this.#now() - this.#heardAt > SILENT_MS;
      if (this.#asked > 0 && silent) {
        // A server does not answer for a stream that was deleted. Others get the room first.
        this.#setup.onSilent?.();
        this.restart(this.#setup.onRoom);
        return;
      }
      this.pull();
      this.#watch();
    });
  }

  #now(): number {
    return this.#setup.scheduler.monotonic();
  }
}
