/**
 * What one HTTP/2 peer may do before its connection is ended.
 *
 * Node's HTTP/2 answers a thousand resets at once with GOAWAY and then neither reads nor closes, and
 * takes any number of SETTINGS; so both are counted here, a little tighter. Each is a bucket: a burst,
 * then a rate. Cost: two numbers per connection.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';

const RESETS = { burst: 900, perSecond: 30 };
const SETTINGS = { burst: 100, perSecond: 10 };

export class PeerLimits {
  readonly #scheduler: Scheduler;
  readonly #end: () => void;
  readonly #resets: Bucket;
  readonly #settings: Bucket;

  constructor(scheduler: Scheduler, end: () => void) {
    this.#scheduler = scheduler;
    this.#end = end;
    this.#resets = new Bucket(RESETS, scheduler.monotonic());
    this.#settings = new Bucket(SETTINGS, scheduler.monotonic());
  }

  /** The peer reset a stream whose call had not ended. */
  onReset(): void {
    if (!this.#resets.take(this.#scheduler.monotonic())) this.#end();
  }

  onSettings(): void {
    if (!this.#settings.take(this.#scheduler.monotonic())) this.#end();
  }
}

class Bucket {
  readonly #burst: number;
  readonly #perMs: number;
  #left: number;
  #at: number;

  constructor({ burst, perSecond }: { burst: number; perSecond: number }, now: number) {
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#left = burst;
    this.#at = now;
  }

  take(now: number): boolean {
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs);
    this.#at = now;
    this.#left -= 1;
    return this.#left >= 0;
  }
}
