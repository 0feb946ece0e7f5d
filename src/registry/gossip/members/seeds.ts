/**
 * The members to be joined: the seeds of the options, tried until each is a member.
 *
 * Invariants: a seed that is a member, or this member itself, is not joined; a name is resolved at each
 * attempt, and one that names several members is joined at any of them; each seed has one attempt at a time,
 * and a caller waits for it at most `streamTimeoutMs`. Cost: one look at each seed for each interval of
 * rejoining.
 */
import { pause, type Scheduler } from '../../../util/time/scheduler.ts';
import type { GossipSettings } from '../options.ts';
import { type Endpoint, textOf } from '../wire/endpoint.ts';

export interface SeedsOptions {
  readonly settings: GossipSettings;
  readonly scheduler: Scheduler;
  /** Aborted when the ring closes. */
  readonly signal: AbortSignal;
  readonly resolve: (host: string) => Promise<string[]>;
  readonly self: () => Endpoint;
  readonly isMember: (place: Endpoint) => boolean;
  /** Whether any other member is known. */
  readonly hasOthers: () => boolean;
  /** Why no member of this ring can be at the address. */
  readonly whyNot: (place: Endpoint) => string | null;
  /** False where it does not answer. */
  readonly join: (place: Endpoint) => Promise<boolean>;
  readonly onRefused: (where: string, reason: string) => void;
}

/** A seed that is a member under another address is joined again after this many intervals of rejoining. */
const ELSEWHERE_INTERVALS = 60;

export class Seeds {
  readonly #options: SeedsOptions;
  #hasOtherSeeds = false;
  /** Seeds that are members under another address, and when they were joined, in monotonic milliseconds. */
  readonly #elsewhere = new Map<string, number>();
  /** A name with many addresses that do not answer is tried for longer than the interval of rejoining. */
  readonly #attempts = new Map<Endpoint, Promise<boolean>>();

  constructor(options: SeedsOptions) {
    this.#options = options;
  }

  /** Whether there are seeds beside this member itself; known after the first attempt. */
  get hasOtherSeeds(): boolean {
    return this.#hasOtherSeeds;
  }

  /** Tries each seed that is no member; resolves when one answers, all have failed, or the time is over. */
  async join(): Promise<void> {
    const attempts = this.#options.settings.seeds.map(async (seed) => {
      if (!(await this.#attempt(seed))) throw new Error('not joined');
    });
    await this.#soon(Promise.any(attempts).catch(() => {}));
  }

  /** The attempt that has begun; else a new one. */
  #attempt(seed: Endpoint): Promise<boolean> {
    const begun = this.#attempts.get(seed);
    if (begun !== undefined) return begun;
    const attempt = this.#joinOne(seed).finally(() => this.#attempts.delete(seed));
    this.#attempts.set(seed, attempt);
    return attempt;
  }

  async #joinOne(seed: Endpoint): Promise<boolean> {
    const { signal, resolve, self, whyNot, join, onRefused } = this.#options;
    // A server of names that does not answer is one that fails.
    const hosts = await this.#soon(resolve(seed.host).catch(() => null));
    if (hosts === null || signal.aborted) {
      this.#hasOtherSeeds = true;
      return false;
    }
    const places = hosts
      .map((host) => ({ host, port: seed.port }))
      .filter((place) => textOf(place) !== textOf(self()));
    if (places.length === 0) return false;
    this.#hasOtherSeeds = true;
    if (places.some((place) => this.#isJoined(place))) return true;
    // A name may have addresses of both families.
    const possible = places.filter((place) => whyNot(place) === null);
    const [first] = places;
    if (possible.length === 0 && first !== undefined) {
      onRefused(`the seed ${textOf(first)}`, `it ${whyNot(first)}`);
    }
    for (const place of possible) {
      if (signal.aborted) return false;
      if (!(await join(place))) continue;
      this.#note(place);
      return true;
    }
    return false;
  }

  #note(place: Endpoint): void {
    if (this.#options.isMember(place)) return;
    this.#elsewhere.set(textOf(place), this.#options.scheduler.monotonic());
  }

  #isJoined(place: Endpoint): boolean {
    const { isMember, hasOthers, scheduler, settings } = this.#options;
    if (isMember(place)) return true;
    const joinedAt = this.#elsewhere.get(textOf(place));
    if (joinedAt === undefined || !hasOthers()) return false;
    return scheduler.monotonic() - joinedAt < ELSEWHERE_INTERVALS * settings.rejoinIntervalMs;
  }

  /** What comes within the time of a stream; else null. */
  async #soon<T>(promise: Promise<T>): Promise<T | null> {
    const { scheduler, settings } = this.#options;
    const late = new AbortController();
    const passed = pause(scheduler, settings.streamTimeoutMs, late.signal);
    try {
      return await Promise.race([promise, passed.then(() => null)]);
    } finally {
      late.abort();
      passed.catch(() => {});
    }
  }
}
