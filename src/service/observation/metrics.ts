/**
 * The metrics of a service in Prometheus's text format, with go-micro's names and labels.
 *
 * The counters are in rpc/seen/statistics.ts; this file writes them as text, so a
 * call pays nothing for them between scrapes. Bound: the rows of the statistics.
 */
import { BUCKETS, type Side, type StatisticsRow } from '../../rpc/seen/statistics.ts';
import { type Labels, metric, type Sample } from '../../util/prometheus-text.ts';
import type { SubscriptionState } from '../subscriptions.ts';
import type { ServiceHealth } from './health.ts';

export interface MetricsSources {
  readonly labels: { readonly name: string; readonly version: string; readonly id: string };
  readonly rows: readonly StatisticsRow[];
  readonly running: number;
  readonly health: ServiceHealth;
  /** Null where no spans are stored. */
  readonly spansDropped: number | null;
  readonly subscriptions: readonly SubscriptionState[];
}

const PREFIX: Record<Side, string> = {
  server: 'micro',
  client: 'micro_client',
  subscriber: 'micro_subscriber',
};
const HELP: Record<Side, string> = {
  server: 'calls that were handled',
  client: 'calls that were made',
  subscriber: 'messages that were handled',
};

export function metricsText(sources: MetricsSources): string {
  const { name, version, id } = sources.labels;
  const own: Labels = { micro_name: name, micro_version: version, micro_id: id };
  const out: string[] = [];
  for (const side of ['server', 'client', 'subscriber'] as const) {
    const rows = sources.rows.filter((row) => row.side === side);
    const prefix = PREFIX[side];
    const help = HELP[side];
    metric(out, `${prefix}_request_total`, 'counter', `Count of ${help}.`, totals(rows, own));
    const durations = rows.flatMap((row) => histogram(row, labelsOf(row, own)));
    const seconds = `${prefix}_request_duration_seconds`;
    metric(out, seconds, 'histogram', `Durations of ${help}.`, durations);
  }
  metric(out, 'micro_calls_running', 'gauge', 'Calls that have not ended.', [
    [own, sources.running],
  ]);
  metric(out, 'micro_ready', 'gauge', '1 when the service is ready.', [
    [own, sources.health.ready ? 1 : 0],
  ]);
  if (sources.spansDropped !== null) {
    const help = 'Spans that were not stored: the queue was full, or the broker refused them.';
    metric(out, 'micro_spans_dropped_total', 'counter', help, [[own, sources.spansDropped]]);
  }
  const handlers = sources.subscriptions.map((state): Sample => {
    const labels = { ...own, topic: state.topic, queue: state.queue ?? '' };
    return [labels, state.running];
  });
  metric(out, 'micro_subscriber_running', 'gauge', 'Handlers of messages that run.', handlers);
  return out.join('');
}

function labelsOf({ side, service, endpoint }: StatisticsRow, own: Labels): Labels {
  if (side === 'subscriber') return { ...own, micro_topic: endpoint };
  return side === 'client'
    ? { ...own, micro_service: service, micro_endpoint: endpoint }
    : { ...own, micro_endpoint: endpoint };
}

function totals(rows: readonly StatisticsRow[], own: Labels): Sample[] {
  return rows.flatMap((row) =>
    [...row.outcomes].map(([outcome, count]): Sample => {
      const micro_status = outcome === 'success' ? 'success' : 'failure';
      const code = outcome === 'success' ? '' : outcome;
      return [{ ...labelsOf(row, own), micro_status, code }, count];
    }),
  );
}

function histogram(row: StatisticsRow, labels: Labels): Sample[] {
  let below = 0;
  const samples = BUCKETS.map((bound, index): Sample => {
    below += row.buckets[index] as number;
    return [{ ...labels, le: String(bound) }, below, '_bucket'];
  });
  return [
    ...samples,
    [{ ...labels, le: '+Inf' }, row.count, '_bucket'],
    [labels, row.seconds, '_sum'],
    [labels, row.count, '_count'],
  ];
}
