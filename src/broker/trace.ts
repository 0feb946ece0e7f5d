/**
 * Trace context across a broker: W3C's traceparent, tracestate and baggage in the message headers.
 *
 * With @opentelemetry/api installed and set up, its propagator writes them at publish and its
 * context is active in handlers. Without it, what a message brought is passed on to whatever its
 * handler publishes, unchanged, as W3C asks of those that do not take part.
 * Cost: a message without trace headers costs one property look-up.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

type Headers = Readonly<Record<string, string>>;

export interface Tracing {
  /** The headers to publish with, here and now. */
  inject(headers: Headers): Headers;
  /** Runs a handler within the trace that a message brought. */
  run<T>(headers: Headers, handler: () => T): T;
}

/** What of @opentelemetry/api is used. */
export interface OpenTelemetry {
  readonly context: {
    active(): object;
    with<T>(context: object, run: () => T): T;
  };
  readonly propagation: {
    /** The headers it writes: none where nobody has set a propagator. */
    fields(): readonly string[];
    inject(context: object, carrier: Record<string, string>): void;
    extract(context: object, carrier: Headers): object;
  };
}

const TRACE_HEADERS = ['traceparent', 'tracestate', 'baggage'] as const;

export function passingOn(): Tracing {
  const brought = new AsyncLocalStorage<Headers>();
  return {
    inject(headers) {
      const trace = brought.getStore();
      return trace === undefined || headers.traceparent !== undefined
        ? headers
        : { ...headers, ...trace };
    },
    run(headers, handler) {
      if (headers.traceparent === undefined) {
        // A message without a trace must not inherit one from whoever set the delivery in motion.
        return brought.getStore() === undefined ? handler() : brought.exit(handler);
      }
      const trace: Record<string, string> = {};
      for (const name of TRACE_HEADERS) {
        if (headers[name] !== undefined) trace[name] = headers[name];
      }
      return brought.run(trace, handler);
    },
  };
}

/** Where the API is there and nobody has set it up, it propagates nothing: then passing on remains. */
export function throughOpenTelemetry(api: OpenTelemetry): Tracing {
  const passing = passingOn();
  return {
    inject(headers) {
      if (headers.traceparent !== undefined) return headers;
      if (api.propagation.fields().length === 0) return passing.inject(headers);
      const carrier: Record<string, string> = { ...headers };
      api.propagation.inject(api.context.active(), carrier);
      return carrier.traceparent === undefined ? passing.inject(headers) : carrier;
    },
    run(headers, handler) {
      if (api.propagation.fields().length === 0) return passing.run(headers, handler);
      const extracted = api.propagation.extract(api.context.active(), headers);
      return passing.run(headers, () => api.context.with(extracted, handler));
    },
  };
}

let loaded: Promise<Tracing> | undefined;

/** OpenTelemetry's when its API is installed beside this package, else passing on. */
export function loadTracing(): Promise<Tracing> {
  // The name is not a literal so that neither compiler nor bundler asks for the package.
  const name: string = '@opentelemetry/api';
  loaded ??= import(name).then(
    (api: OpenTelemetry) => throughOpenTelemetry(api),
    () => passingOn(),
  );
  return loaded;
}
