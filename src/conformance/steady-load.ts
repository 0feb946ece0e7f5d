/**
 * Steady load for cases of outages: publishers that know what was acknowledged, and checks of it.
 *
 * Invariant: every acknowledged text is checked; where the broker deduplicates, none is stored twice.
 */
import assert from 'node:assert/strict';
import type { Broker } from '../broker/broker.ts';
import type { PublishOptions } from '../broker/options/options.ts';
import { eventually, message, quiet, Seen, text } from './case-context.ts';

/** How long clients may take to recover from an outage. */
export const RECOVERY_MS = 30_000;

/**
 * Publishes until it is stopped, and records what was acknowledged. Uses a `dedupId` where the broker
 * supports it: then a publish that is sent again is stored once.
 */
export function publishSteadily(
  broker: Broker,
  topic: string,
  pauseMs = 2,
  optionsOf: (number: number) => PublishOptions = () => ({}),
) {
  const hasIds = broker.capabilities.dedup !== null;
  const acknowledged: string[] = [];
  const failures: unknown[] = [];
  let stopped = false;
  let number = 0;
  const worker = async () => {
    while (!stopped) {
      const next = number++;
      const each = String(next);
      const options = { ...optionsOf(next), ...(hasIds ? { dedupId: each } : {}) };
      try {
        await broker.publish(topic, message(each), options);
        acknowledged.push(each);
      } catch (error) {
        if ((error as { code?: string }).code === 'CLOSED') return;
        failures.push(error);
      }
      await quiet(pauseMs);
    }
  };
  const workers = Array.from({ length: 10 }, worker);
  return {
    acknowledged,
    failures,
    async stop() {
      stopped = true;
      await Promise.all(workers);
    },
  };
}

export async function allArrive(
  acknowledged: readonly string[],
  seen: Seen<string>,
  waitMs = RECOVERY_MS,
): Promise<void> {
  const expected = new Set(acknowledged);
  const noneMissing = (items: readonly string[]) => {
    for (const each of items.slice(-1000)) expected.delete(each);
    if (expected.size > 0) for (const each of items) expected.delete(each);
    return expected.size === 0;
  };
  try {
    await seen.until(noneMissing, 'acknowledged message left out', waitMs);
  } catch (error) {
    const some = [...expected].slice(0, 10);
    throw new Error(`${expected.size} of ${acknowledged.length} are missing: ${some}`, {
      cause: error,
    });
  }
}

/** Reads the topic from its beginning: every expected message is stored, and none twice. */
export async function storedOnce(broker: Broker, topic: string, expected: readonly string[]) {
  if (broker.capabilities.dedup === null) return;
  const counts = new Map<string, number>();
  const seen = new Seen<string>();
  await broker.subscribe(
    topic,
    (delivery) => {
      const each = text(delivery);
      if (delivery.attempt === 1) counts.set(each, (counts.get(each) ?? 0) + 1);
      seen.add(each);
    },
    { group: 'audit', from: 'earliest', concurrency: 50, maxInFlight: 500 },
  );
  const missing = () => expected.filter((each) => !counts.has(each));
  await eventually('every message is stored', () => missing().length === 0, RECOVERY_MS);
  await quiet(300);
  const twice = [...counts].filter(([, count]) => count > 1).map(([each]) => each);
  assert.deepEqual(twice, [], 'stored twice');
}
