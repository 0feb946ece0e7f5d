/**
 * /metrics: the server's counters in Prometheus's text format.
 *
 * The counters live where they are counted; this file only writes them down, so the loop pays nothing
 * for them between scrapes. Node's own metrics (process_*, nodejs_*) come from prom-client, loaded at
 * the first scrape.
 * Cardinality is bounded: streams and groups beyond `metrics-series-limit` appear in the totals only.
 */
import type { IntervalHistogram } from 'node:perf_hooks';
import type { Registry } from 'prom-client';
import { metric, type Sample } from '../../util/prometheus-text.ts';
import { HISTOGRAM_BUCKETS } from '../command/command-statistics.ts';
import type { SyncHistogram } from '../persistence.ts';
import type { ServerState } from '../server-state.ts';
import { REDIS_VERSION, RIVULET_VERSION } from '../version.ts';
import { outputBytes } from './client-memory.ts';
import { memoryInUse } from './memory-use.ts';
import { StreamTotals } from './stream-totals.ts';

export async function metricsText(
  server: ServerState,
  loopDelay: IntervalHistogram,
  ready: boolean,
): Promise<string> {
  const out: string[] = [];
  writeServer(out, server, loopDelay, ready);
  writeCommands(out, server);
  await writeStreams(out, server);
  writePersistence(out, server);
  return out.join('') + (await nodeMetrics());
}

function writeServer(
  out: string[],
  server: ServerState,
  loopDelay: IntervalHistogram,
  ready: boolean,
): void {
  const { statistics, engine } = server;
  const one = (value: number): Sample[] => [[{}, value]];
  let blocked = 0;
  let output = 0;
  for (const client of server.connections.values()) {
    if (client.commandWaits) blocked++;
    output += outputBytes(client);
  }
  const { used, rss } = memoryInUse();
  metric(out, 'rivulet_info', 'gauge', 'Versions.', [
    [{ version: RIVULET_VERSION, redis_version: REDIS_VERSION, node: process.version }, 1],
  ]);
  metric(out, 'rivulet_ready', 'gauge', 'Whether /readyz says yes.', one(ready ? 1 : 0));
  const uptime = (server.monotonic() - server.startedMonotonic) / 1000;
  metric(out, 'rivulet_uptime_seconds', 'gauge', 'Since the start.', one(uptime));
  metric(out, 'rivulet_connected_clients', 'gauge', 'Connections.', one(server.connections.size));
  metric(out, 'rivulet_blocked_clients', 'gauge', 'Clients that wait for keys.', one(blocked));
  metric(
    out,
    'rivulet_client_output_bytes',
    'gauge',
    'Replies that clients have not read yet.',
    one(output),
  );
  metric(
    out,
    'rivulet_connections_total',
    'counter',
    'Connections accepted.',
    one(statistics.connections),
  );
  metric(
    out,
    'rivulet_connections_rejected_total',
    'counter',
    'Connections turned away.',
    one(statistics.rejectedConnections),
  );
  metric(out, 'rivulet_input_bytes_total', 'counter', 'Received.', one(statistics.inputBytes));
  metric(out, 'rivulet_output_bytes_total', 'counter', 'Sent.', one(statistics.outputBytes));
  metric(
    out,
    'rivulet_error_replies_total',
    'counter',
    'Replies that were errors, by their code.',
    [...statistics.errors].map(([code, count]) => [{ code }, count]),
  );
  metric(out, 'rivulet_expired_keys_total', 'counter', 'Keys whose time had come.', [
    [{}, engine.statistics.expiredKeys],
  ]);
  metric(
    out,
    'rivulet_background_errors_total',
    'counter',
    'Failures of what no client waits for.',
    one(engine.statistics.troubles),
  );
  metric(
    out,
    'rivulet_delayed_entries_set_aside_total',
    'counter',
    'Delayed entries that could not be added to their stream.',
    one(engine.statistics.setAside),
  );
  metric(
    out,
    'rivulet_damaged_streams',
    'gauge',
    'Streams of which something stored is damaged.',
    one(engine.damaged.count),
  );
  metric(out, 'rivulet_memory_used_bytes', 'gauge', 'Memory in use.', one(used));
  metric(out, 'rivulet_memory_rss_bytes', 'gauge', 'Resident set.', one(rss));
  metric(out, 'rivulet_memory_limit_bytes', 'gauge', 'maxmemory; 0 = no limit.', [
    [{}, server.config.number('maxmemory')],
  ]);
  const delays = [
    ['median', 'Half of the time', loopDelay.percentile(50)],
    ['p99', 'In 99 % of the time', loopDelay.percentile(99)],
    ['max', 'At most', loopDelay.max],
  ] as const;
  for (const [name, share, nanoseconds] of delays) {
    metric(
      out,
      `rivulet_event_loop_delay_${name}_seconds`,
      'gauge',
      `${share} the event loop was late by less than this, in the last seconds.`,
      one(nanoseconds / 1e9),
    );
  }
  metric(
    out,
    'rivulet_database_keys',
    'gauge',
    'Keys of each database that has some.',
    engine.databases.filter((d) => d.size > 0).map((d) => [{ db: String(d.index) }, d.size]),
  );
}

function writeCommands(out: string[], server: ServerState): void {
  const called = server.table.entries.filter(
    ({ statistics: s }) => s.calls + s.rejected + s.failed > 0,
  );
  const counters = [
    ['calls', 'Commands run.'],
    ['rejected', 'Commands refused before they ran.'],
    ['failed', 'Commands that answered an error.'],
  ] as const;
  for (const [field, help] of counters) {
    metric(
      out,
      `rivulet_command_${field}_total`,
      'counter',
      help,
      called.map(({ name, statistics }) => [{ command: name }, statistics[field]]),
    );
  }
  const samples: Sample[] = [];
  for (const { name: command, statistics } of called) {
    let seen = 0;
    // Every second power of two: 1 us, 4 us, ... 16 s.
    for (let i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
      seen += statistics.histogram[i]!;
      if (i % 2 === 0) samples.push([{ command, le: String(2 ** i / 1e6) }, seen, '_bucket']);
    }
    samples.push(
      [{ command, le: '+Inf' }, statistics.calls, '_bucket'],
      [{ command }, statistics.microseconds / 1e6, '_sum'],
      [{ command }, statistics.calls, '_count'],
    );
  }
  metric(out, 'rivulet_command_duration_seconds', 'histogram', 'Run time of commands.', samples);
}

async function writeStreams(out: string[], server: ServerState): Promise<void> {
  const totals = new StreamTotals(server.config.number('metrics-series-limit'));
  await totals.count(server.engine);
  metric(out, 'rivulet_streams', 'gauge', 'Streams.', [[{}, totals.streams]]);
  metric(out, 'rivulet_groups', 'gauge', 'Consumer groups.', [[{}, totals.groups]]);
  metric(out, 'rivulet_consumers', 'gauge', 'Consumers of all groups.', [[{}, totals.consumers]]);
  metric(out, 'rivulet_entries', 'gauge', 'Entries of all streams.', [[{}, totals.entries]]);
  metric(out, 'rivulet_pending', 'gauge', 'Entries delivered and not acknowledged.', [
    [{}, totals.pending],
  ]);
  await manySamples(
    out,
    'rivulet_stream_entries',
    'Entries of a stream (up to metrics-series-limit of them).',
    totals.listed.map(({ labels, length }) => [labels, length]),
  );
  const groups = totals.listed.flatMap((stream) => stream.groups);
  await manySamples(
    out,
    'rivulet_group_pending',
    'Entries delivered to a group and not acknowledged.',
    groups.map(({ labels, pending }) => [labels, pending]),
  );
  await manySamples(
    out,
    'rivulet_group_lag',
    'Entries a group has yet to be delivered; absent where it is not known.',
    groups.flatMap(({ labels, lag }): Sample[] => (lag === null ? [] : [[labels, lag]])),
  );
}

/** A gauge with as many samples as metrics-series-limit allows: between slices others are served. */
async function manySamples(
  out: string[],
  name: string,
  help: string,
  samples: readonly Sample[],
): Promise<void> {
  for (let at = 0; at < samples.length; at += SAMPLES_PER_SLICE) {
    if (at > 0) await new Promise((resolve) => setImmediate(resolve));
    const slice: string[] = [];
    metric(slice, name, 'gauge', help, samples.slice(at, at + SAMPLES_PER_SLICE));
    // The description comes once.
    if (at > 0) slice.shift();
    out.push(...slice);
  }
}

const SAMPLES_PER_SLICE = 1000;

function writePersistence(out: string[], server: ServerState): void {
  const { persistence, engine } = server;
  if (!persistence.enabled) return;
  const { journal } = engine;
  const { status } = persistence;
  metric(out, 'rivulet_log_bytes_total', 'counter', 'Bytes of records appended to the log.', [
    [{}, journal.appended],
  ]);
  metric(out, 'rivulet_log_backlog_bytes', 'gauge', 'Appended and not yet written.', [
    [{}, journal.appended - journal.durable],
  ]);
  metric(out, 'rivulet_log_since_checkpoint_bytes', 'gauge', 'What a restart would replay.', [
    [{}, status.logBytes],
  ]);
  metric(out, 'rivulet_disk_refuses_writes', 'gauge', 'Whether writes are refused now.', [
    [{}, journal.refusal === null ? 0 : 1],
  ]);
  metric(out, 'rivulet_checkpoints_total', 'counter', 'Checkpoints completed.', [
    [{}, status.checkpoints],
  ]);
  metric(out, 'rivulet_checkpoint_seconds', 'gauge', 'How long the last checkpoint took.', [
    [{}, Math.max(0, status.lastCheckpointMs) / 1000],
  ]);
  writeHistogram(out, 'rivulet_sync_duration_seconds', 'Durable writes of the log.', status.syncs);
}

function writeHistogram(out: string[], name: string, help: string, data: SyncHistogram): void {
  let seen = 0;
  const samples: Sample[] = data.bounds.map((bound, i) => {
    seen += data.counts[i] ?? 0;
    return [{ le: String(bound) }, seen, '_bucket'];
  });
  samples.push(
    [{ le: '+Inf' }, data.count, '_bucket'],
    [{}, data.sum, '_sum'],
    [{}, data.count, '_count'],
  );
  metric(out, name, 'histogram', help, samples);
}

let registry: Promise<Registry> | null = null;

/** These walk all connections at each scrape, and half of them are gauges named `_total`. */
const LEFT_OUT = ['handles', 'requests', 'resources'].flatMap((what) => [
  `nodejs_active_${what}`,
  `nodejs_active_${what}_total`,
]);

async function nodeMetrics(): Promise<string> {
  registry ??= import('prom-client').then(({ default: client }) => {
    const own = new client.Registry();
    client.collectDefaultMetrics({ register: own });
    for (const name of LEFT_OUT) own.removeSingleMetric(name);
    return own;
  });
  try {
    return await (await registry).metrics();
  } catch {
    // It could not be loaded, or read (no file descriptor is left): tried again at the next scrape.
    registry = null;
    return '';
  }
}
