/**
 * Every configuration parameter: one row each. Flags, configuration files, CONFIG GET / SET /
 * REWRITE and `micro server --help` all read these rows. Most names and meanings are Redis's.
 *
 * A row marked `inert` is accepted and stored because clients, tools and old configuration files name it,
 * but it has no effect here (replication, RDB files, encodings that do not exist here). The server logs once
 * which of them it was given. Most of them are in config-inert.ts.
 */

import { inertParameters } from './config-inert.ts';
import {
  choice,
  FIXED,
  INERT,
  INERT_FIXED,
  INT,
  integer,
  LLONG,
  memory,
  type Parameter,
  row,
  text,
  UINT,
  ULLONG,
  yesNo,
} from './config-rows.ts';

export { LLONG, type Parameter } from './config-rows.ts';

const network: readonly Parameter[] = [
  integer('port', 7488, 0, 65535, {
    ...FIXED,
    help: 'TCP port of the RESP listener; 0 picks a free one',
  }),
  text('bind', '127.0.0.1', { ...FIXED, help: 'addresses to listen on, separated by spaces' }),
  integer('http-port', 7489, 0, 65535, {
    ...FIXED,
    help: 'port of the console, /healthz, /readyz and /metrics; 0 = off',
  }),
  text('http-bind', '', {
    ...FIXED,
    help: 'address of the HTTP listener (as bind)',
  }),
  yesNo('console', 'yes', {
    ...FIXED,
    help: 'the console on the HTTP port; no = only health and metrics',
  }),
  text('console-host', '', {
    ...FIXED,
    help: 'further host names by which the console may be opened, separated by commas',
  }),
  text('console-mask', '', {
    ...FIXED,
    help: 'what only admins see: json.card,header.authorization',
  }),
  text('console-proto', '', {
    ...FIXED,
    help: 'folder of .proto files with which the console decodes bodies',
  }),
  text('console-proto-types', '', {
    ...FIXED,
    help: 'topic=message type of those files, separated by commas',
  }),
  text('console-trace-url', '', {
    ...FIXED,
    help: 'address of a trace elsewhere, with {traceId} in it',
  }),
  text('unixsocket', '', { ...FIXED, help: 'path of a unix socket to listen on' }),
  integer('unixsocketperm', 0, 0, 777, FIXED),
  yesNo('protected-mode', 'yes', {
    help: 'without a password serve local clients only',
  }),
  integer('tcp-backlog', 511, 0, INT, FIXED),
  integer('timeout', 0, 0, INT, { help: 'seconds after which idle clients are closed; 0 = never' }),
  integer('tcp-keepalive', 300, 0, INT),
  integer('maxclients', 10000, 1, UINT, { help: 'connections served at the same time' }),
  memory('client-query-buffer-limit', 1024 ** 3, { min: 1024 ** 2 }),
  memory('proto-max-bulk-len', 512 * 1024 ** 2, { min: 1024 ** 2 }),
  row(
    'client-output-buffer-limit',
    'special',
    'normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60',
  ),
  memory('maxmemory-clients', 0, { percent: true }),
  integer('metrics-series-limit', 1000, 0, 1_000_000, {
    help: 'streams (and groups) that /metrics lists one by one',
  }),
];

const tls: readonly Parameter[] = [
  integer('tls-port', 0, 0, 65535, { ...FIXED, help: 'TCP port of the TLS listener; 0 = off' }),
  text('tls-cert-file', '', { help: 'certificate (PEM) of the TLS listener' }),
  text('tls-key-file', '', { help: 'its private key (PEM)' }),
  text('tls-key-file-pass'),
  text('tls-ca-cert-file', '', { help: 'authorities that sign client certificates' }),
  text('tls-ca-cert-dir', '', INERT),
  choice('tls-auth-clients', 'yes', ['no', 'yes', 'optional'], FIXED),
  text('tls-protocols'),
  text('tls-ciphers'),
  text('tls-ciphersuites'),
  yesNo('tls-prefer-server-ciphers', 'no'),
  text('tls-dh-params-file', '', INERT),
  yesNo('tls-session-caching', 'yes', INERT),
  integer('tls-session-cache-size', 20480, 0, INT, INERT),
  integer('tls-session-cache-timeout', 300, 0, INT, INERT),
  yesNo('tls-replication', 'no', INERT),
  yesNo('tls-cluster', 'no', INERT),
  text('tls-client-cert-file', '', INERT),
  text('tls-client-key-file', '', INERT),
  text('tls-client-key-file-pass', '', INERT),
];

const durability: readonly Parameter[] = [
  text('dir', './data', { mutable: 'protected', help: 'where log and checkpoint live' }),
  yesNo('appendonly', 'yes', { ...FIXED, help: 'keep a log on disk; no = memory only' }),
  choice('appendfsync', 'always', ['everysec', 'always', 'no'], {
    help: 'when the log reaches the disk: always (before any reply), everysec, no',
  }),
  memory('checkpoint-log-size', 256 * 1024 ** 2, {
    min: 1024 ** 2,
    help: 'log bytes after which a checkpoint starts',
  }),
  memory('log-segment-size', 64 * 1024 ** 2, {
    ...FIXED,
    min: 1024 ** 2,
    help: 'size of one log segment',
  }),
  row('save', 'special', '', { inert: true }),
  text('dbfilename', 'dump.rdb', { mutable: 'protected', ...INERT }),
  text('appendfilename', 'appendonly.aof', INERT_FIXED),
  text('appenddirname', 'appendonlydir', INERT_FIXED),
  yesNo('no-appendfsync-on-rewrite', 'no', INERT),
  integer('auto-aof-rewrite-percentage', 100, 0, INT, INERT),
  memory('auto-aof-rewrite-min-size', 64 * 1024 ** 2, INERT),
  yesNo('aof-load-truncated', 'yes', INERT),
  yesNo('aof-use-rdb-preamble', 'yes', INERT),
  yesNo('aof-timestamp-enabled', 'no', INERT),
  yesNo('aof-rewrite-incremental-fsync', 'yes', INERT),
  yesNo('aof-disable-auto-gc', 'no', INERT),
  yesNo('rdbcompression', 'yes', INERT),
  yesNo('rdbchecksum', 'yes', INERT_FIXED),
  yesNo('rdb-save-incremental-fsync', 'yes', INERT),
  yesNo('rdb-del-sync-files', 'no', INERT),
  yesNo('stop-writes-on-bgsave-error', 'yes', INERT),
  choice('sanitize-dump-payload', 'no', ['no', 'yes', 'clients'], INERT),
  integer('shutdown-timeout', 10, 0, INT, {
    help: 'seconds that SIGTERM waits for replies to leave',
  }),
];

const data: readonly Parameter[] = [
  integer('databases', 16, 1, 1024, { ...FIXED, help: 'numbered databases' }),
  row('maxmemory', 'memory', '0', {
    min: 0,
    max: ULLONG,
    help: 'bytes of memory above which writes are refused and cold blocks leave; 0 = no limit',
  }),
  choice('maxmemory-policy', 'noeviction', ['noeviction'], {
    refusedValues: ['lru', 'lfu', 'lrm', 'random', 'ttl'].flatMap((order) =>
      order === 'ttl' ? ['volatile-ttl'] : [`allkeys-${order}`, `volatile-${order}`],
    ),
    refuse: (value) =>
      value === 'noeviction'
        ? null
        : `'${value}' deletes keys when memory is short, and this server never does: cold blocks of streams leave memory, and writes are refused. Only 'noeviction' is supported`,
    help: 'noeviction: no key is deleted when memory is short',
  }),
  integer('maxmemory-samples', 5, 1, 64, INERT),
  integer('maxmemory-eviction-tenacity', 10, 0, 100, INERT),
  memory('stream-node-max-bytes', 4096, { help: 'bytes of one node of a stream, as Redis counts' }),
  integer('stream-node-max-entries', 100, 0, LLONG, { help: 'entries of one node of a stream' }),
  integer('stream-idmp-duration', 100, 1, 86400, {
    help: 'seconds for which an idempotent id is remembered',
  }),
  integer('stream-idmp-maxsize', 100, 1, 10000, {
    help: 'idempotent ids remembered for each producer',
  }),
  row('notify-keyspace-events', 'special', '', {
    help: 'events of keys that are published: K and/or E, and classes (A for most)',
  }),
  integer('hz', 10, 0, INT, { ...INERT, clamp: [1, 500] }),
  yesNo('dynamic-hz', 'yes', INERT),
  integer('active-expire-effort', 1, 1, 10, INERT),
  yesNo('activerehashing', 'yes', INERT),
  yesNo('activedefrag', 'no', INERT),
  ...(['eviction', 'expire', 'server-del', 'user-del', 'user-flush'] as const).map((what) =>
    yesNo(`lazyfree-lazy-${what}`, 'no', INERT),
  ),
  integer('hash-max-listpack-entries', 512, 0, LLONG, {
    ...INERT,
    alias: 'hash-max-ziplist-entries',
  }),
  memory('hash-max-listpack-value', 64, { ...INERT, alias: 'hash-max-ziplist-value' }),
  integer('list-max-listpack-size', -2, -INT - 1, INT, {
    ...INERT,
    alias: 'list-max-ziplist-size',
  }),
  integer('list-compress-depth', 0, 0, INT, INERT),
  integer('set-max-intset-entries', 512, 0, LLONG, INERT),
  integer('zset-max-listpack-entries', 128, 0, LLONG, {
    ...INERT,
    alias: 'zset-max-ziplist-entries',
  }),
  memory('zset-max-listpack-value', 64, { ...INERT, alias: 'zset-max-ziplist-value' }),
  memory('hll-sparse-max-bytes', 3000, INERT),
  integer('tracking-table-max-keys', 1_000_000, 0, LLONG, INERT),
];

const operation: readonly Parameter[] = [
  choice('loglevel', 'notice', ['debug', 'verbose', 'notice', 'warning', 'nothing'], {
    help: 'debug, verbose, notice or warning',
  }),
  text('logfile', '', { ...FIXED, help: 'file for the log; empty = standard error' }),
  integer('slowlog-log-slower-than', 10000, -1, LLONG, {
    help: 'microseconds; commands that take longer are kept in SLOWLOG',
  }),
  integer('slowlog-max-len', 128, 0, LLONG),
  integer('latency-monitor-threshold', 0, 0, LLONG),
  yesNo('latency-tracking', 'yes'),
  row('latency-tracking-info-percentiles', 'special', '50 99 99.9'),
  text('pidfile', '', { ...FIXED, help: 'file that holds the id of the process while it runs' }),
  yesNo('daemonize', 'no', { ...FIXED, help: 'yes = run in the background' }),
  ...(['shutdown-on-sigterm', 'shutdown-on-sigint'] as const).map((name) =>
    row(name, 'special', 'default'),
  ),
  choice('supervised', 'no', ['no', 'auto', 'systemd', 'upstart'], INERT_FIXED),
  choice('enable-debug-command', 'no', ['no', 'yes', 'local'], FIXED),
  choice('enable-protected-configs', 'no', ['no', 'yes', 'local'], FIXED),
  choice('enable-module-command', 'no', ['no', 'yes', 'local'], INERT_FIXED),
  yesNo('always-show-logo', 'no', INERT_FIXED),
  yesNo('set-proc-title', 'yes', INERT_FIXED),
  text('proc-title-template', '{title} {listen-addr} {server-mode}', INERT),
  yesNo('crash-log-enabled', 'yes', INERT),
  yesNo('crash-memcheck-enabled', 'yes', INERT),
  yesNo('syslog-enabled', 'no', INERT_FIXED),
  text('syslog-ident', 'redis', INERT_FIXED),
  integer('lua-time-limit', 5000, 0, LLONG, { ...INERT, alias: 'busy-reply-threshold' }),
  integer('io-threads', 1, 1, 128, INERT_FIXED),
  yesNo('io-threads-do-reads', 'no', INERT_FIXED),
  choice('oom-score-adj', 'no', ['no', 'yes', 'relative', 'absolute'], INERT),
  row('oom-score-adj-values', 'special', '0 200 800', INERT),
  yesNo('disable-thp', 'yes', INERT_FIXED),
  text('ignore-warnings', '', INERT),
];

const access: readonly Parameter[] = [
  text('requirepass', '', { help: 'password of the default user' }),
  text('aclfile', '', { ...FIXED, help: 'file of users, as ACL SAVE writes it' }),
  integer('acllog-max-len', 128, 0, LLONG),
  choice('acl-pubsub-default', 'resetchannels', ['allchannels', 'resetchannels']),
];

/** Parameters whose other values would promise replicas or cluster nodes that this server does not have. */
const elsewhere: readonly Parameter[] = [
  row('replicaof', 'special', '', {
    ...FIXED,
    alias: 'slaveof',
    refuse: (value) =>
      value === ''
        ? null
        : 'this server cannot be a replica: it would accept writes that its master does not have',
  }),
  integer('min-replicas-to-write', 0, 0, INT, {
    alias: 'min-slaves-to-write',
    refuse: (value) =>
      value === '0' ? null : 'this server has no replicas, so each write would have to be refused',
  }),
  yesNo('cluster-enabled', 'no', {
    ...FIXED,
    refuse: (value) => (value === 'no' ? null : 'this server cannot be a node of a cluster'),
  }),
];

export const PARAMETERS: readonly Parameter[] = [
  ...network,
  ...durability,
  ...data,
  ...access,
  ...tls,
  ...operation,
  ...elsewhere,
  ...inertParameters,
];
