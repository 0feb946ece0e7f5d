/**
 * Parameters of Redis that have no effect here: what they tune (replication, cluster, RDB files, value
 * types, an allocator, threads) does not exist in this server. They are accepted, so that a stock
 * redis.conf starts it, and shown by CONFIG GET.
 */
import {
  choice,
  INERT,
  INERT_FIXED,
  INT,
  integer,
  LLONG,
  memory,
  type Parameter,
  text,
  UINT,
  ULLONG,
  yesNo,
} from './config-rows.ts';

const replication: readonly Parameter[] = [
  text('masterauth', '', INERT),
  text('masteruser', '', INERT),
  yesNo('replica-serve-stale-data', 'yes', { ...INERT, alias: 'slave-serve-stale-data' }),
  yesNo('replica-read-only', 'yes', { ...INERT, alias: 'slave-read-only' }),
  yesNo('replica-announced', 'yes', INERT),
  text('replica-announce-ip', '', { ...INERT, alias: 'slave-announce-ip' }),
  integer('replica-announce-port', 0, 0, 65535, { ...INERT, alias: 'slave-announce-port' }),
  yesNo('replica-ignore-maxmemory', 'yes', { ...INERT, alias: 'slave-ignore-maxmemory' }),
  yesNo('replica-ignore-disk-write-errors', 'no', INERT),
  yesNo('replica-lazy-flush', 'no', { ...INERT, alias: 'slave-lazy-flush' }),
  integer('replica-priority', 100, 0, INT, { ...INERT, alias: 'slave-priority' }),
  memory('replica-full-sync-buffer-limit', 0, INERT),
  integer('min-replicas-max-lag', 10, 0, INT, { ...INERT, alias: 'min-slaves-max-lag' }),
  memory('repl-backlog-size', 1024 ** 2, { ...INERT, min: 1 }),
  integer('repl-backlog-ttl', 3600, 0, LLONG, INERT),
  integer('repl-timeout', 60, 1, INT, INERT),
  integer('repl-ping-replica-period', 10, 1, INT, { ...INERT, alias: 'repl-ping-slave-period' }),
  yesNo('repl-diskless-sync', 'yes', INERT),
  integer('repl-diskless-sync-delay', 5, 0, INT, INERT),
  integer('repl-diskless-sync-max-replicas', 0, 0, INT, INERT),
  choice(
    'repl-diskless-load',
    'disabled',
    ['disabled', 'on-empty-db', 'swapdb', 'flush-before-load'],
    INERT,
  ),
  yesNo('repl-disable-tcp-nodelay', 'no', INERT),
  yesNo('repl-rdb-channel', 'no', INERT),
  choice('propagation-error-behavior', 'ignore', ['ignore', 'panic', 'panic-on-replicas'], INERT),
];

const cluster: readonly Parameter[] = [
  text('cluster-config-file', 'nodes.conf', INERT_FIXED),
  integer('cluster-node-timeout', 15000, 0, LLONG, INERT),
  integer('cluster-port', 0, 0, 65535, INERT_FIXED),
  yesNo('cluster-require-full-coverage', 'yes', INERT),
  integer('cluster-migration-barrier', 1, 0, INT, INERT),
  yesNo('cluster-allow-replica-migration', 'yes', INERT),
  integer('cluster-replica-validity-factor', 10, 0, INT, {
    ...INERT,
    alias: 'cluster-slave-validity-factor',
  }),
  yesNo('cluster-replica-no-failover', 'no', { ...INERT, alias: 'cluster-slave-no-failover' }),
  yesNo('cluster-allow-reads-when-down', 'no', INERT),
  yesNo('cluster-allow-pubsubshard-when-down', 'yes', INERT),
  memory('cluster-link-sendbuf-limit', 0, { ...INERT, max: ULLONG }),
  text('cluster-announce-ip', '', INERT),
  text('cluster-announce-hostname', '', INERT),
  text('cluster-announce-human-nodename', '', INERT),
  integer('cluster-announce-port', 0, 0, 65535, INERT),
  integer('cluster-announce-tls-port', 0, 0, 65535, INERT),
  integer('cluster-announce-bus-port', 0, 0, 65535, INERT),
  choice('cluster-preferred-endpoint-type', 'ip', ['ip', 'hostname', 'unknown-endpoint'], INERT),
  yesNo('cluster-slot-stats-enabled', 'no', INERT_FIXED),
  integer('cluster-compatibility-sample-ratio', 0, 0, 100, INERT),
];

const process: readonly Parameter[] = [
  yesNo('jemalloc-bg-thread', 'yes', INERT),
  integer('active-defrag-threshold-lower', 10, 0, 1000, INERT),
  integer('active-defrag-threshold-upper', 100, 0, 1000, INERT),
  memory('active-defrag-ignore-bytes', 100 * 1024 ** 2, { ...INERT, min: 1 }),
  integer('active-defrag-cycle-min', 1, 1, 99, INERT),
  integer('active-defrag-cycle-max', 25, 1, 99, INERT),
  integer('active-defrag-max-scan-fields', 1000, 1, LLONG, INERT),
  integer('lfu-log-factor', 10, 0, INT, INERT),
  integer('lfu-decay-time', 1, 0, INT, INERT),
  integer('set-max-listpack-entries', 128, 0, LLONG, INERT),
  integer('set-max-listpack-value', 64, 0, LLONG, INERT),
  text('server-cpulist', '', { ...INERT_FIXED, alias: 'server_cpulist' }),
  text('bio-cpulist', '', { ...INERT_FIXED, alias: 'bio_cpulist' }),
  text('aof-rewrite-cpulist', '', { ...INERT_FIXED, alias: 'aof_rewrite_cpulist' }),
  text('bgsave-cpulist', '', { ...INERT_FIXED, alias: 'bgsave_cpulist' }),
  text('locale-collate', '', INERT),
  text('bind-source-addr', '', INERT),
  integer('socket-mark-id', 0, 0, UINT, INERT_FIXED),
  integer('max-new-connections-per-cycle', 10, 1, 1000, INERT),
  integer('max-new-tls-connections-per-cycle', 1, 1, 1000, INERT),
  yesNo('hide-user-data-from-log', 'no', INERT),
  choice(
    'syslog-facility',
    'local0',
    ['user', ...Array.from({ length: 8 }, (_, n) => `local${n}`)],
    INERT_FIXED,
  ),
  integer('lookahead', 16, 1, INT, INERT),
  yesNo('vset-force-single-threaded-execution', 'no', INERT),
];

export const inertParameters: readonly Parameter[] = [...replication, ...cluster, ...process];

/** Parameters of the modules that Redis 8 includes: `search-on-timeout`, `ts-retention-policy`. */
export const MODULE_PARAMETER = /^(search|ts|bf|cf)-[a-z-]+$/;
