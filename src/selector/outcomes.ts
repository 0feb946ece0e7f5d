/**
 * What is known of nodes from the calls that were made: how busy they are, and which to pass over.
 *
 * Holds: per node the calls in flight and the failures in a row. Invariants: a node that could not be
 * reached is passed over for `baseMs`, doubled with each further failure up to `maxMs`; afterwards
 * one call probes it; an answer, whatever it says, ends that. Bound: a node without calls in flight
 * and without failures is not held; at most `MAX_NODES` are, the oldest leave first.
 * Cost: two map look-ups per call.
 */
import type { Scheduler } from '../util/time/scheduler.ts';
import type { Outcome } from './selector.ts';

const MAX_NODES = 100_000;
const BASE_MS = 1000;
const MAX_MS = 30_000;
/** Timeouts in a row before a node is passed over: one slow call says little. */
const TIMEOUTS = 3;

interface NodeState {
  inFlight: number;
  failures: number;
  timeouts: number;
  /** Monotonic milliseconds until which the node is passed over. */
  until: number;
}

export class Outcomes {
  readonly #scheduler: Scheduler;
  /** By service and node id. */
  readonly #services = new Map<string, Map<string, NodeState>>();
  #size = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  get size(): number {
    return this.#size;
  }

  inFlight(service: string, node: string): number {
    return this.#services.get(service)?.get(node)?.inFlight ?? 0;
  }

  /** Whether calls should go elsewhere for now. */
  isPassedOver(service: string, node: string): boolean {
    const state = this.#services.get(service)?.get(node);
    return state !== undefined && state.until > 0 && state.until > this.#scheduler.monotonic();
  }

  begin(service: string, node: string): void {
    let nodes = this.#services.get(service);
    if (nodes === undefined) {
      nodes = new Map();
      this.#services.set(service, nodes);
    }
    let state = nodes.get(node);
    if (state === undefined) {
      state = { inFlight: 0, failures: 0, timeouts: 0, until: 0 };
      nodes.set(node, state);
      this.#size++;
      this.#shrink();
    } else if (state.failures > 0) {
      // This call is the probe: others go elsewhere until it has ended.
      state.until = Math.max(state.until, this.#scheduler.monotonic() + BASE_MS);
    }
    state.inFlight++;
  }

  end(service: string, node: string, { result }: Outcome): void {
    const nodes = this.#services.get(service);
    const state = nodes?.get(node);
    if (nodes === undefined || state === undefined) return;
    state.inFlight = Math.max(0, state.inFlight - 1);
    if (result === 'ok') {
      state.failures = 0;
      state.timeouts = 0;
      state.until = 0;
    } else if (result !== 'none' && (result === 'unreachable' || ++state.timeouts >= TIMEOUTS)) {
      const wait = Math.min(MAX_MS, BASE_MS * 2 ** Math.min(state.failures, 20));
      state.failures++;
      state.until = this.#scheduler.monotonic() + wait;
    }
    if (state.inFlight === 0 && state.failures === 0 && state.timeouts === 0) {
      nodes.delete(node);
      this.#size--;
      if (nodes.size === 0) this.#services.delete(service);
    }
  }

  reset(service: string): void {
    this.#size -= this.#services.get(service)?.size ?? 0;
    this.#services.delete(service);
  }

  /** Forgets a node of the service that was first called longest ago. */
  #shrink(): void {
    if (this.#size <= MAX_NODES) return;
    for (const [service, nodes] of this.#services) {
      for (const oldest of nodes.keys()) {
        nodes.delete(oldest);
        this.#size--;
        if (nodes.size === 0) this.#services.delete(service);
        return;
      }
    }
  }
}
