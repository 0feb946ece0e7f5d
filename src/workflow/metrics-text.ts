/**
 * The metrics of workflows in Prometheus's text format.
 *
 * What this worker has done comes from its counters; how many instances run, are parked or wait for a
 * worker comes from the broker, as it was when it was last asked.
 * Bound: a row for each workflow that this worker knows, and one for each of its versions that wait.
 */
import { type Labels, metric, type Sample } from '../util/prometheus-text.ts';
import type { WorkflowCounts } from './journal/listing.ts';
import type { Times, WorkflowMetrics } from './metrics.ts';

export interface WorkflowMetricsSources {
  readonly labels: Labels;
  readonly metrics: WorkflowMetrics;
  /** Null where the broker could not be asked. */
  readonly counts: readonly WorkflowCounts[] | null;
  /** Unix ms. */
  readonly now: number;
}

export function workflowMetricsText({
  labels,
  metrics,
  counts,
  now,
}: WorkflowMetricsSources): string {
  const out: string[] = [];
  const gauge = (name: string, help: string, samples: readonly Sample[]) =>
    metric(out, `micro_workflow_${name}`, 'gauge', help, samples);
  const each = (value: (counts: WorkflowCounts) => number): Sample[] =>
    (counts ?? []).map((row) => [{ ...labels, workflow: row.name }, value(row)]);
  gauge(
    'running',
    'Instances that have begun and not ended.',
    each(({ running }) => running),
  );
  gauge(
    'parked',
    'Instances that need a person.',
    each(({ parked }) => parked),
  );
  gauge(
    'oldest_parked_seconds',
    'Since when the longest parked instance is parked; 0 where none is.',
    each(({ oldestParkedAt }) =>
      oldestParkedAt === undefined ? 0 : Math.max(0, (now - oldestParkedAt.getTime()) / 1000),
    ),
  );
  gauge(
    'waiting_tasks',
    'Tasks that no worker has taken, by version.',
    (counts ?? []).flatMap(({ name, waiting }) =>
      waiting.map(({ version, tasks }): Sample => {
        return [{ ...labels, workflow: name, version: String(version) }, tasks];
      }),
    ),
  );
  gauge('awake', 'Instances that this worker runs now.', [[labels, metrics.awake]]);
  const stops = Object.entries(metrics.stopped).map(
    ([as, count]): Sample => [{ ...labels, as }, count],
  );
  const help = 'Instances on which this worker ended its work, and how.';
  metric(out, 'micro_workflow_stopped_total', 'counter', help, stops);
  metric(out, 'micro_workflow_failed_steps_total', 'counter', 'Attempts of steps that failed.', [
    [labels, metrics.failedSteps],
  ]);
  metric(out, 'micro_workflow_replayed_records_total', 'counter', 'Records that were replayed.', [
    [labels, metrics.replayedRecords],
  ]);
  histogram(out, 'step_seconds', 'Durations of attempts of steps.', labels, metrics.steps);
  histogram(out, 'replay_seconds', 'Durations of replays.', labels, metrics.replays);
  histogram(
    out,
    'wake_lag_seconds',
    'From the time at which an instance was to wake to the time at which a worker took it up.',
    labels,
    metrics.wakeLag,
  );
  return out.join('');
}

function histogram(out: string[], name: string, help: string, labels: Labels, times: Times): void {
  const samples = Object.entries(times.buckets).map(([bound, count]): Sample => {
    return [{ ...labels, le: String(Number(bound) / 1000) }, count, '_bucket'];
  });
  metric(out, `micro_workflow_${name}`, 'histogram', help, [
    ...samples,
    [{ ...labels, le: '+Inf' }, times.count, '_bucket'],
    [labels, times.sumMs / 1000, '_sum'],
    [labels, times.count, '_count'],
  ]);
}
