/**
 * Pulls the messages of one durable consumer, at most as many as there is room for.
 *
 * A request of JetStream's pull protocol says how many messages are wanted and when it expires. The
 * server replies with messages and, when it expires, with the number that did not come. Invariants: the
 * messages that were asked for and have not come are at most `room()`. A request that was made before a
 * reconnect, or that gets no reply within `SILENT_MS`, is dropped with its inbox; the server redelivers
 * what it would have brought. Stopping waits until the open requests have expired.
 * Cost: two requests a second for a topic without messages.
 */
import { createInbox, type Msg, type Subscription } from '@nats-io/transport-node';
import type { Scheduler } from 'rivulet/adapter';
import type { Link } from '../link.ts';

const NANOS = 1_000_000;
/** The longest time a request is open. Stopping waits for it, so it is short. */
export const LONGEST_MS = 500;
const WATCH_MS = 300;
/**
 * A request gets its last reply after `LONGEST_MS` at the latest. NATS 2.9 in a cluster sometimes loses
 * a request: for a consumer that was just made, and under load.
 */
const SILENT_MS = LONGEST_MS + 900;
/** A request is sent only for at least a third of the messages that are asked for already. */
const SMALLEST_PART = 3;
/** The pause after a reply with another error. */
const PAUSE_MS = 250;

export interface PullerSetup {
  readonly link: Link;
  readonly stream: string;
  readonly consumer: string;
  readonly scheduler: Scheduler;
  readonly room: () => number;
  /** How long a request is open; shorter while other topics wait for its room. */
  readonly expiresMs?: () => number;
  /** A request has expired and left room: for this puller, unless others share it. */
  readonly onRoom?: () => void;
  readonly onMessage: (message: Msg) => void;
  /** The consumer or its stream does not exist. */
  readonly onGone: () => void;
  /** A request got no reply: the consumer or its stream may not exist. */
  readonly onSilent?: () => void;
}

export class Puller {
  readonly #setup: PullerSetup;
  #subscription: Subscription | null = null;
  #inbox = '';
  #asked = 0;
  /** When the last reply was received, monotonic ms. */
  #repliedAt = 0;
  #cancelWatch = () => {};
  #cancelPause: (() => void) | null = null;
  #whenAnswered = () => {};
  #cancelLinger = () => {};
  #stopped = false;
  readonly #unwatch: () => void;

  constructor(setup: PullerSetup) {
    this.#setup = setup;
    this.#unwatch = setup.link.onReady(() => this.restart());
  }

  /** How many messages were asked for and have not come. */
  get asked(): number {
    return this.#asked;
  }

  start(): void {
    this.restart();
  }

  /**
   * Asks for as many messages as there is room for and were not asked for. If requests are open, it waits
   * until that is a third of them: so there are few open requests even if handlers finish one by one,
   * and the server's limit on them is never reached.
   */
  pull(): void {
    const { link, room, stream, consumer } = this.#setup;
    if (this.#stopped || this.#subscription === null || !link.connected) return;
    if (this.#cancelPause !== null) return;
    const batch = room() - this.#asked;
    if (batch <= 0 || (this.#asked > 0 && batch < this.#asked / SMALLEST_PART)) return;
    this.#asked += batch;
    if (this.#asked === batch) this.#repliedAt = this.#now();
    const wanted = { batch, expires: (this.#setup.expiresMs?.() ?? LONGEST_MS) * NANOS };
    link.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, JSON.stringify(wanted), {
      reply: this.#inbox,
    });
  }

  /** Drops the open requests with their inbox, and asks again. */
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
   * Receives no more, and gives back what still arrives. Waits until the open requests have expired: a
   * message for a request without a subscriber would be lost until its deadline. In a cluster another
   * node may not know yet that the subscriber has gone; and NATS 2.9 does not redeliver a message if it
   * finds only such requests for it.
   */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unwatch();
    if (this.#asked > 0 && this.#setup.link.connected) {
      await new Promise<void>((resolve) => {
        this.#whenAnswered = resolve;
        const { scheduler } = this.#setup;
        const cancel = scheduler.after(SILENT_MS, resolve);
        this.#cancelLinger = cancel;
      });
      this.#cancelLinger();
    }
    await this.#clear();
  }

  async #clear(): Promise<void> {
    this.#cancelWatch();
    this.#cancelPause?.();
    this.#cancelPause = null;
    this.#asked = 0;
    this.#inbox = '';
    const subscription = this.#subscription;
    this.#subscription = null;
    // Receives what the server had sent until it unsubscribed.
    if (this.#setup.link.connected) await subscription?.drain().catch(() => {});
    else subscription?.unsubscribe();
  }

  #refuse(message: Msg): void {
    if (!message.reply?.startsWith('$JS.ACK.') || !this.#setup.link.connected) return;
    this.#setup.link.nc.publish(message.reply, '-NAK');
  }

  #receive(message: Msg): void {
    this.#repliedAt = this.#now();
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
    else this.#pause();
  }

  #pause(): void {
    this.#cancelPause ??= this.#setup.scheduler.after(PAUSE_MS, () => {
      this.#cancelPause = null;
      this.pull();
    });
  }

  #watch(): void {
    const lookAt = this.#now() + WATCH_MS;
    this.#cancelWatch = this.#setup.scheduler.after(WATCH_MS, () => {
      if (this.#stopped) return;
      // While the process was paused it received nothing: that time does not count as silence.
      const late = this.#now() - lookAt;
      if (late > WATCH_MS) this.#repliedAt += late;
      const silent = this.#now() - this.#repliedAt > SILENT_MS;
      if (this.#asked > 0 && silent) {
        // A server does not reply for a deleted stream. Other topics get the room first.
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
