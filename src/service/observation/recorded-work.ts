/**
 * Which work of a service becomes spans beyond its calls: publishes, deliveries and how they were settled,
 * steps of workflows.
 *
 * Invariants: what a handler, a step or a publish causes is a child of its span; topics of Rivulet's own
 * are not recorded; where OpenTelemetry is set up, publishes are its own.
 */
import { createHash } from 'node:crypto';
import type { Delivery } from '../../broker/broker.ts';
import { onDeliveryEnd } from '../../broker/dispatch/delivery.ts';
import type { PublishObserver, PublishWatch } from '../../broker/dispatch/publish-observers.ts';
import type { OpenSpan, SpanMessage, Tracer } from '../../rpc/seen/spans.ts';
import type { StepFacts } from '../../workflow/execution/host.ts';

export function publishObserver(tracer: Tracer): PublishObserver {
  return {
    made: (traceparent) => tracer.made(traceparent),
    publish(topic): PublishWatch | null {
      if (isOwn(topic) || tracer.isReplaced) return null;
      const { span, trace } = tracer.beginWithin(topic);
      const end = (error: unknown, message?: string): void => {
        const about = message === undefined ? { topic } : { topic, message };
        tracer.end(span, error, undefined, 'publish', about);
      };
      return {
        trace,
        // Of a batch the span is about all messages, not about one.
        stored: (receipts) => end(null, receipts.length === 1 ? receipts[0]?.id : undefined),
        failed: (error) => end(error),
      };
    },
  };
}

/** `rivulet.registry`, `_rivulet.spans`. */
function isOwn(topic: string): boolean {
  return topic.startsWith('rivulet.') || topic.startsWith('_rivulet.');
}

export function messageOf({ topic, id, attempt }: Delivery, group: string | null): SpanMessage {
  return { topic, message: id, attempt, ...(group === null ? {} : { group }) };
}

/**
 * Records how the delivery is settled, as a child of its handler's span. The returned function is called
 * when the handler has ended: from then on the settlement takes time.
 */
export function recordSettlement(
  tracer: Tracer,
  handled: OpenSpan,
  delivery: Delivery,
  about: SpanMessage,
  reason: () => unknown,
): () => void {
  if (tracer.sink === null) return () => {};
  let span: OpenSpan | null = null;
  const begin = (): OpenSpan => {
    span ??= tracer.begin(delivery.topic, `00-${handled.trace}-${handled.id}-01`);
    return span;
  };
  const isWatched = onDeliveryEnd(delivery, (as) => {
    const settled = begin();
    settled.name = `${delivery.topic}: ${SETTLED[as]}`;
    // Of a dead letter the reason is what is asked for first.
    const error = as === 'dead letter' || as === 'lost' ? (reason() ?? SETTLED[as]) : null;
    tracer.end(settled, error, undefined, 'settle', about);
  });
  return () => {
    if (isWatched) begin();
  };
}

/** What the name of a settlement's span says behind its topic. */
export const SETTLED = {
  ack: 'acknowledged',
  nack: 'given back',
  'dead letter': 'dead letter',
  lost: 'lost to another consumer',
} as const;

/** Runs a step of a workflow within its span. */
export function recordStep(tracer: Tracer, step: StepFacts, run: () => unknown): unknown {
  if (tracer.sink === null) return run();
  const instance = `${step.workflow}/${step.id}`;
  const headers = { traceparent: step.traceparent ?? traceparentOf(instance) };
  const span = tracer.begin(`${instance} ${step.name}`, headers.traceparent);
  const end = (error: unknown): void =>
    tracer.end(span, error, undefined, 'step', { attempt: step.attempt });
  try {
    const result = tracer.run(span, headers, run);
    if (!isPromise(result)) {
      end(null);
      return result;
    }
    result.then(
      () => end(null),
      (error) => end(error ?? 'failed'),
    );
    return result;
  } catch (error) {
    end(error ?? 'failed');
    throw error;
  }
}

/** All steps of an instance that no message caused have one trace, whichever workers run them. */
function traceparentOf(instance: string): string {
  const digits = createHash('sha256').update(instance).digest('hex');
  return `00-${digits.slice(0, 32)}-${digits.slice(32, 48)}-01`;
}

function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as Promise<unknown> | undefined)?.then === 'function';
}
