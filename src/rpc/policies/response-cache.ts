/**
 * The response cache: answers of idempotent methods, kept and given to equal calls.
 *
 * Holds: per method at most `maxEntries` answers (default 1 000), the one used longest ago leaves
 * first. Invariants: an answer is given for at most `ttlMs` and only to a call of the same service,
 * endpoint, request and metadata, so that no caller gets what another one's token allowed; what a
 * caller does to an answer, the next does not see; errors are not kept; an answer over 1 MiB is not, nor one that cannot be copied.
 * Cost: one text of the request per call, and a copy of the answer.
 */

import { copyOf } from '../../codec/value.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { AnyMethod } from '../contract.ts';
import type { Metadata } from '../metadata.ts';

const MAX_ENTRIES = 1000;
const MAX_BYTES = 1024 * 1024;
/** What differs between equal calls. */
const PER_CALL: ReadonlySet<string> = new Set([
  'rivulet-attempt',
  'idempotency-key',
  'traceparent',
  'tracestate',
  'micro-trace-id',
  'micro-span-id',
]);

interface Answer {
  readonly value: unknown;
  /** Monotonic milliseconds. */
  readonly until: number;
}

export class ResponseCache {
  readonly #scheduler: Scheduler;
  readonly #methods = new Map<AnyMethod, Map<string, Answer>>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** The key of a call; null where its request has no text form, and nothing is kept. */
  keyOf(service: string, endpoint: string, request: unknown, metadata: Metadata): string | null {
    const pairs = [...metadata].filter(([name]) => !PER_CALL.has(name)).sort();
    try {
      const text = JSON.stringify(request, exactly);
      return JSON.stringify([service, endpoint, pairs, text]);
    } catch {
      return null;
    }
  }

  /** Undefined where nothing is kept; a copy otherwise. */
  get(method: AnyMethod, key: string): { readonly value: unknown } | undefined {
    const answers = this.#methods.get(method);
    const answer = answers?.get(key);
    if (answers === undefined || answer === undefined) return undefined;
    answers.delete(key);
    if (answer.until <= this.#scheduler.monotonic()) return undefined;
    answers.set(key, answer);
    return { value: copyOf(answer.value) };
  }

  set(method: AnyMethod, key: string, value: unknown, bytes: number): void {
    const { cache } = method.options;
    if (cache === undefined || bytes > MAX_BYTES || key.length > MAX_BYTES) return;
    let kept: unknown;
    try {
      kept = copyOf(value);
    } catch {
      // With `local: 'share'` an answer may hold functions.
      return;
    }
    let answers = this.#methods.get(method);
    if (answers === undefined) {
      answers = new Map();
      this.#methods.set(method, answers);
    }
    answers.delete(key);
    answers.set(key, { value: kept, until: this.#scheduler.monotonic() + cache.ttlMs });
    const { maxEntries = MAX_ENTRIES } = cache;
    for (const oldest of answers.keys()) {
      if (answers.size <= maxEntries) break;
      answers.delete(oldest);
    }
  }
}

/** Refuses what JSON would make equal to something else. */
function exactly(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError('not a number');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  throw new TypeError('its JSON form is not all that it is');
}
