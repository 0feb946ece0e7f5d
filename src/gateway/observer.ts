/**
 * What the gateway says of its requests: metrics, and one line for each where that is asked for.
 *
 * Invariants: labels have few values (handler, method, status class), never a path or a name of a
 * client's; a line shows no query, because queries hold secrets. Cost: one counter and one histogram.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Log } from '../rpc/context.ts';

export interface RequestRecord {
  readonly method: string;
  readonly path: string;
  readonly handler: string;
  readonly status: number;
  readonly ms: number;
  readonly client: string;
  readonly account: string;
  readonly traceparent: string;
}

interface Meters {
  readonly requests: Counter.Internal;
  readonly seconds: Histogram.Internal<'handler'>;
}

export class Observer {
  readonly #registry = new Registry();
  readonly #requests: Counter<'handler' | 'method' | 'status'>;
  readonly #seconds: Histogram<'handler'>;
  readonly #meters = new Map<string, Meters>();
  readonly #log: Log | null;

  /** `log` null: no line for each request. */
  constructor(log: Log | null, running: () => number, subscriptions: () => number) {
    this.#log = log;
    const registers = [this.#registry];
    this.#requests = new Counter({
      name: 'micro_api_requests_total',
      help: 'Requests answered',
      labelNames: ['handler', 'method', 'status'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'micro_api_request_duration_seconds',
      help: 'From the request to the end of its answer',
      labelNames: ['handler'],
      buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30],
      registers,
    });
    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read());
        },
      });
    gauge('micro_api_requests_running', 'Requests not answered yet', running);
    gauge('micro_api_subscriptions', 'Clients that read topics', subscriptions);
  }

  note(record: RequestRecord): void {
    const { method, handler, status, ms, path, client, account, traceparent } = record;
    const { requests, seconds } = this.#metersOf(handler, method, Math.floor(status / 100));
    requests.inc();
    seconds.observe(ms / 1000);
    this.#log?.info(
      { method, path, handler, status, ms: Math.round(ms * 10) / 10, client, account, traceparent },
      'request',
    );
  }

  /** Their labels are looked up once for each combination, of which there are few. */
  #metersOf(handler: string, method: string, hundreds: number): Meters {
    const key = `${handler} ${method} ${hundreds}`;
    let meters = this.#meters.get(key);
    if (meters === undefined) {
      meters = {
        requests: this.#requests.labels({ handler, method, status: `${hundreds}xx` }),
        seconds: this.#seconds.labels({ handler }),
      };
      this.#meters.set(key, meters);
    }
    return meters;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
