/**
 * The circuit breaker: no calls to a node that does not answer, until one call has shown that it does.
 *
 * Holds: per node the calls and failures of the last `windowMs`. Invariants: a node is cut off after
 * `failures` failures in the window when they are at least half of its calls; after `openMs` one call
 * probes it and the others stay away until that call has ended or answered, at most for `openMs`: then
 * another one probes it; a success of a probe closes the circuit, a failure opens it again for as long. What counts is whether the node answers: an error that
 * a handler threw is an answer. Bound: `MAX_NODES` nodes, the one used longest ago is forgotten first.
 * Cost: one map look-up per call.
 */
import {
  checkOptions,
  count,
  invalid,
  type OptionTable,
  shown,
  timeout,
} from '../../client/option-table.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

export interface BreakerOptions {
  /** Failures in the window that open the circuit, where they are half of the calls or more. Default 5. */
  readonly failures?: number;
  /** Default 10 000. */
  readonly windowMs?: number;
  /** How long the node is left alone. Default 5 000. */
  readonly openMs?: number;
  /** Whether an error that the node answered counts too. Default: none does. */
  readonly isFailure?: (error: unknown) => boolean;
}

export const breakerTable: OptionTable = {
  failures: count(1, 1_000_000),
  windowMs: timeout(),
  openMs: timeout(),
  isFailure: {
    kind: 'other',
    check: (value, name) => {
      if (typeof value !== 'function') throw invalid(`${name} is a function, not ${shown(value)}`);
    },
  },
};

const MAX_NODES = 10_000;
/** The window moves in steps of a tenth. */
const STEPS = 10;

interface Circuit {
  readonly calls: number[];
  readonly failures: number[];
  step: number;
  /** Monotonic milliseconds until which no call is let through; 0 when closed. */
  openUntil: number;
  /** Probes that have not ended. */
  probes: number;
  /** Monotonic milliseconds until which the newest probe keeps others away. */
  probeUntil: number;
}

export type CircuitState = 'closed' | 'open' | 'half-open';

export class Breaker {
  readonly isFailure: (error: unknown) => boolean;
  readonly #scheduler: Scheduler;
  readonly #failures: number;
  readonly #stepMs: number;
  readonly #openMs: number;
  readonly #circuits = new Map<string, Circuit>();

  constructor(scheduler: Scheduler, options: BreakerOptions = {}) {
    checkOptions(breakerTable, options, 'breaker.');
    this.#scheduler = scheduler;
    this.#failures = options.failures ?? 5;
    this.#stepMs = (options.windowMs ?? 10_000) / STEPS;
    this.#openMs = options.openMs ?? 5000;
    this.isFailure = options.isFailure ?? (() => false);
  }

  get size(): number {
    return this.#circuits.size;
  }

  state(node: string): CircuitState {
    const circuit = this.#circuits.get(node);
    if (circuit === undefined || circuit.openUntil === 0) return 'closed';
    return circuit.openUntil > this.#scheduler.monotonic() ? 'open' : 'half-open';
  }

  /** Whether a call may go to the node; a true answer while half-open makes that call the probe. */
  admit(node: string): boolean {
    const circuit = this.#circuits.get(node);
    if (circuit === undefined || circuit.openUntil === 0) return true;
    const now = this.#scheduler.monotonic();
    if (circuit.openUntil > now || circuit.probeUntil > now) return false;
    circuit.probes++;
    circuit.probeUntil = now + this.#openMs;
    return true;
  }

  /** Milliseconds until the node may be probed; 0 when it may now. */
  retryAfterMs(node: string): number {
    const { openUntil = 0, probeUntil = 0 } = this.#circuits.get(node) ?? {};
    return Math.max(0, Math.max(openUntil, probeUntil) - this.#scheduler.monotonic());
  }

  /** Whether the call that `admit` would let through now is the probe. */
  isProbe(node: string): boolean {
    const circuit = this.#circuits.get(node);
    return circuit !== undefined && circuit.openUntil !== 0;
  }

  /**
   * How an admitted call ended; once each. `null`: it says nothing, as when its caller left. A call that
   * began before the circuit opened is no probe (`wasProbe` false), and does not decide for it.
   */
  end(node: string, isFailure: boolean | null, wasProbe = true): void {
    let circuit = this.#circuits.get(node);
    if (circuit === undefined) {
      // A node that never failed is not held.
      if (isFailure !== true) return;
      circuit = this.#add(node);
    }
    if (circuit.openUntil !== 0) {
      if (circuit.probes === 0 || !wasProbe) return;
      circuit.probes--;
      circuit.probeUntil = 0;
      if (isFailure === true) circuit.openUntil = this.#scheduler.monotonic() + this.#openMs;
      else if (isFailure === false) this.#circuits.delete(node);
      return;
    }
    if (isFailure === null) return;
    this.#turn(circuit);
    const slot = circuit.step % STEPS;
    circuit.calls[slot]!++;
    if (!isFailure) return;
    circuit.failures[slot]!++;
    const failures = sum(circuit.failures);
    if (failures < this.#failures || failures * 2 < sum(circuit.calls)) return;
    circuit.openUntil = this.#scheduler.monotonic() + this.#openMs;
  }

  #add(node: string): Circuit {
    const circuit: Circuit = {
      calls: new Array<number>(STEPS).fill(0),
      failures: new Array<number>(STEPS).fill(0),
      step: this.#step(),
      openUntil: 0,
      probes: 0,
      probeUntil: 0,
    };
    this.#circuits.set(node, circuit);
    if (this.#circuits.size > MAX_NODES) {
      for (const oldest of this.#circuits.keys()) {
        this.#circuits.delete(oldest);
        break;
      }
    }
    return circuit;
  }

  #step(): number {
    return Math.floor(this.#scheduler.monotonic() / this.#stepMs);
  }

  #turn(circuit: Circuit): void {
    const now = this.#step();
    for (let passed = 1; passed <= Math.min(STEPS, now - circuit.step); passed++) {
      const slot = (circuit.step + passed) % STEPS;
      circuit.calls[slot] = 0;
      circuit.failures[slot] = 0;
    }
    circuit.step = now;
  }
}

function sum(counts: readonly number[]): number {
  let all = 0;
  for (const each of counts) all += each;
  return all;
}
