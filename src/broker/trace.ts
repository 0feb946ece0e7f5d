/**
 * Trace context across a broker: W3C's traceparent, tracestate and baggage in the message headers.
 *
 * With @opentelemetry/api installed and set up, its propagator writes them at publish and its
 * context is active in handlers. Without it, a handler's publishes carry the trace headers of its
 * message unchanged, as W3C requires of programs that do not take part in a trace.
 * Cost: a message without trace headers costs one property look-up.
 */
import { currentScope, runInScope, withTrace } from './dispatch/scope.ts';

type Headers = Readonly<Record<string, string>>;

export interface Tracing {
  /** The headers of a message, with those of the active trace. */
  inject(headers: Headers): Headers;
  /** Runs a handler within the trace of its message. */
  run<T>(headers: Headers, handler: () => T): T;
  /** Whether OpenTelemetry is set up, which then makes the spans. */
  isActive(): boolean;
}

/** What of @opentelemetry/api is used. */
export interface OpenTelemetry {
  readonly context: {
    active(): object;
    with<T>(context: object, run: () => T): T;
  };
  readonly propagation: {
    /** The headers it writes: none without a propagator. */
    fields(): readonly string[];
    inject(context: object, carrier: Record<string, string>): void;
    extract(context: object, carrier: Headers): object;
  };
}

const TRACE_HEADERS = ['traceparent', 'tracestate', 'baggage'] as const;

export function passthroughTracing(): Tracing {
  return {
    inject(headers) {
      const trace = currentScope()?.trace;
      return trace === undefined || trace === null || headers.traceparent !== undefined
        ? headers
        : { ...headers, ...trace };
    },
    run(headers, handler) {
      if (headers.traceparent === undefined) {
        // A message without a trace must not inherit the trace of the code that published it.
        return (currentScope()?.trace ?? null) === null
          ? handler()
          : runInScope(withTrace(null), handler);
      }
      const trace: Record<string, string> = {};
      for (const name of TRACE_HEADERS) {
        if (headers[name] !== undefined) trace[name] = headers[name];
      }
      return runInScope(withTrace(trace), handler);
    },
    isActive: () => false,
  };
}

/** Without a propagator OpenTelemetry propagates nothing: then headers are passed through. */
export function openTelemetryTracing(api: OpenTelemetry): Tracing {
  const passing = passthroughTracing();
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
    isActive: () => api.propagation.fields().length > 0,
  };
}

let loaded: Promise<Tracing> | undefined;

/** OpenTelemetry's when its API is installed beside this package, else passing on. */
export function loadTracing(): Promise<Tracing> {
  // The name is not a literal so that neither compiler nor bundler asks for the package.
  const name: string = '@opentelemetry/api';
  loaded ??= import(name).then(
    (api: OpenTelemetry) => openTelemetryTracing(api),
    () => passthroughTracing(),
  );
  return loaded;
}
