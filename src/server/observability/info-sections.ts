/**
 * The sections of INFO, with Redis's names and fields; what is ours begins with `rivulet_`.
 *
 * Fields that describe what we do not have (replicas, scripts, jemalloc) are there, with the value a
 * Redis without them shows, because monitoring tools look them up by name.
 */
import { arch, cpus, release, totalmem, type } from 'node:os';
import type { ClientView } from '../connection/client-view.ts';
import type { ServerState } from '../server-state.ts';
import { REDIS_VERSION, RIVULET_VERSION } from '../version.ts';
import { outputBytes } from './client-memory.ts';
import { memoryOverhead } from './memory-overhead.ts';

type Field = readonly [name: string, value: string | number];
type Section = (server: ServerState) => Field[];

/** The text for these section names; none = the default ones. */
export function infoText(server: ServerState, wanted: readonly string[]): string {
  return sectionNames(wanted)
    .map((name) => {
      const title = `# ${name[0]!.toUpperCase()}${name.slice(1)}\r\n`;
      const upper = name === 'cpu' ? '# CPU\r\n' : title;
      return (
        upper +
        SECTIONS[name]!(server)
          .map(([key, value]) => `${key}:${value}\r\n`)
          .join('')
      );
    })
    .join('\r\n');
}

/** Whether the text shows how many keys there are: then it may show what is not on disk. */
export function infoShowsKeys(server: ServerState, wanted: readonly string[]): boolean {
  const { stalledSince } = server.persistence.status;
  return stalledSince === 0 && sectionNames(wanted).includes('keyspace');
}

function sectionNames(wanted: readonly string[]): string[] {
  const names = new Set(wanted.length === 0 ? ['default'] : wanted);
  const everything = names.has('everything');
  const all = everything || names.has('all');
  return Object.keys(SECTIONS).filter((name) => {
    if (names.has(name) || everything) return true;
    if (all) return name !== 'modules';
    return names.has('default') && !NOT_BY_DEFAULT.has(name);
  });
}

const NOT_BY_DEFAULT = new Set(['commandstats', 'latencystats']);

const SECTIONS: Record<string, Section> = {
  server: serverSection,
  clients: clientsSection,
  memory: memorySection,
  persistence: persistenceSection,
  stats: statsSection,
  replication: replicationSection,
  cpu: cpuSection,
  modules: () => [],
  commandstats: commandSection,
  errorstats: (server) =>
    [...server.statistics.errors].map(([code, count]) => [`errorstat_${code}`, `count=${count}`]),
  latencystats: latencySection,
  cluster: () => [['cluster_enabled', 0]],
  keyspace: keyspaceSection,
};

function serverSection(server: ServerState): Field[] {
  const now = server.engine.clock.now();
  const uptime = Math.floor((server.monotonic() - server.startedMonotonic) / 1000);
  return [
    ['redis_version', REDIS_VERSION],
    ['rivulet_version', RIVULET_VERSION],
    ['redis_git_sha1', '00000000'],
    ['redis_git_dirty', 0],
    ['redis_build_id', '0'],
    ['redis_mode', 'standalone'],
    ['os', `${type()} ${release()} ${arch()}`],
    ['arch_bits', 64],
    ['monotonic_clock', 'POSIX clock_gettime'],
    ['multiplexing_api', 'libuv'],
    ['node_version', process.version],
    ['process_id', process.pid],
    ['process_supervised', 'no'],
    ['run_id', server.runId],
    ['tcp_port', server.config.number('port')],
    ['server_time_usec', `${now}000`],
    ['uptime_in_seconds', uptime],
    ['uptime_in_days', Math.floor(uptime / 86400)],
    ['hz', server.config.number('hz')],
    ['configured_hz', server.config.number('hz')],
    ['lru_clock', Math.floor(now / 1000) % 2 ** 24],
    ['executable', process.execPath],
    ['config_file', server.config.file],
    ['io_threads_active', 0],
  ];
}

function clientsSection(server: ServerState): Field[] {
  let input = 0;
  let output = 0;
  let blocked = 0;
  let pubsub = 0;
  let watching = 0;
  for (const client of server.connections.values()) {
    input = Math.max(input, client.inputHeld);
    output = Math.max(output, outputBytes(client));
    if (client.commandWaits) blocked++;
    if (client.listening) pubsub++;
    if ((client.transaction?.watched ?? 0) > 0) watching++;
  }
  return [
    ['connected_clients', server.connections.size],
    ['cluster_connections', 0],
    ['maxclients', server.config.number('maxclients')],
    ['client_recent_max_input_buffer', input],
    ['client_recent_max_output_buffer', output],
    ['blocked_clients', blocked],
    ['tracking_clients', 0],
    ['pubsub_clients', pubsub],
    ['watching_clients', watching],
    ['clients_in_timeout_table', 0],
    ['total_watched_keys', sum(server, (client) => client.transaction?.watched ?? 0)],
    ['total_blocking_keys', server.engine.blocked.keyCount],
    ['total_blocking_keys_on_nokey', 0],
  ];
}

function sum(server: ServerState, of: (client: ClientView) => number): number {
  let total = 0;
  for (const client of server.connections.values()) total += of(client);
  return total;
}

function memorySection(server: ServerState): Field[] {
  const { used, rss, heap, heapTotal } = server.memory.report();
  const peak = Math.max(server.statistics.peakMemory, used);
  const limit = server.config.number('maxmemory');
  const { clients, log, total: overhead } = memoryOverhead(server);
  const data = Math.max(0, used - overhead);
  return [
    ['used_memory', used],
    ['used_memory_human', human(used)],
    ['used_memory_rss', rss],
    ['used_memory_rss_human', human(rss)],
    ['used_memory_peak', peak],
    ['used_memory_peak_human', human(peak)],
    ['used_memory_peak_perc', `${((100 * used) / peak).toFixed(2)}%`],
    ['used_memory_overhead', overhead],
    ['used_memory_startup', server.startMemory],
    ['used_memory_dataset', data],
    [
      'used_memory_dataset_perc',
      `${((100 * data) / Math.max(1, used - server.startMemory)).toFixed(2)}%`,
    ],
    ['allocator_allocated', used],
    ['allocator_active', heapTotal + (used - heap)],
    ['allocator_resident', rss],
    ['total_system_memory', totalmem()],
    ['total_system_memory_human', human(totalmem())],
    ['used_memory_lua', 0],
    ['used_memory_vm_eval', 0],
    ['used_memory_lua_human', '0B'],
    ['used_memory_scripts_eval', 0],
    ['number_of_cached_scripts', 0],
    ['number_of_functions', 0],
    ['number_of_libraries', 0],
    ['used_memory_vm_functions', 0],
    ['used_memory_vm_total', 0],
    ['used_memory_functions', 0],
    ['used_memory_scripts', 0],
    ['used_memory_scripts_human', '0B'],
    ['maxmemory', limit],
    ['maxmemory_human', human(limit)],
    ['maxmemory_policy', server.config.get('maxmemory-policy')],
    ['allocator_frag_ratio', ((heapTotal + used - heap) / used).toFixed(2)],
    ['allocator_frag_bytes', heapTotal - heap],
    ['mem_fragmentation_ratio', (rss / used).toFixed(2)],
    ['mem_fragmentation_bytes', rss - used],
    ['mem_not_counted_for_evict', 0],
    ['mem_replication_backlog', 0],
    ['mem_total_replication_buffers', 0],
    ['mem_clients_slaves', 0],
    ['mem_clients_normal', clients],
    ['mem_cluster_links', 0],
    ['mem_aof_buffer', log],
    ['mem_allocator', 'v8'],
    ['active_defrag_running', 0],
    ['lazyfree_pending_objects', 0],
    ['lazyfreed_objects', 0],
  ];
}

function persistenceSection(server: ServerState): Field[] {
  const { persistence, engine } = server;
  const { status } = persistence;
  const ok = (failed: boolean) => (failed ? 'err' : 'ok');
  const fields: Field[] = [
    ['loading', 0],
    ['async_loading', 0],
    ['current_cow_peak', 0],
    ['current_cow_size', 0],
    ['current_cow_size_age', 0],
    ['current_fork_perc', '0.00'],
    ['current_save_keys_processed', 0],
    ['current_save_keys_total', 0],
    ['rdb_changes_since_last_save', engine.changes - engine.savedChanges],
    ['rdb_bgsave_in_progress', status.checkpointing ? 1 : 0],
    ['rdb_last_save_time', Math.floor(status.lastCheckpointAt / 1000)],
    ['rdb_last_bgsave_status', ok(status.lastCheckpointFailed)],
    ['rdb_last_bgsave_time_sec', seconds(status.lastCheckpointMs)],
    ['rdb_current_bgsave_time_sec', status.checkpointing ? 0 : -1],
    ['damaged_streams', engine.damaged.count],
    ['rdb_saves', status.checkpoints],
    ['rdb_last_cow_size', 0],
    ['rdb_last_load_keys_expired', 0],
    ['rdb_last_load_keys_loaded', 0],
    ['aof_enabled', persistence.enabled ? 1 : 0],
    ['aof_rewrite_in_progress', 0],
    ['aof_rewrite_scheduled', 0],
    ['aof_last_rewrite_time_sec', seconds(status.lastCheckpointMs)],
    ['aof_current_rewrite_time_sec', -1],
    ['aof_last_bgrewrite_status', ok(status.lastCheckpointFailed)],
    ['aof_rewrites', status.checkpoints],
    ['aof_rewrites_consecutive_failures', status.lastCheckpointFailed ? 1 : 0],
    ['aof_last_write_status', ok(engine.journal.refusal !== null)],
    ['aof_last_cow_size', 0],
    ['module_fork_in_progress', 0],
    ['module_fork_last_cow_size', 0],
  ];
  if (persistence.enabled) {
    const { journal } = engine;
    fields.push(
      ['aof_current_size', status.logBytes],
      ['aof_base_size', 0],
      ['aof_pending_rewrite', 0],
      ['aof_buffer_length', journal.appended - journal.durable],
      ['aof_pending_bio_fsync', journal.appended > journal.durable ? 1 : 0],
      ['aof_delayed_fsync', status.delayedSyncs],
      ['rivulet_disk_stalled_since', Math.floor(status.stalledSince / 1000)],
      ['rivulet_log_position', journal.appended],
      ['rivulet_log_durable', journal.durable],
      ['rivulet_log_frames', status.frames],
    );
  }
  return fields;
}

function seconds(milliseconds: number): number {
  return milliseconds < 0 ? -1 : Math.round(milliseconds / 1000);
}

function statsSection(server: ServerState): Field[] {
  const { statistics, engine } = server;
  let unexpected = 0;
  for (const entry of server.table.entries) unexpected += entry.statistics.failed;
  return [
    ['total_connections_received', statistics.connections],
    ['total_commands_processed', statistics.commands],
    ['instantaneous_ops_per_sec', Math.round(statistics.commandsPerSecond)],
    ['total_net_input_bytes', statistics.inputBytes],
    ['total_net_output_bytes', statistics.outputBytes],
    ['total_net_repl_input_bytes', 0],
    ['total_net_repl_output_bytes', 0],
    ['instantaneous_input_kbps', (statistics.inputPerSecond / 1024).toFixed(2)],
    ['instantaneous_output_kbps', (statistics.outputPerSecond / 1024).toFixed(2)],
    ['instantaneous_input_repl_kbps', '0.00'],
    ['instantaneous_output_repl_kbps', '0.00'],
    ['rejected_connections', statistics.rejectedConnections],
    ['sync_full', 0],
    ['sync_partial_ok', 0],
    ['sync_partial_err', 0],
    ['expired_keys', engine.statistics.expiredKeys],
    ['background_errors', engine.statistics.troubles],
    ['delayed_entries_set_aside', engine.statistics.setAside],
    ['expired_stale_perc', '0.00'],
    ['expired_time_cap_reached_count', 0],
    ['expire_cycle_cpu_milliseconds', 0],
    ['evicted_keys', 0],
    ['evicted_clients', statistics.evictedClients],
    ['total_eviction_exceeded_time', 0],
    ['current_eviction_exceeded_time', 0],
    ['keyspace_hits', engine.statistics.keyspaceHits],
    ['keyspace_misses', engine.statistics.keyspaceMisses],
    ['pubsub_channels', engine.channels.channelCount],
    ['pubsub_patterns', engine.channels.patternCount],
    ['pubsubshard_channels', engine.shardChannels.channelCount],
    ['latest_fork_usec', 0],
    ['total_forks', 0],
    ['migrate_cached_sockets', 0],
    ['slave_expires_tracked_keys', 0],
    ['active_defrag_hits', 0],
    ['active_defrag_misses', 0],
    ['active_defrag_key_hits', 0],
    ['active_defrag_key_misses', 0],
    ['total_active_defrag_time', 0],
    ['current_active_defrag_time', 0],
    ['tracking_total_keys', 0],
    ['tracking_total_items', 0],
    ['tracking_total_prefixes', 0],
    ['unexpected_error_replies', 0],
    ['total_error_replies', statistics.errorReplies],
    ['dump_payload_sanitizations', 0],
    ['total_reads_processed', statistics.reads],
    ['total_writes_processed', statistics.writes],
    ['io_threaded_reads_processed', 0],
    ['io_threaded_writes_processed', 0],
    ['client_query_buffer_limit_disconnections', statistics.queryLimitDisconnections],
    ['client_output_buffer_limit_disconnections', statistics.outputLimitDisconnections],
    ['reply_buffer_shrinks', 0],
    ['reply_buffer_expands', 0],
    ['acl_access_denied_auth', statistics.authDenied],
    ['acl_access_denied_cmd', statistics.aclDeniedCommand],
    ['acl_access_denied_key', statistics.aclDeniedKey],
    ['acl_access_denied_channel', statistics.aclDeniedChannel],
    ['rivulet_failed_commands', unexpected],
    ['rivulet_background_failures', server.failures.count],
  ];
}

function replicationSection(server: ServerState): Field[] {
  return [
    ['role', 'master'],
    ['connected_slaves', 0],
    ['master_failover_state', 'no-failover'],
    ['master_replid', server.runId],
    ['master_replid2', '0'.repeat(40)],
    ['master_repl_offset', 0],
    ['second_repl_offset', -1],
    ['repl_backlog_active', 0],
    ['repl_backlog_size', server.config.number('repl-backlog-size')],
    ['repl_backlog_first_byte_offset', 0],
    ['repl_backlog_histlen', 0],
  ];
}

function cpuSection(): Field[] {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  const shown = (microseconds: number) => (microseconds / 1e6).toFixed(6);
  return [
    ['used_cpu_sys', shown(systemCPUTime)],
    ['used_cpu_user', shown(userCPUTime)],
    ['used_cpu_sys_children', '0.000000'],
    ['used_cpu_user_children', '0.000000'],
    ['rivulet_cpus', cpus().length],
  ];
}

function commandSection(server: ServerState): Field[] {
  return server.table.entries
    .filter(({ statistics: s }) => s.calls + s.rejected + s.failed > 0)
    .map(({ name, statistics: s }) => [
      `cmdstat_${name}`,
      `calls=${s.calls},usec=${Math.round(s.microseconds)},usec_per_call=${(
        s.microseconds / Math.max(1, s.calls)
      ).toFixed(2)},rejected_calls=${s.rejected},failed_calls=${s.failed}`,
    ]);
}

function latencySection(server: ServerState): Field[] {
  if (!server.config.yes('latency-tracking')) return [];
  const shares = server.config
    .get('latency-tracking-info-percentiles')
    .split(/\s+/)
    .filter(Boolean)
    .map(Number);
  return server.table.entries
    .filter(({ statistics: s }) => s.calls > 0)
    .map(({ name, statistics: s }) => [
      `latency_percentiles_usec_${name}`,
      shares.map((share) => `p${share}=${s.percentile(share / 100).toFixed(3)}`).join(','),
    ]);
}

/** Empty while the disk does not answer: a reply that shows how many keys there are would wait for it. */
function keyspaceSection(server: ServerState): Field[] {
  if (server.persistence.status.stalledSince !== 0) return [];
  return server.engine.databases
    .filter(({ size }) => size > 0)
    .map((database) => {
      const expires = database.keyspace.expiring.size;
      return [`db${database.index}`, `keys=${database.size},expires=${expires},avg_ttl=0`];
    });
}

/** `919.08K`, as Redis's bytesToHuman. */
function human(bytes: number): string {
  const units = ['B', 'K', 'M', 'G', 'T', 'P'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes}B` : `${value.toFixed(2)}${units[unit]}`;
}
