/**
 * The health of a service: does it live, is it ready, and does it still consume.
 *
 * Invariants: `live` is about the process alone, so that a broker that is down restarts no process; `ready`
 * is false before the start, while it stops, and while anything it needs is away; a registry that went
 * away after the registration does not make it unready, because callers that know it still call it; a
 * subscription whose handlers are all stuck longer than the acknowledgement may take has stopped.
 * Cost: computed when asked for.
 */
import type { SubscriptionState } from '../subscriptions.ts';

export interface ServiceHealth {
  readonly status: 'ok' | 'failing';
  readonly live: boolean;
  readonly ready: boolean;
  /** Why it is not ready; empty when it is. */
  readonly reasons: readonly string[];
}

export interface HealthFacts {
  readonly isStarted: boolean;
  readonly isStopping: boolean;
  /** Null where there is nothing to register. */
  readonly isRegistered: boolean | null;
  readonly registryError: Error | null;
  /** Null while the broker is connected, or where there is none. */
  readonly brokerError: Error | null;
  readonly subscriptions: readonly SubscriptionState[];
}

export function healthOf(facts: HealthFacts): ServiceHealth {
  const reasons = reasonsOf(facts);
  const ready = reasons.length === 0;
  return { status: ready ? 'ok' : 'failing', live: true, ready, reasons };
}

function reasonsOf(facts: HealthFacts): string[] {
  const reasons: string[] = [];
  if (facts.isStopping) reasons.push('the service is stopping');
  else if (!facts.isStarted) reasons.push('the service has not started');
  if (facts.isStarted && !facts.isStopping && facts.isRegistered === false) {
    const why = facts.registryError === null ? '' : `: ${facts.registryError.message}`;
    reasons.push(`the service is not registered${why}`);
  }
  if (facts.brokerError !== null) {
    reasons.push(`the broker is not connected: ${facts.brokerError.message}`);
  }
  for (const { topic, queue, error, stalledMs, ackWaitMs, running } of facts.subscriptions) {
    const what = `consumption of ${topic}${queue === null ? '' : ` by ${queue}`}`;
    if (error !== null) reasons.push(`${what} was refused: ${error.message}`);
    else if (stalledMs > ackWaitMs) {
      reasons.push(
        `${what} has stopped: ${running} handlers run and none has ended for ${Math.round(stalledMs)} ms`,
      );
    }
  }
  return reasons;
}
