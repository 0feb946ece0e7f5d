/**
 * What a service sees of itself: traces, statistics, its log, and what they are shown as.
 *
 * Invariants: every call that is handled or made, and every message, is counted once and has one span;
 * Debug's own endpoints are neither counted nor traced; the access log is written only where it was
 * asked for. Cost: see rpc/seen.
 */
import type { Broker, Delivery } from '../../broker/broker.ts';
import { observePublishes } from '../../broker/dispatch/publish-observers.ts';
import { RivuletError } from '../../errors.ts';
import type { Log } from '../../rpc/context.ts';
import { type DebugSources, debugHandlers } from '../../rpc/seen/debug.ts';
import { LogRing } from '../../rpc/seen/log-ring.ts';
import { Tracer } from '../../rpc/seen/spans.ts';
import { Statistics } from '../../rpc/seen/statistics.ts';
import type { ServerOptions } from '../../rpc/server.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { countGarbageCollection, processFacts } from './process-facts.ts';
import { messageOf, publishObserver, recordSettlement } from './recorded-work.ts';
import { SPANS_TOPIC } from './span-entry.ts';
import { SpanStore, type SpanStoreSetup } from './span-store.ts';

export interface ObservationSetup {
  readonly scheduler: Scheduler;
  /** Null: the log is kept in this process only. */
  readonly behind: Log | null;
  readonly writesAccess: boolean;
  /** A share of 0 stores no spans. */
  readonly trace: Pick<SpanStoreSetup, 'share' | 'maxQueued' | 'service' | 'node'>;
}

export class Observation {
  readonly tracer: Tracer;
  readonly statistics = new Statistics();
  readonly log: LogRing;
  /** Null while the broker is connected. */
  brokerError: Error | null = null;
  /** Null while the registry takes the registration. */
  registryError: Error | null = null;
  /** Null where spans are kept in this process only. */
  readonly spanStore: SpanStore | null;
  readonly #scheduler: Scheduler;
  readonly #writesAccess: boolean;
  readonly #startedAt: number;
  readonly #since: number;

  constructor({ scheduler, behind, writesAccess, trace }: ObservationSetup) {
    this.#scheduler = scheduler;
    this.#writesAccess = writesAccess;
    this.tracer = new Tracer(scheduler);
    this.log = new LogRing(scheduler, behind);
    const warn = (error: unknown): void =>
      this.log.warn({ error, topic: SPANS_TOPIC }, 'spans cannot be stored: they are dropped');
    this.spanStore = trace.share > 0 ? new SpanStore({ scheduler, warn, ...trace }) : null;
    this.tracer.sink = this.spanStore?.add ?? null;
    if (this.spanStore !== null) this.tracer.isFull = this.spanStore.isFull;
    this.#startedAt = scheduler.now();
    this.#since = scheduler.monotonic();
    countGarbageCollection();
  }

  /** For the server of the service. */
  get server(): Required<Pick<ServerOptions, 'tracer' | 'onCall' | 'log'>> {
    return {
      tracer: this.tracer,
      log: (endpoint, trace) => this.log.child(trace === '' ? { endpoint } : { endpoint, trace }),
      onCall: ({ endpoint, peer, ms, error }) => {
        this.statistics.observe('server', '', endpoint, ms, error);
        if (!this.#writesAccess) return;
        const code = error === null ? 'ok' : error instanceof RivuletError ? error.code : 'FAILED';
        this.log.info({ endpoint, peer, ms: Math.round(ms * 1000) / 1000, code }, 'call');
      },
    };
  }

  /** For its client. */
  readonly onCall = (service: string, endpoint: string, ms: number, error: unknown): void => {
    this.statistics.observe('client', service, endpoint, ms, error);
  };

  /** Runs the handler of a message within its span. */
  message(
    delivery: Delivery,
    { topic, queue }: { readonly topic: string; readonly queue: string | null },
    handler: () => unknown,
  ): Promise<unknown> {
    const { headers } = delivery.message;
    const span = this.tracer.begin(`topic ${delivery.topic}`, headers?.traceparent);
    const about = messageOf(delivery, queue);
    let failure: unknown = null;
    const handlerEnded = recordSettlement(this.tracer, span, delivery, about, () => failure);
    const end = (error: unknown) => {
      failure = error;
      this.tracer.end(span, error, undefined, 'deliver', about);
      handlerEnded();
      const ms = this.#scheduler.monotonic() - span.since;
      this.statistics.observe('subscriber', '', topic, ms, error);
    };
    return this.tracer.run(span, headers ?? {}, async () => {
      try {
        const result = await handler();
        end(null);
        return result;
      } catch (error) {
        end(error);
        throw error;
      }
    });
  }

  /** Notes what would otherwise be silent; the returned function ends that. */
  watchBroker(broker: Broker): () => void {
    this.brokerError = null;
    const stops = [
      broker.on('disconnected', ({ cause }) => {
        this.brokerError = cause;
        this.log.warn({ broker: broker.address, error: cause }, 'the broker is not connected');
      }),
      broker.on('connected', () => {
        this.brokerError = null;
      }),
      broker.on('groupLost', (lost) => this.log.warn(lost, 'a group was lost and made again')),
      broker.on('handlerError', ({ topic, id, attempt, error }) =>
        this.log.warn({ topic, id, attempt: String(attempt), error }, 'a handler failed'),
      ),
      broker.on('deadLettered', (letter) => this.log.warn(letter, 'a message is a dead letter')),
      broker.on('warning', ({ error }) => this.log.warn({ error }, 'the broker warns')),
    ];
    if (this.spanStore !== null) {
      stops.push(this.spanStore.attach(broker));
      stops.push(observePublishes(broker, publishObserver(this.tracer)));
    }
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Notes the state of the registration. */
  readonly onRegistration = (error: Error | null): void => {
    this.registryError = error;
    if (error === null) this.log.info('registered again');
    else this.log.warn({ error }, 'the service is not registered');
  };

  debugHandlers(ailments: () => readonly string[]) {
    const sources: DebugSources = {
      ailments,
      log: this.log,
      spans: (trace) => this.tracer.spans(trace),
      stats: () => {
        const { memory, threads, gcNs } = processFacts();
        return {
          timestamp: this.#scheduler.now() / 1000,
          started: this.#startedAt / 1000,
          uptime: (this.#scheduler.monotonic() - this.#since) / 1000,
          memory,
          threads,
          gc: gcNs,
          ...this.statistics.totals,
        };
      },
    };
    return debugHandlers(sources);
  }
}
